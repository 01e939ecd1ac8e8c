// The page: lists of studies, series and instances, and what opens when one is chosen.

import { ask, askJson, date, downloadFile, hasToken, instancePath, number, pathOf, setToken, text } from "./dicomweb.js";
import { openPlayer } from "./player.js";
import { openSlide } from "./slide.js";

const main = document.getElementById("main");
const trail = document.getElementById("trail");
const search = document.getElementById("search");
const PAGE = 60;
let close = () => {};
let generation = 0;

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== "" && child != null));
  return element;
}

// Thumbnails are asked for when they come into sight.
const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    ask(target.dataset.path, "image/jpeg, image/png")
      .then((response) => response.blob())
      .then((blob) => {
        const picture = make("img", { class: "thumb", alt: "", src: URL.createObjectURL(blob) });
        picture.onload = () => URL.revokeObjectURL(picture.src);
        target.replaceWith(picture);
      })
      .catch(() => { target.textContent = "no picture"; });
  }
}, { root: main, rootMargin: "300px" });

function thumbnail(path) {
  const place = make("div", { class: "thumb", "data-path": path });
  observer.observe(place);
  return place;
}

function studyLink(uid) {
  return `#/study/${encodeURIComponent(uid)}`;
}

function card(href, path, title, ...lines) {
  const words = make("div", {}, make("b", { title }, title), ...lines.filter(Boolean).map((line) => make("span", { title: line }, line)));
  return make("a", { class: "card", href }, thumbnail(path), words);
}

function counted(count, noun) {
  return `${count.toLocaleString()} ${noun}${count === 1 || noun === "series" ? "" : "s"}`;
}

function show(...content) {
  main.className = "";
  main.replaceChildren(...content);
  main.scrollTop = 0;
}

function setTrail(...steps) {
  trail.replaceChildren(...steps.flatMap(([title, href], at) => [at ? " / " : "", href ? make("a", { href }, title) : title]));
  document.title = ["mmindex", ...steps.map(([title]) => title)].join(" – ");
}

async function showStudies(mine) {
  setTrail();
  const grid = make("div", { class: "grid" });
  const more = make("button", { class: "more", hidden: true }, "More studies");
  const words = search.value.trim().replace(/[*?]/g, "");
  const queries = words
    ? ["PatientName", "PatientID", "StudyDescription"].map((name) => `&${name}=${encodeURIComponent(`*${words}*`)}`)
    : [""];
  const seen = new Set();
  let offset = 0;
  async function load() {
    more.hidden = true;
    const pages = await Promise.all(queries.map((query) => askJson(`/studies?limit=${PAGE}&offset=${offset}${query}`)));
    if (mine !== generation) return;
    for (const study of pages.flat()) {
      const uid = text(study, "0020000D");
      if (!uid || seen.has(uid)) continue;
      seen.add(uid);
      grid.append(card(
        studyLink(uid), `${pathOf(uid)}/thumbnail`,
        text(study, "00100010") || text(study, "00100020") || "No name",
        [date(text(study, "00080020")), (study["00080061"].Value ?? []).join(", ")].filter(Boolean).join(" · "),
        text(study, "00081030"),
        `${counted(number(study, "00201206"), "series")}, ${counted(number(study, "00201208"), "instance")}`,
      ));
    }
    offset += PAGE;
    more.hidden = !pages.some((page) => page.length === PAGE);
    if (!seen.size) grid.replaceWith(note(words ? "No study matches." : "The archive has no studies."));
  }
  more.addEventListener("click", () => load().catch(fail));
  show(grid, more);
  await load();
}

async function showStudy(mine, study) {
  const found = await askJson(`${pathOf(study)}/series?includefield=PatientName,StudyDescription,StudyDate`);
  if (mine !== generation) return;
  const name = text(found[0], "00100010") || "Study";
  setTrail([`${name} ${date(text(found[0], "00080020"))}`]);
  found.sort((a, b) => number(a, "00200011") - number(b, "00200011"));
  const sections = found.map((series) => {
    const uid = text(series, "0020000E");
    const count = number(series, "00201209");
    const grid = make("div", { class: "grid small" });
    const title = [text(series, "00080060"), text(series, "0008103E")].filter(Boolean).join(" · ") || "Series";
    fillSeries(grid, study, uid).catch((error) => grid.replaceWith(note(error.message)));
    return [make("h2", {}, `${title} `, make("small", {}, counted(count, "instance"))), grid];
  });
  show(...sections.flat());
}

