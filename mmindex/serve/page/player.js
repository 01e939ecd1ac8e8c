// The player: the frames of an instance, or a stack of images, on a canvas.

import { PictureCache, download, downloadFile, items, number, text } from "./dicomweb.js";
import { make } from "./viewer.js";

const AHEAD = 12; // frames that are loaded before they are shown
const CACHE_PIXELS = 6e7;
const STILL_AFTER = 150; // milliseconds without a move, after which the exact picture is loaded

// Milliseconds from each frame to the next one: Frame Time Vector, else one time for all.
function frameTimes(header, count) {
  const vector = items(header, "00181065").map(Number);
  if (vector.length === count && count > 1 && vector.slice(1).every((time) => time > 0)) {
    const mean = vector.slice(1).reduce((sum, time) => sum + time, 0) / (count - 1);
    return (index) => vector[index + 1] ?? mean;
  }
  const rate = number(header, "00082144") || number(header, "00180040");
  const time = number(header, "00181063");
  const same = rate > 0 ? 1000 / rate : time > 0 ? time : 1000 / 15;
  return () => same;
}

// Center and width from the header, else from the range of stored values.
function fileWindow(header) {
  const shared = items(header, "52009229")[0];
  const first = items(header, "52009230")[0];
  for (const where of [header, items(shared, "00289132")[0], items(first, "00289132")[0]]) {
    if (number(where, "00281051") > 0) return [number(where, "00281050"), number(where, "00281051")];
  }
  const bits = number(header, "00280101") || 8;
  return [number(header, "00280103") ? 0 : 2 ** (bits - 1), 2 ** bits];
}

