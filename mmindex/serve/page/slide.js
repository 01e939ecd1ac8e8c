// A slide: the tiles of a pyramid's levels on a canvas that zooms and pans like a map.

import { PictureCache, askJson, downloadFile, instancePath, items, number, text } from "./dicomweb.js";
import { make } from "./viewer.js";

const CACHE_PIXELS = 4e7;
const MOST_PENDING = 24;

// One instance of the pyramid, or a part of one (a concatenation): where each of its tiles lies.
class Level {
  constructor(header, path) {
    this.path = path;
    this.width = number(header, "00480006");
    this.height = number(header, "00480007");
    this.tileWidth = number(header, "00280011");
    this.tileHeight = number(header, "00280010");
    this.columns = Math.ceil(this.width / this.tileWidth);
    this.rows = Math.ceil(this.height / this.tileHeight);
    this.frames = number(header, "00280008");
    this.first = number(header, "00209228"); // frames of the parts before (PS3.3 C.7.6.16)
    this.concatenation = text(header, "00209161");
    this.others = []; // further parts of the same concatenation
    this.places = text(header, "00209311") === "TILED_FULL" ? null : this.readPlaces(header);
  }

  // TILED_SPARSE: each frame says where it lies (PS3.3 C.8.12.14), from 1 on; the first plane counts.
  readPlaces(header) {
    const places = new Map();
    items(header, "52009230").forEach((group, index) => {
      const position = items(group, "0048021A")[0];
      const column = (number(position, "0048021E") - 1) / this.tileWidth;
      const row = (number(position, "0048021F") - 1) / this.tileHeight;
      const key = Math.round(row) * this.columns + Math.round(column);
      if (position && !places.has(key)) places.set(key, index + 1);
    });
    if (!places.size) throw new Error("its tiles have no positions, so that no map can be drawn of them");
    return places;
  }

  // The path of the instance with a tile, and the number of its frame there.
  find(row, column) {
    const tile = row * this.columns + column;
    const frame = this.places ? this.places.get(tile) : tile - this.first + 1;
    if (frame >= 1 && frame <= this.frames) return [this.path, frame];
    for (const other of this.others) {
      const found = other.find(row, column);
      if (found) return found;
    }
    return null;
  }
}

function readLevel(header, path) {
  try {
    return [new Level(header, path)];
  } catch {
    return []; // one without positions is left out
  }
}

// Parts of a concatenation are one level.
function joinParts(levels) {
  const joined = [];
  for (const level of levels) {
    const whole = level.concatenation && joined.find((one) => one.concatenation === level.concatenation);
    if (whole) whole.others.push(level);
    else joined.push(level);
  }
  return joined;
}

async function readLevels(header, path, instances) {
  const own = new Level(header, path);
  const kind = items(header, "00080008")[2];
  const others = instances.filter((one) => instancePath(one) !== path && number(one, "00280008") > 0).slice(0, 30);
  const headers = await Promise.all(others.map((one) => askJson(`${instancePath(one)}/metadata`).catch(() => [])));
  const levels = headers.flatMap(([other], at) => {
    const isLevel = other && number(other, "00480006") > 0 && items(other, "00080008")[2] === kind;
    return isLevel && text(other, "00200052") === text(header, "00200052") ? readLevel(other, instancePath(others[at])) : [];
  });
  return joinParts([own, ...levels]).sort((a, b) => b.width - a.width);
}

