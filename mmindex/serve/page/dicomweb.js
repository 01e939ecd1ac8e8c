// What the page asks the server: queries, metadata, pictures. Every request goes to this host.

const prefix = document.documentElement.dataset.prefix;

function readToken() {
  const match = /^#token=(.+)$/.exec(location.hash);
  if (match) {
    sessionStorage.setItem("token", decodeURIComponent(match[1]));
    history.replaceState(null, "", "#/");
  }
  return sessionStorage.getItem("token");
}

let token = readToken();

export function setToken(text) {
  token = text;
  sessionStorage.setItem("token", text);
}

export function hasToken() {
  return Boolean(token);
}

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function request(path, accept, options) {
  const headers = { Accept: accept };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(prefix + path, { headers, ...options });
}

export async function ask(path, accept, signal) {
  const response = await request(path, accept, { signal });
  if (!response.ok) throw new ServerError(response.status, await response.text());
  return response;
}

export async function askJson(path, signal) {
  return (await ask(path, "application/dicom+json", signal)).json();
}

export async function askImage(path, accept, signal) {
  const blob = await (await ask(path, accept, signal)).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}

// The first value of an element, as text; a name without its carets.
export function text(dataset, tag) {
  const value = dataset?.[tag]?.Value?.[0];
  if (value === null || value === undefined) return "";
  if (typeof value === "object") {
    return (value.Alphabetic || value.Ideographic || "").replace(/\^+/g, " ").trim();
  }
  return String(value);
}

export function number(dataset, tag) {
  const value = Number(text(dataset, tag));
  return Number.isFinite(value) ? value : 0;
}

export function items(dataset, tag) {
  return dataset?.[tag]?.Value ?? [];
}

export function date(value) {
  return /^\d{8}$/.test(value) ? `${value.slice(0, 4)}-${value.slice(4, 6)}-${value.slice(6)}` : value;
}

// The path of a study, series or instance. A UID of a file may be any text: as one segment of a path it leads nowhere
// else, nor does one of dots alone, which a browser takes for a step up.
export function pathOf(...uids) {
  const names = ["studies", "series", "instances"];
  const segments = uids.map((uid) => encodeURIComponent(uid).replace(/^\.\.?$/, (dots) => dots.replaceAll(".", "%252E")));
  return segments.map((segment, at) => `/${names[at]}/${segment}`).join("");
}

export function instancePath(dataset) {
  return pathOf(...["0020000D", "0020000E", "00080018"].map((tag) => text(dataset, tag)));
}

// A file of any size is saved by the browser itself, which has the token from a cookie for a moment.
export async function downloadFile(path) {
  const response = await request(path, "application/dicom", { method: "HEAD" });
  if (!response.ok) throw new ServerError(response.status, `the file is not sent (status ${response.status})`);
  if (token) {
    const secure = location.protocol === "https:" ? "; secure" : "";
    const limits = `path=${prefix}${path}; max-age=30; samesite=strict${secure}`;
    document.cookie = `mmindex-token=${encodeURIComponent(token)}; ${limits}`;
  }
  save(`${prefix}${path}?accept=application/dicom`, `${path.split("/").pop()}.dcm`);
}

export async function download(path, accept, name) {
  const blob = await (await ask(path, accept)).blob();
  const url = URL.createObjectURL(blob);
  save(url, name + (EXTENSIONS[blob.type.split(";")[0]] ?? ".bin"));
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

const EXTENSIONS = {
  "application/dicom": ".dcm", "image/jpeg": ".jpg", "image/jp2": ".j2k", "image/jpx": ".j2k",
  "image/jls": ".jls", "image/jxl": ".jxl", "image/jphc": ".jhc", "image/dicom-rle": ".rle",
};

// Keeps pictures up to a number of pixels; those not used for longest go first.
export class PictureCache {
  constructor(pixels) {
    this.left = pixels;
    this.pictures = new Map();
    this.pending = new Map();
  }

  get(key) {
    const found = this.pictures.get(key);
    if (found) {
      this.pictures.delete(key);
      this.pictures.set(key, found);
    }
    return found;
  }

  // Load a picture once, however often it is asked for; at most `most` at the same time.
  load(key, path, accept) {
    const known = this.get(key);
    if (known) return Promise.resolve(known);
    let pending = this.pending.get(key);
    if (!pending) {
      const controller = new AbortController();
      const promise = askImage(path, accept, controller.signal)
        .then((picture) => this.put(key, picture))
        .finally(() => this.pending.delete(key));
      promise.catch(() => {});
      pending = { promise, controller };
      this.pending.set(key, pending);
    }
    return pending.promise;
  }

  // Stop loading what is not wanted any more.
  keepOnly(wanted) {
    for (const [key, { controller }] of this.pending) if (!wanted(key)) controller.abort();
  }

  put(key, picture) {
    this.pictures.set(key, picture);
    this.left -= picture.width * picture.height;
    for (const [old, one] of this.pictures) {
      if (this.left >= 0 || this.pictures.size < 2) break;
      this.pictures.delete(old);
      this.left += one.width * one.height;
      one.close();
    }
    return picture;
  }

  clear() {
    this.keepOnly(() => false);
    for (const [key, one] of this.pictures) {
      this.pictures.delete(key);
      this.left += one.width * one.height;
      one.close();
    }
  }
}
