// Small manners of every page: theme, drawer, copy, confirm in place, edit in place, toasts, ticking times.
import { announce, duration, icon, post } from "./common.js";

// ---- theme -------------------------------------------------------------------------------------------------------
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

function showTheme() {
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.setAttribute("aria-label", isDark() ? "Use light theme" : "Use dark theme");
    button.replaceChildren(icon(isDark() ? "sun" : "moon"));
  }
  // Canvas charts read their colours again.
  document.dispatchEvent(new CustomEvent("themechange"));
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Storage is switched off: the choice holds for this page.
  }
  showTheme();
}
dark.addEventListener("change", showTheme);
showTheme();

// ---- drawer ------------------------------------------------------------------------------------------------------
function drawer(open) {
  const root = document.documentElement;
  root.classList.toggle("drawer", open);
  const button = document.querySelector(".menu-btn");
  button?.setAttribute("aria-expanded", String(open));
  if (open) document.querySelector("#side a, #side button")?.focus();
  else button?.focus();
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.documentElement.classList.contains("drawer")) drawer(false);
});

// ---- copy --------------------------------------------------------------------------------------------------------
async function copy(button) {
  const source = button.dataset.copyFrom && document.querySelector(button.dataset.copyFrom);
  const text = source ? (source.value ?? source.textContent) : button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http from another machine has no clipboard: the old way still works there.
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "sr";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  announce("Copied");
  const use = button.querySelector("use");
  if (!use || button.dataset.copied) return;
  const before = use.getAttribute("href");
  button.dataset.copied = "1";
  use.setAttribute("href", before.replace(/#.*/, "#i-check"));
  setTimeout(() => {
    use.setAttribute("href", before);
    delete button.dataset.copied;
  }, 2000);
}

// ---- toasts ------------------------------------------------------------------------------------------------------
// toast("3 runs archived", { undo: "/lab/runs/restore", fields: { ids: "1,2,3" } }); `undo` may be a function.
export function toast(text, { undo = null, fields = {}, name = "ok" } = {}) {
  const box = document.createElement("div");
  box.className = "toast";
  box.setAttribute("role", "status");
  box.append(icon(name), document.createTextNode(text));
  let timer = 0;
  const away = () => box.remove();
  const arm = () => {
    clearTimeout(timer);
    timer = setTimeout(away, 6000);
  };
  if (undo) {
    const button = document.createElement("button");
    button.className = "btn plain";
    button.type = "button";
    button.textContent = "Undo";
    button.addEventListener("click", async () => {
      if (typeof undo === "function") {
        await undo();
      } else {
        const answer = await post(undo, fields);
        if (answer.ok) location.reload();
      }
      away();
    });
    box.append(button);
  }
  for (const stay of ["pointerenter", "focusin"]) box.addEventListener(stay, () => clearTimeout(timer));
  for (const leave of ["pointerleave", "focusout"]) box.addEventListener(leave, arm);
  document.getElementById("toasts")?.append(box);
  arm();
}
// The server's way: `HX-Trigger: {"toast": {"text": "Archived", "undo": "/lab/runs/7/restore"}}`.
document.addEventListener("toast", (event) => toast(event.detail.text ?? event.detail.value, event.detail));

// ---- confirm in place --------------------------------------------------------------------------------------------
// <button data-confirm="Cancel this run?">: the first press asks, the second one within 6 s does it.
function arm(button) {
  const before = [...button.childNodes];
  button.style.minWidth = `${button.offsetWidth}px`;
  button.dataset.armed = "1";
  button.replaceChildren(document.createTextNode(button.dataset.confirm));
  announce(button.dataset.confirm);
  const disarm = () => {
    clearTimeout(timer);
    delete button.dataset.armed;
    button.replaceChildren(...before);
    button.style.minWidth = "";
    button.removeEventListener("blur", disarm);
  };
  const timer = setTimeout(disarm, 6000);
  button.addEventListener("blur", disarm);
  button.disarm = disarm;
}

// Captured before htmx and forms see it.
document.addEventListener(
  "click",
  (event) => {
    const button = event.target.closest?.("[data-confirm]");
    if (!button) return;
    if (button.dataset.armed) {
      // After the press itself was delivered.
      setTimeout(() => button.disarm?.());
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    arm(button);
  },
  true,
);

// ---- edit in place -----------------------------------------------------------------------------------------------
// <div data-edit><h1 data-edit-view>… <button data-edit-open></h1><form hidden>…</form></div>
function edit(place, open) {
  const form = place.querySelector("form");
  place.querySelector("[data-edit-view]").hidden = open;
  form.hidden = !open;
  place.toggleAttribute("data-editing", open);
  if (open) {
    const field = form.querySelector("input:not([type=hidden]), textarea");
    field?.focus();
    field?.select();
  } else {
    form.reset();
    place.querySelector("[data-edit-open]")?.focus();
  }
}
document.addEventListener("keydown", (event) => {
  const place = event.key === "Escape" && event.target.closest?.("[data-editing]");
  if (!place) return;
  event.preventDefault();
  edit(place, false);
});

// ---- one listener for what is pressed ----------------------------------------------------------------------------
document.addEventListener("click", (event) => {
  const target = event.target;
  const on = (selector) => target.closest(selector);
  if (on("[data-theme-toggle]")) toggleTheme();
  const side = on("[data-drawer]");
  if (side) drawer(side.dataset.drawer === "toggle" && !document.documentElement.classList.contains("drawer"));
  const copied = on("[data-copy], [data-copy-from]");
  if (copied) copy(copied);
  const opens = on("[data-edit-open]");
  if (opens) edit(opens.closest("[data-edit]"), true);
  const closes = on("[data-edit-close]");
  if (closes) edit(closes.closest("[data-edit]"), false);
  for (const menu of document.querySelectorAll("details.dd[open]")) {
    if (!menu.contains(target) || on("details.dd > .menu a, details.dd > .menu button:not([data-confirm])")) menu.open = false;
  }
});

// A form is sent once: the second press of an impatient finger is no second run.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "dialog" || form.hasAttribute("hx-post")) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  event.submitter?.setAttribute("aria-busy", "true");
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.querySelector("[aria-busy]")?.removeAttribute("aria-busy");
  }
});

