// Keys that work on every page. Single letters stay off inside fields, and where the person turned them off.
import { typing, workspace } from "./common.js";

const actions = new Map();
const places = { r: "runs", e: "experiments", m: "models", c: "compute" };
let leader = 0;

// A page adds its own: key("x", () => …). The action gets the event; it is called only when nobody types.
export function key(letter, action) {
  actions.set(letter, action);
}

function go(path) {
  if (workspace()) location.assign(`/${workspace()}/${path}`);
}

function filter() {
  const field = document.querySelector("[data-filter]") ?? document.querySelector("#main .query input");
  field?.focus();
  field?.select?.();
  return Boolean(field);
}

export function help() {
  const dialog = document.getElementById("help");
  if (dialog && !dialog.open) dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    for (const open of document.querySelectorAll("details.dd[open]")) open.open = false;
    actions.get("Escape")?.(event);
    return;
  }
  if (document.body.dataset.keys === "off") return;
  const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (Date.now() - leader < 1200) {
    leader = 0;
    if (places[letter]) {
      event.preventDefault();
      go(places[letter]);
      return;
    }
  }
  const action = actions.get(event.key) ?? actions.get(letter);
  if (action) {
    event.preventDefault();
    action(event);
  } else if (letter === "g") {
    leader = Date.now();
  } else if (letter === "n") {
    go("runs/new");
  } else if (letter === "/") {
    if (filter()) event.preventDefault();
  } else if (letter === "?") {
    event.preventDefault();
    help();
  }
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-help]")) help();
});
