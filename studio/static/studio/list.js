// The run list: selection, keys, and what is done with selected runs. Filters, sort and pages are plain links.
import { announce, post } from "./common.js";
import { key } from "./keys.js";
import { toast } from "./ui.js";

const form = document.querySelector(".runform");
const boxes = () => [...(form?.querySelectorAll('tbody input[name="run"]') ?? [])];
const rows = () => [...(form?.querySelectorAll("tbody tr") ?? [])];
let last = null;
let at = -1;

// What an action said, shown after the list was read again.
const NOTE = "list-note";
try {
  const note = JSON.parse(sessionStorage.getItem(NOTE) ?? "null");
  sessionStorage.removeItem(NOTE);
  if (note) {
    const undo = note.undo && form
      ? async () => {
          const fields = new FormData();
          fields.set("action", note.undo);
          for (const number of note.runs) fields.append("run", number);
          const answer = await post(note.address, fields);
          if (answer.ok) location.reload();
        }
      : null;
    toast(note.text, { undo });
  }
} catch {
  // Storage is switched off: the list itself shows what happened.
}

function show() {
  const chosen = boxes().filter((box) => box.checked);
  const all = form.querySelector("[data-all]");
  if (all) {
    all.checked = chosen.length > 0 && chosen.length === boxes().length;
    all.classList.toggle("mix", chosen.length > 0 && !all.checked);
  }
  const count = form.querySelector("[data-selected]");
  if (count) count.textContent = `${chosen.length} selected`;
  const active = chosen.filter((box) => box.closest("tr").hasAttribute("data-active")).length;
  const cancel = form.querySelector("[data-cancel]");
  if (cancel && !cancel.dataset.armed) {
    cancel.hidden = active === 0;
    cancel.dataset.confirm = active === 1 ? "Cancel 1 run?" : `Cancel ${active} runs?`;
    cancel.querySelector("[data-label]").textContent = `Cancel ${active} active`;
  }
}

function clear() {
  for (const box of boxes()) box.checked = false;
  show();
}

function move(step) {
  const all = rows();
  if (!all.length) return;
  all[at]?.classList.remove("at");
  at = Math.max(0, Math.min(all.length - 1, at + step));
  all[at].classList.add("at");
  all[at].scrollIntoView({ block: "nearest" });
  announce(all[at].querySelector(".name a")?.textContent ?? "");
}

async function act(button) {
  const fields = new FormData(form);
  fields.set("action", button.value);
  const runs = fields.getAll("run");
  button.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(form.dataset.act, {
      method: "POST",
      headers: { Accept: "application/json", "X-CSRFToken": fields.get("csrfmiddlewaretoken") },
      body: fields,
      credentials: "same-origin",
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    sessionStorage.setItem(NOTE, JSON.stringify({ ...said, runs, address: form.dataset.act }));
    location.reload();
  } catch (error) {
    button.removeAttribute("aria-busy");
    problem(error.message || "The server cannot be reached. Nothing was changed.");
  }
}

function problem(text) {
  const banner = document.createElement("div");
  banner.className = "banner fail";
  banner.setAttribute("role", "alert");
  const title = document.createElement("b");
  title.textContent = text;
  banner.append(document.createElement("span"), title);
  form.querySelector(":scope > .banner")?.remove();
  form.prepend(banner);
}

if (form) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) for (const box of boxes()) box.checked = event.target.checked;
    show();
  });
  form.addEventListener("click", (event) => {
    const box = event.target.closest('input[name="run"]');
    if (!box) return;
    const all = boxes();
    if (event.shiftKey && last && all.includes(last)) {
      const [first, end] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
      for (const between of all.slice(first, end + 1)) between.checked = box.checked;
      show();
    }
    last = box;
  });
  form.addEventListener("submit", (event) => {
    if (!event.submitter?.matches('[name="action"]')) {
      event.preventDefault();
      return;
    }
    event.preventDefault();
    act(event.submitter);
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    clear();
  });
  document.addEventListener("htmx:afterSettle", show);
  key("j", () => move(1));
  key("k", () => move(at < 0 ? 1 : -1));
  key("x", () => {
    const box = rows()[at]?.querySelector('input[name="run"]');
    if (box) {
      box.checked = !box.checked;
      show();
    }
  });
  key("Enter", () => rows()[at]?.querySelector(".name a")?.click());
  key("Escape", clear);
  key("e", () => {
    if (boxes().some((box) => box.checked)) form.querySelector('[value="archive"]')?.click();
  });
  show();
}

// Rows dim when another page takes its time.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (link && !event.ctrlKey && !event.metaKey && link.matches(".t th a, .grp a, .chip-x, .tabs a")) {
    document.querySelector(".tw")?.classList.add("warm");
  }
});
addEventListener("pageshow", () => document.querySelector(".tw")?.classList.remove("warm"));