// A choice that applies at once, as a role in a table: the form goes when the choice is made.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

// ---- times -------------------------------------------------------------------------------------------------------
// The same words as the template filter `ago`.
function relative(seconds) {
  if (seconds < 0) return `in ${duration(-seconds)}`;
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86400);
  return days === 1 ? "yesterday" : `${days} days ago`;
}

// The clock of this machine may be wrong by hours; what counts is the time since the page was made.
const served = Date.parse(document.querySelector('meta[name="now"]')?.content ?? "") || Date.now();
const ahead = Date.now() - served;
export const now = () => Date.now() - ahead;

// A strip of tabs wider than the screen shows the open one.
for (const open of document.querySelectorAll(".tabs > [aria-current]")) {
  const strip = open.parentElement;
  const [a, b] = [strip.getBoundingClientRect(), open.getBoundingClientRect()];
  if (b.right > a.right || b.left < a.left) strip.scrollLeft += b.left - a.left - (a.width - b.width) / 2;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const text = relative((now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}
// <span data-since="2026-08-23T14:02:11Z">: how long something has been going on, each second.
function count() {
  if (document.hidden) return;
  for (const span of document.querySelectorAll("[data-since]")) {
    const text = duration((now() - Date.parse(span.dataset.since)) / 1000);
    if (span.textContent !== text) span.textContent = text;
  }
}
setInterval(tick, 60_000);
setInterval(count, 1000);
count();
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) tick();
});

// Whoever chose the browser's own zone gets it in the tooltips; the server writes UTC.
function localTitles(root) {
  if (document.body.dataset.zone !== "local") return;
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
}
localTitles(document);
document.addEventListener("htmx:afterSettle", (event) => {
  localTitles(event.target);
  count();
});