export function openPlayer(main, { header, path, stack, frame }) {
  const paths = stack ?? [path];
  const perInstance = stack ? 1 : Math.max(1, number(header, "00280008"));
  const count = stack ? stack.length : perInstance;
  const isGray = text(header, "00280004").startsWith("MONOCHROME");
  const cache = new PictureCache(CACHE_PIXELS);
  const timeAfter = frameTimes(header, count);
  let at = stack ? Math.max(0, stack.indexOf(path)) : Math.min(count, frame) - 1;
  let window_ = null; // as in the file, until it is dragged
  let zoom = 1, left = 0, top = 0;
  let shown = null, isExact = false, playing = 0, stillTimer = 0, shownAt = -1, broken = "";
  let following = false; // whether a window is being dragged: one picture is on its way at a time

  const canvas = make("canvas", { "aria-label": "Frame" });
  const what = make("p", { class: "what" });
  const state = make("p", { class: "state" });
  const trouble = make("p", { class: "trouble", role: "alert" });
  const stage = make("div", { class: "stage" }, canvas, what, state, trouble);
  const slider = make("input", { type: "range", min: 1, max: count, value: at + 1, "aria-label": "Frame" });
  const field = make("input", { type: "number", min: 1, max: count, value: at + 1, "aria-label": "Frame number" });
  const play = make("button", { onclick: () => toggle(), title: "Space" }, "Play");
  const total = make("span", { class: "soft" }, `of ${count.toLocaleString()}`);
  const bar = make(
    "div", { class: "bar" }, play, slider, field, total,
    make("button", { onclick: () => fit(), title: "0" }, "Fit"),
    make("button", { onclick: () => actual(), title: "1" }, "1:1"),
    make("button", { onclick: () => setWindow(null), title: "W", hidden: !isGray }, "Window"),
    make("button", { onclick: (event) => copyLink(event.target) }, "Link"),
    make("button", { onclick: () => save("frame") }, "Frame"),
    make("button", { onclick: () => save("file") }, "File"),
  );
  play.hidden = slider.hidden = field.hidden = total.hidden = count < 2;
  main.replaceChildren(make("div", { class: "player" }, stage, bar));
  const context = canvas.getContext("2d");
  const title = [text(header, "00100010"), text(header, "0008103E") || text(header, "00081030")].filter(Boolean);
  what.textContent = [...title, isGray ? "" : "colour: no window"].filter(Boolean).join("\n");

  function placeOf(index) {
    return stack ? [paths[index], 1] : [path, index + 1];
  }

  function keyOf(index, exact) {
    return `${index}|${window_ ?? "file"}|${exact}`;
  }

  function load(index, exact) {
    const [where, frameNumber] = placeOf(index);
    const query = window_ ? `?window=${window_.map((value) => value.toFixed(2)).join(",")},linear` : "";
    return cache.load(keyOf(index, exact), `${where}/frames/${frameNumber}/rendered${query}`, exact ? "image/png" : "image/jpeg");
  }

  function best(index) {
    const exact = cache.get(keyOf(index, true));
    return [exact ?? cache.get(keyOf(index, false)), Boolean(exact)];
  }

  async function refresh(exact = false) {
    const wanted = at;
    const key = keyOf(at, exact);
    keepWanted();
    try {
      const [known] = best(wanted);
      const picture = !known || exact ? await load(wanted, exact) : known;
      if (wanted !== at || (key !== keyOf(at, exact) && !following)) return;
      broken = "";
      [shown, isExact] = key === keyOf(at, exact) ? best(wanted) : [picture, false];
      shownAt = wanted;
    } catch (error) {
      if (error.name === "AbortError" || wanted !== at) return;
      broken = `Frame ${wanted + 1} cannot be shown: ${error.message}`;
      shown = null;
      shownAt = wanted;
    }
    draw();
    if (!exact && !following) for (const index of neighbours()) if (!best(index)[0]) load(index, false).catch(() => {});
  }

  function neighbours() {
    const wanted = new Set();
    for (let step = 0; step <= AHEAD; step += 1) wanted.add(playing ? (at + step) % count : Math.min(count - 1, at + step));
    if (!playing) wanted.add(Math.max(0, at - 1));
    return wanted;
  }

  // Other frames and other windows are not loaded any more.
  function keepWanted() {
    const wanted = new Set([keyOf(at, true), keyOf(at, false)]);
    if (!following) for (const index of neighbours()) wanted.add(keyOf(index, false));
    cache.keepOnly((key) => wanted.has(key));
  }

  function moveTo(index) {
    at = Math.max(0, Math.min(count - 1, index));
    slider.value = field.value = at + 1;
    clearTimeout(stillTimer);
    refresh();
    if (!playing) stillTimer = setTimeout(() => { refresh(true); remember(); }, STILL_AFTER);
  }

  function remember() {
    const [where, frameNumber] = placeOf(at);
    history.replaceState(null, "", `#/view${where}/frames/${frameNumber}`);
  }

  function toggle() {
    if (playing) {
      cancelAnimationFrame(playing);
      playing = 0;
      play.textContent = "Play";
      moveTo(at);
      return;
    }
    play.textContent = "Pause";
    let last = performance.now();
    const step = (now) => {
      playing = requestAnimationFrame(step);
      const time = timeAfter(at);
      if (now - last < time || shownAt !== at) return;
      last = Math.max(last + time, now - time);
      moveTo((at + 1) % count);
    };
    playing = requestAnimationFrame(step);
  }

  function scale() {
    return shown ? zoom * Math.min(canvas.width / shown.width, canvas.height / shown.height) : 1;
  }

  function draw() {
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(stage.clientWidth * ratio), Math.round(stage.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      Object.assign(canvas.style, { width: `${width / ratio}px`, height: `${height / ratio}px` });
    }
    context.clearRect(0, 0, width, height);
    trouble.textContent = broken;
    canvas.dataset.frame = shownAt + 1;
    canvas.dataset.exact = isExact;
    if (!shown) return;
    const factor = scale();
    context.imageSmoothingEnabled = factor < 0.999;
    const x = Math.round((width - shown.width * factor) / 2 + left * ratio);
    const y = Math.round((height - shown.height * factor) / 2 + top * ratio);
    context.drawImage(shown, x, y, Math.round(shown.width * factor), Math.round(shown.height * factor));
    const size = `${shown.width} × ${shown.height}  ${Math.round(factor * 100)} %`;
    state.textContent = [`${at + 1} / ${count}`, size, window_ ? `C ${window_[0].toFixed(0)} W ${window_[1].toFixed(0)}` : "", isExact ? "" : "preview"].filter(Boolean).join("   ");
  }

  function fit() { zoom = 1; left = top = 0; draw(); }

  function actual() { zoom /= scale(); left = top = 0; draw(); }

  function zoomBy(factor) { zoom = Math.max(0.1, Math.min(64, zoom * factor)); draw(); }

  function setWindow(pair) {
    window_ = pair;
    moveTo(at);
  }

  // While a window is dragged, the next picture is asked for when the one before is there.
  async function dragWindow(pair) {
    window_ = pair;
    clearTimeout(stillTimer);
    if (following) return;
    following = true;
    let last;
    while (last !== window_) {
      last = window_;
      await refresh();
    }
    following = false;
    if (!playing) stillTimer = setTimeout(() => refresh(true), STILL_AFTER);
  }

  async function copyLink(button) {
    remember();
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      button.textContent = "In the address bar";
    }
    setTimeout(() => { button.textContent = "Link"; }, 1500);
  }

  function save(kind) {
    const [where, frameNumber] = placeOf(at);
    const name = where.split("/").pop();
    const done = kind === "file"
      ? downloadFile(where)
      : download(`${where}/frames/${frameNumber}`, "image/*, application/octet-stream; transfer-syntax=*", `${name}-${frameNumber}`);
    done.catch((error) => { trouble.textContent = error.message; });
  }

  slider.addEventListener("input", () => moveTo(Number(slider.value) - 1));
  field.addEventListener("change", () => moveTo(Number(field.value) - 1));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey || count < 2) zoomBy(Math.exp(-event.deltaY / 400));
    else moveTo(at + Math.sign(event.deltaY));
  }, { passive: false });
  stage.addEventListener("dblclick", fit);
  stage.addEventListener("contextmenu", (event) => event.preventDefault());

  const pointers = new Map();
  let spread = 0;
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    spread = 0;
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size > 1) {
      const [[ax, ay], [bx, by]] = [...pointers.values()];
      const now = Math.hypot(ax - bx, ay - by);
      if (spread) zoomBy(now / spread);
      spread = now;
    }
    if (pointers.size > 1 || event.shiftKey || event.buttons & 6 || !isGray) {
      left += dx / pointers.size;
      top += dy / pointers.size;
      draw();
    } else {
      const [center, width] = window_ ?? fileWindow(header);
      const step = Math.max(1, width) / 300;
      dragWindow([center + dy * step, Math.max(1, width + dx * step)]);
    }
  });
  const lift = (event) => {
    pointers.delete(event.pointerId);
    if (window_ && !pointers.size) moveTo(at); // now its neighbours, too
  };
  stage.addEventListener("pointerup", lift);
  stage.addEventListener("pointercancel", lift);

  const KEYS = {
    ArrowLeft: () => moveTo(at - 1), ArrowUp: () => moveTo(at - 1), PageUp: () => moveTo(at - 10),
    ArrowRight: () => moveTo(at + 1), ArrowDown: () => moveTo(at + 1), PageDown: () => moveTo(at + 10),
    Home: () => moveTo(0), End: () => moveTo(count - 1), " ": () => count > 1 && toggle(),
    "+": () => zoomBy(1.25), "-": () => zoomBy(0.8), 0: fit, 1: actual, w: () => setWindow(null),
    Escape: () => { location.hash = `#/study/${path.split("/")[2]}`; },
  };
  function onKey(event) {
    const { tagName, type } = event.target;
    if (tagName === "INPUT" && type !== "range") return;
    if (/^(BUTTON|A)$/.test(tagName) && /^( |Enter)$/.test(event.key)) return; // they are pressed
    const action = KEYS[event.key];
    if (!action || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    action();
  }
  addEventListener("keydown", onKey);
  const resized = new ResizeObserver(draw);
  resized.observe(stage);
  moveTo(at);
  return () => {
    cancelAnimationFrame(playing);
    clearTimeout(stillTimer);
    removeEventListener("keydown", onKey);
    resized.disconnect();
    cache.clear();
  };
}