async function fillSeries(grid, study, series) {
  const instances = await listInstances(study, series);
  const stack = isStack(instances);
  const shown = stack ? [instances[instances.length >> 1]] : instances;
  let at = 0;
  function add() {
    for (const one of shown.slice(at, at + PAGE)) {
      const frames = number(one, "00280008");
      const size = frames ? `${number(one, "00280011")} × ${number(one, "00280010")}` : "no image";
      const title = stack ? counted(instances.length, "image") : frames > 1 ? counted(frames, "frame") : `Instance ${text(one, "00200013") || "1"}`;
      const href = `#/view${instancePath(stack ? instances[0] : one)}`;
      const path = `${instancePath(one)}/thumbnail`;
      grid.append(card(href, path, title, size));
    }
    at += PAGE;
    if (at < shown.length) {
      const more = make("button", { class: "more", onclick: () => { more.remove(); add(); } }, "More");
      grid.append(more);
    }
  }
  add();
}

async function listInstances(study, series) {
  const found = await askJson(`${pathOf(study, series)}/instances`);
  return found.sort((a, b) => number(a, "00200013") - number(b, "00200013"));
}

// Many images of one frame each are scrolled through like the frames of one.
function isStack(instances) {
  return instances.length > 1 && instances.every((one) => number(one, "00280008") === 1);
}

async function showInstance(mine, study, series, uid, frame) {
  setTrail(["Study", studyLink(study)], ["…"]);
  const path = pathOf(study, series, uid);
  const [[header], instances] = await Promise.all([askJson(`${path}/metadata`), listInstances(study, series)]);
  if (mine !== generation) return;
  const name = [text(header, "00100010"), text(header, "0008103E")].filter(Boolean).join(" · ");
  setTrail(["Study", studyLink(study)], [name || text(header, "00080060") || "Instance"]);
  main.className = "full";
  const isSlide = number(header, "00480006") > 0 && number(header, "00280008") > 1;
  const isHeaded = instances.some((one) => text(one, "00080018") === uid && number(one, "00280008") > 0);
  if (!isHeaded) {
    main.className = "";
    show(note(explainNoImage(header), path));
    return;
  }
  const stack = isStack(instances) ? instances.map(instancePath) : null;
  if (!isSlide || frame !== null) {
    close = openPlayer(main, { header, path, stack, frame: frame ?? 1 });
    return;
  }
  try {
    close = await openSlide(main, { header, path, instances });
  } catch (error) {
    if (mine !== generation) return;
    show(make("div", { class: "note", role: "status" }, `This cannot be shown as a map: ${error.message}. `, make("a", { class: "button", href: `#/view${path}/frames/1` }, "Tiles one by one")));
  }
}

function explainNoImage(header) {
  const kind = text(header, "00080060") || "this kind of";
  if (/\.4\.10[0-8]/.test(text(header, "00083002"))) return "This is a video stream, which this page does not play. Its file can be downloaded as stored.";
  return `There is no image in this ${kind} object: it cannot be shown here. Its file can be downloaded as stored.`;
}

function note(message, path) {
  const children = [message];
  if (path) {
    const button = make("button", { onclick: () => downloadFile(path).catch(fail) }, "Download");
    children.push(make("br"), button);
  }
  return make("div", { class: "note", role: "status" }, ...children);
}

function fail(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    const field = make("input", { type: "password", "aria-label": "Token", autocomplete: "off" });
    const go = () => { setToken(field.value.trim()); route(); };
    field.addEventListener("keydown", (event) => event.key === "Enter" && go());
    const why = hasToken() ? "This is not the token of this server. " : "This server needs a token. ";
    show(make("div", { class: "note" }, why, field, " ", make("button", { onclick: go }, "Go on")));
    return;
  }
  const gone = error.status === 410 ? " The file changed or was removed after it was indexed." : "";
  show(note(`This cannot be shown: ${error.message}.${gone}`));
}

async function showRoute(mine, study, view) {
  const uids = (study ?? view ?? []).slice(1, 4).map(decodeURIComponent);
  if (study) await showStudy(mine, ...uids);
  else if (view) await showInstance(mine, ...uids, view[4] ? Number(view[4]) : null);
  else await showStudies(mine);
}

function route() {
  close();
  close = () => {};
  generation += 1;
  const mine = generation;
  const hash = location.hash.replace(/^#/, "") || "/";
  const study = /^\/study\/([^/]+)$/.exec(hash);
  const view = /^\/view\/studies\/([^/]+)\/series\/([^/]+)\/instances\/([^/]+)(?:\/frames\/(\d+))?$/.exec(hash);
  search.hidden = Boolean(study || view);
  showRoute(mine, study, view).catch((error) => mine === generation && fail(error));
}

let typing;
search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(route, 300); });
addEventListener("hashchange", route);
route();