export async function openSlide(main, { header, path, instances }) {
  const levels = await readLevels(header, path, instances);
  const [whole] = levels;
  const cache = new PictureCache(CACHE_PIXELS);
  const failed = new Map();
  const canvas = make("canvas", { "aria-label": "Slide" });
  const state = make("p", { class: "state" });
  const trouble = make("p", { class: "trouble", role: "alert" });
  const stage = make("div", { class: "stage" }, canvas, state, trouble);
  const bar = make(
    "div", { class: "bar" },
    make("button", { onclick: () => fit() }, "Fit"),
    make("button", { onclick: () => zoomAt(1 / view.scale / devicePixelRatio) }, "1:1"),
    make("button", { onclick: () => zoomAt(2) }, "+"),
    make("button", { onclick: () => zoomAt(0.5) }, "−"),
    make("a", { class: "button", href: `#/view${path}/frames/1` }, "Tiles"),
    make("button", { onclick: () => downloadFile(path).catch((error) => { trouble.textContent = error.message; }) }, "File"),
    make("span", { class: "soft" }, `${whole.width.toLocaleString()} × ${whole.height.toLocaleString()} pixels, ${levels.length === 1 ? "1 level" : `${levels.length} levels`}`),
  );
  main.replaceChildren(make("div", { class: "player" }, stage, bar));
  const context = canvas.getContext("2d");
  const view = { x: 0, y: 0, scale: 1 }; // of the whole slide's pixels: top left, CSS pixels a pixel
  let queued = 0;

  function fit() {
    view.scale = Math.min(stage.clientWidth / whole.width, stage.clientHeight / whole.height);
    view.x = (whole.width - stage.clientWidth / view.scale) / 2;
    view.y = (whole.height - stage.clientHeight / view.scale) / 2;
    schedule();
  }

  function zoomAt(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const smallest = 0.2 * Math.min(stage.clientWidth / whole.width, stage.clientHeight / whole.height);
    const scale = Math.max(smallest, Math.min(16, view.scale * factor));
    view.x += x / view.scale - x / scale;
    view.y += y / view.scale - y / scale;
    view.scale = scale;
    schedule();
  }

  function schedule() {
    if (!queued) queued = requestAnimationFrame(() => { queued = 0; draw(); });
  }

  // The coarsest level that is fine enough, and below it all coarser ones.
  function levelsToDraw() {
    const pixels = view.scale * devicePixelRatio * whole.width;
    let finest = levels.length - 1;
    while (finest > 0 && levels[finest].width < pixels * 0.75) finest -= 1;
    return levels.slice(finest).reverse();
  }

  function* visibleTiles(level) {
    const factor = whole.width / level.width;
    const [width, height] = [level.tileWidth * factor, level.tileHeight * factor];
    const lastColumn = Math.min(level.columns - 1, Math.floor((view.x + stage.clientWidth / view.scale) / width));
    const lastRow = Math.min(level.rows - 1, Math.floor((view.y + stage.clientHeight / view.scale) / height));
    for (let row = Math.max(0, Math.floor(view.y / height)); row <= lastRow; row += 1) {
      for (let column = Math.max(0, Math.floor(view.x / width)); column <= lastColumn; column += 1) {
        const found = level.find(row, column);
        if (found) yield { key: found.join("|"), path: found[0], frame: found[1], x: column * width, y: row * height, width, height };
      }
    }
  }

  function draw() {
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(stage.clientWidth * ratio), Math.round(stage.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      Object.assign(canvas.style, { width: `${width / ratio}px`, height: `${height / ratio}px` });
    }
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = view.scale * ratio < 2;
    const wanted = new Set();
    const missing = [];
    const drawn = levelsToDraw();
    const factor = view.scale * ratio;
    const place = (value, origin) => Math.round((value - origin) * factor);
    context.save();
    context.beginPath();
    context.rect(place(0, view.x), place(0, view.y), whole.width * factor, whole.height * factor);
    context.clip();
    for (const level of drawn) {
      const isFinest = level === drawn[drawn.length - 1];
      for (const tile of visibleTiles(level)) {
        const picture = cache.get(tile.key);
        if (picture) {
          const [x, y] = [place(tile.x, view.x), place(tile.y, view.y)];
          context.drawImage(picture, x, y, place(tile.x + tile.width, view.x) - x, place(tile.y + tile.height, view.y) - y);
        } else if ((isFinest || level === drawn[0]) && !failed.has(tile.key)) {
          wanted.add(tile.key);
          missing.push(tile);
        }
      }
    }
    context.restore();
    cache.keepOnly((key) => wanted.has(key));
    for (const tile of missing) {
      if (cache.pending.size >= MOST_PENDING) break;
      if (cache.pending.has(tile.key)) continue;
      cache.load(tile.key, `${tile.path}/frames/${tile.frame}/rendered`, "image/jpeg").then(schedule, (error) => {
        if (error.name === "AbortError") return;
        failed.set(tile.key, error.message);
        trouble.textContent = `Some tiles cannot be shown: ${error.message}`;
        schedule();
      });
    }
    canvas.dataset.missing = missing.length;
    state.textContent = `${(view.scale * 100).toPrecision(3)} %`;
  }

  const pointers = new Map();
  let spread = 0;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoomAt(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    spread = 0;
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    view.x -= (event.clientX - before[0]) / view.scale / pointers.size;
    view.y -= (event.clientY - before[1]) / view.scale / pointers.size;
    if (pointers.size > 1) {
      const [[ax, ay], [bx, by]] = [...pointers.values()];
      const now = Math.hypot(ax - bx, ay - by);
      const box = stage.getBoundingClientRect();
      if (spread) zoomAt(now / spread, (ax + bx) / 2 - box.left, (ay + by) / 2 - box.top);
      spread = now;
    }
    schedule();
  });
  const lift = (event) => pointers.delete(event.pointerId);
  stage.addEventListener("pointerup", lift);
  stage.addEventListener("pointercancel", lift);

  function onKey(event) {
    const step = 100 / view.scale;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === "+") zoomAt(1.5);
    else if (event.key === "-") zoomAt(1 / 1.5);
    else if (event.key === "0") fit();
    else if (event.key === "Escape") location.hash = `#/study/${path.split("/")[2]}`;
    else if (moves[event.key]) {
      view.x += moves[event.key][0];
      view.y += moves[event.key][1];
      schedule();
    } else return;
    event.preventDefault();
  }
  addEventListener("keydown", onKey);
  const resized = new ResizeObserver(schedule);
  resized.observe(stage);
  fit();
  return () => {
    cancelAnimationFrame(queued);
    removeEventListener("keydown", onKey);
    resized.disconnect();
    cache.clear();
  };
}
