// What several modules need.

export const csrf = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

export const workspace = () => document.body.dataset.workspace ?? "";

// One polite live region for the whole page.
export function announce(text) {
  const region = document.getElementById("announcer");
  if (!region) return;
  region.textContent = "";
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

// POST as a form; resolves to the Response. Throws TypeError when the server cannot be reached.
export function post(address, fields = {}) {
  const body = fields instanceof FormData ? fields : new URLSearchParams(fields);
  return fetch(address, { method: "POST", headers: { "X-CSRFToken": csrf() }, body, credentials: "same-origin" });
}

// A symbol of the sprite, as an element. The sprite's address is taken from an icon that the page already has.
export function icon(name, more = "") {
  const address = document.querySelector("svg.i use")?.getAttribute("href")?.split("#")[0] ?? "";
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", more ? `i ${more}` : "i");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${address}#i-${name}`);
  svg.append(use);
  return svg;
}

// Two units: 4 s, 1 m 13 s, 1 h 12 m, 2 d 3 h. The same words as the template filter.
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [unit, letter, under, small] of [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]]) {
    if (whole >= unit) {
      const rest = Math.floor((whole % unit) / under);
      return rest ? `${Math.floor(whole / unit)} ${letter} ${rest} ${small}` : `${Math.floor(whole / unit)} ${letter}`;
    }
  }
  return `${whole} s`;
}

export function filesize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  let size = bytes;
  for (const unit of ["KB", "MB", "GB", "TB"]) {
    size /= 1000;
    if (size < 999.95 || unit === "TB") return `${size.toFixed(1).replace(/\.0$/, "")} ${unit}`;
  }
  return "";
}

export const typing = (target) =>
  target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
