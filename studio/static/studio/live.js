// Live updates. Fragments carry `hx-trigger="every 5s"`; this module decides when such a poll may go out and be shown:
// a hidden tab sends none, three failures in a row make all of them wait longer and longer, and nothing is swapped under
// someone's cursor or selection. Filters inside hx-trigger would need eval, which the content security policy forbids.
import { announce, csrf } from "./common.js";

const POLLS = '[hx-trigger*="every"]';
let failures = 0;
let pausedUntil = 0;
let ticker = 0;

const isPoll = (detail) => !detail.requestConfig?.triggeringEvent && detail.elt?.matches?.(POLLS);

// Ask again now, all of them once: after a pause, or when the tab is seen again.
export function refresh() {
  for (const element of document.querySelectorAll(POLLS)) {
    const address = element.getAttribute("hx-get");
    if (address) htmx.ajax("GET", address, { source: element });
  }
}

const EDITABLE = "input:not([type=checkbox]):not([type=radio]):not([type=button]), textarea, select, [contenteditable]";
const OPEN = "details.dd[open], [popover]:popover-open, dialog[open], [data-armed], [data-editing]";

// Whether a person is reading, writing or choosing inside this element.
export function busy(element) {
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && selection.containsNode(element, true)) return true;
  const active = document.activeElement;
  if (active && element.contains(active) && active.matches(EDITABLE)) return true;
  return element.matches(OPEN) || element.querySelector(OPEN) !== null;
}

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRFToken"] = csrf();
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (isPoll(event.detail) && (document.hidden || Date.now() < pausedUntil)) event.preventDefault();
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { detail } = event;
  if (isPoll(detail) && detail.shouldSwap && busy(detail.target)) {
    detail.shouldSwap = false;
    // A table that is being read keeps its place; the next poll tries again.
    event.stopPropagation();
  }
});

document.addEventListener("htmx:afterRequest", (event) => {
  const { detail } = event;
  if (!isPoll(detail)) return;
  if (detail.successful) {
    if (failures >= 3) hide();
    failures = 0;
    pausedUntil = 0;
  } else if (Date.now() >= pausedUntil) {
    failures += 1;
    if (failures >= 3) pause(Math.min(60, 2 ** (failures - 2)));
  }
});

function pause(seconds) {
  pausedUntil = Date.now() + seconds * 1000;
  const banner = document.getElementById("paused");
  if (!banner) return;
  if (banner.hidden) announce("Live updates paused");
  banner.hidden = false;
  clearInterval(ticker);
  const show = () => {
    const left = Math.max(0, Math.ceil((pausedUntil - Date.now()) / 1000));
    banner.querySelector("[data-seconds]").textContent = left;
    if (left === 0) tryNow();
  };
  show();
  ticker = setInterval(show, 500);
}

function hide() {
  clearInterval(ticker);
  const banner = document.getElementById("paused");
  if (banner && !banner.hidden) {
    banner.hidden = true;
    announce("Live updates are back");
  }
}

function tryNow() {
  clearInterval(ticker);
  pausedUntil = 0;
  refresh();
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-try-now]")) tryNow();
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

// An action that the server refuses says so above the page, never in a toast, and nothing shown is lost.
document.addEventListener("htmx:responseError", (event) => {
  if (isPoll(event.detail)) return;
  report(event.detail.xhr.responseText, event.detail.xhr.status);
});
document.addEventListener("htmx:sendError", (event) => {
  if (!isPoll(event.detail)) report("", 0);
});

function report(html, status) {
  const place = document.getElementById("problem");
  if (!place) return;
  const banner = new DOMParser().parseFromString(html, "text/html").querySelector(".banner");
  if (banner) {
    place.replaceChildren(banner);
  } else {
    const words = status ? `The server answered ${status}.` : "The server cannot be reached.";
    const box = document.createElement("div");
    box.className = "banner fail";
    box.setAttribute("role", "alert");
    const icon = document.createElement("span");
    const title = document.createElement("b");
    title.textContent = "That did not work";
    const text = document.createElement("p");
    text.textContent = `${words} Nothing was changed here. Try again.`;
    box.append(icon, title, text);
    place.replaceChildren(box);
  }
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" });
}

// The server announces a change of state by `HX-Trigger: {"announce": "Run 48213 failed"}`.
let announced = "";
document.addEventListener("announce", (event) => {
  const text = event.detail?.value ?? "";
  if (text && text !== announced) {
    announce(text);
    // What the side says of slots and active runs has changed with it; the page must not contradict itself for half a minute.
    const side = document.getElementById("capacity");
    if (side) htmx.ajax("GET", side.getAttribute("hx-get"), { source: side });
  }
  announced = text;
});
