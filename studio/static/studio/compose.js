// The composer: rechecks while one types, keeps a draft, and starts with Ctrl/⌘ Enter. Without it the form still works.
import { chips } from "./chips.js";
import { workspace } from "./common.js";
import * as draft from "./draft.js";
import { restore, select } from "./tabs.js";

const form = document.getElementById("compose");
const slug = workspace();
const field = (name) => form.elements.namedItem(name);
const touched = new Set();
let typedScript = field("script").value !== "";
let timer = 0;
let changed = false;
let pending = false; // what is known of the fields is older than what is in them

// ---- the fragment that follows the typing ------------------------------------------------------------------------
function recheck(wait = 350) {
  changed = true;
  pending = true;
  clearTimeout(timer);
  timer = setTimeout(() => htmx.trigger("#recheck", "recheck"), wait);
}

function showErrors() {
  const messages = new Map();
  for (const span of document.querySelectorAll("#field-errors [data-for]")) messages.set(span.dataset.for, span.textContent);
  for (const place of form.querySelectorAll("[data-error]")) {
    const name = place.dataset.error;
    if (!touched.has(name)) continue;
    const message = messages.get(name) ?? "";
    place.hidden = message === "";
    place.querySelector("span").textContent = message;
    const input = document.getElementById(`f-${name}`);
    if (input?.matches("input, textarea, select")) message ? input.setAttribute("aria-invalid", "true") : input.removeAttribute("aria-invalid");
  }
}

function markScript() {
  const script = field("script").value;
  for (const line of form.querySelectorAll(".tree [data-path]")) {
    const on = line.dataset.path === script;
    line.classList.toggle("on", on);
    line.querySelector(".why").hidden = !on;
  }
}

function guessScript() {
  const guess = document.getElementById("script-files")?.dataset.guess;
  // Never into a field that a person is in: what they type would join the guess.
  if (!typedScript && guess && document.activeElement !== field("script")) {
    if (field("script").value !== guess) {
      field("script").value = guess;
      recheck(0);
    }
  }
  markScript();
}

// ---- what the target says ----------------------------------------------------------------------------------------
// Asked when the typing pauses, one question at a time, and never twice for the same run.
let asking = 0;
let asked = "";

function examine() {
  clearTimeout(asking);
  const place = document.getElementById("examined");
  if (!("pending" in place.dataset)) asked = "";
  else if (place.dataset.key !== asked) {
    asking = setTimeout(() => {
      asked = place.dataset.key;
      htmx.trigger("#examine", "examine");
    }, 500);
  }
}

form.addEventListener("click", (event) => {
  if (!event.target.closest("[data-examine-anew]")) return;
  event.target.closest("[data-examine-anew]").disabled = true;
  htmx.trigger("#examine-anew", "examine");
});
// An answer that never came is asked for again with the next change.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target.id.startsWith("examine") && !event.detail.successful) asked = "";
});

let settling = 0;
document.addEventListener("htmx:oobAfterSwap", () => {
  clearTimeout(settling);
  settling = setTimeout(() => {
    pending = false;
    restore();
    showErrors();
    guessScript();
    examine();
  });
});

form.addEventListener("input", (event) => {
  const { target } = event;
  if (target.name === "yaml") return;
  if (target.name === "script") typedScript = target.value !== "";
  if (target.name?.startsWith("var_")) touched.add("variables");
  if (target.dataset.count) showFramework();
  recheck();
});
form.addEventListener("change", (event) => {
  const { target } = event;
  if (target.name === "target") for (const card of form.querySelectorAll(".opt-card:has(.rb)")) card.classList.toggle("on", card.contains(target));
  if (target.name === "framework") showFramework();
  if (target.name === "var_kind") showKind(target.closest("[data-row]"));
  recheck(0);
});
// Checked on leaving a field, and again on each key once it is wrong.
form.addEventListener("focusout", (event) => {
  const name = event.target.name?.startsWith("var_") ? "variables" : event.target.name;
  if (name && (event.target.value || touched.has(name))) {
    touched.add(name);
    if (!pending) showErrors(); // an old message that comes and goes would move what is just being clicked
  }
});
for (const place of form.querySelectorAll("[data-error]:not([hidden])")) touched.add(place.dataset.error);

function showFramework() {
  const framework = field("framework").value;
  const reads = (part) => part.dataset.framework.split(" ").includes(framework);
  for (const part of form.querySelectorAll("[data-framework]")) part.hidden = !reads(part);
  const counts = [...form.querySelectorAll("[data-count]")].filter((input) => input.value.trim() && reads(input.closest("[data-framework]")));
  const words = [field("framework").selectedOptions[0].text, ...counts.map((input) => `${input.value.trim()} ${input.dataset.count}`)];
  document.getElementById("framework-word").textContent = words.join(", ");
}

// ---- code --------------------------------------------------------------------------------------------------------
form.addEventListener("snapshot-ready", (event) => {
  field("snapshot").value = event.detail.digest;
  document.getElementById("snapshot-card").replaceChildren();
  touched.add("snapshot");
  recheck(0);
});
form.addEventListener("click", (event) => {
  const shot = event.target.closest("[data-snapshot]");
  if (shot) {
    field("snapshot").value = shot.dataset.snapshot;
    field("git").value = "";
    shot.closest("details").open = false;
    touched.add("snapshot");
    recheck(0);
  }
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target.id === "snapshot-card") markScript();
});

// ---- variables ---------------------------------------------------------------------------------------------------
const rows = form.querySelector("[data-rows]");

function addRow(values = {}) {
  const row = document.getElementById("variable-row").content.cloneNode(true).querySelector("[data-row]");
  for (const [name, value] of Object.entries(values)) {
    const input = row.querySelector(`[name="${name}"]`);
    if (input.tagName === "SELECT" && value && ![...input.options].some((o) => o.value === value)) input.add(new Option(value, value));
    input.value = value;
  }
  rows.append(row);
  showKind(row);
  return row;
}

function showKind(row) {
  const secret = row.querySelector('[name="var_kind"]').value === "secret";
  row.querySelector("[data-secret]").hidden = !secret;
  row.querySelector('[name="var_value"]').hidden = secret;
}

form.addEventListener("click", (event) => {
  if (event.target.closest("[data-add-row]")) addRow().querySelector("input").focus();
  const remove = event.target.closest("[data-remove-row]");
  if (remove) {
    remove.closest("[data-row]").remove();
    form.querySelector("[data-add-row]").focus();
    recheck(0);
  }
});

// ---- draft -------------------------------------------------------------------------------------------------------
const SKIPPED = new Set(["csrfmiddlewaretoken", "request_id", "yaml"]);
const fields = () => [...new FormData(form)].filter(([name, value]) => typeof value === "string" && !SKIPPED.has(name));
const request = () => field("request_id").value;

function keep() {
  if (!changed) return;
  changed = false;
  if (draft.save(slug, fields(), request())) document.getElementById("saved").hidden = false;
}
setInterval(keep, 5000);
addEventListener("pagehide", keep);

function fill(saved) {
  rows.replaceChildren();
  const columns = {};
  for (const [name, value] of saved) {
    if (name.startsWith("var_")) {
      (columns[name] ??= []).push(value);
    } else {
      const input = field(name);
      if (!input) continue;
      if (input.tagName === "SELECT" && ![...input.options].some((option) => option.value === value)) continue;
      input.value = value;
    }
  }
  (columns.var_name ?? []).forEach((_, at) => addRow(Object.fromEntries(Object.entries(columns).map(([name, list]) => [name, list[at]]))));
  typedScript = field("script").value !== "";
  for (const radio of form.querySelectorAll(".rb")) radio.closest(".opt-card").classList.toggle("on", radio.checked);
  showFramework();
  tags?.show();
  if (field("snapshot").value) {
    select(document.getElementById("tab-earlier"));
    htmx.ajax("GET", `/${slug}/runs/new/snapshots/${field("snapshot").value}`, { target: "#snapshot-card", swap: "innerHTML" });
  }
  recheck(0);
}

const kept = draft.load(slug);
const offer = document.getElementById("draft");
if (kept && !("returned" in form.dataset) && JSON.stringify(kept.fields) !== JSON.stringify(fields())) {
  offer.querySelector("time").textContent = new Date(kept.at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  offer.hidden = false;
}
offer.addEventListener("click", (event) => {
  const act = event.target.closest("[data-draft]")?.dataset.draft;
  if (!act) return;
  if (act === "restore") fill(kept.fields);
  else draft.discard(slug);
  offer.hidden = true;
});

// ---- start -------------------------------------------------------------------------------------------------------
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  form.requestSubmit(event.target.name === "yaml" ? form.querySelector('[name="fill"]') : document.getElementById("start"));
});
form.addEventListener("submit", (event) => {
  changed = true;
  keep();
  const fails = "fails" in document.getElementById("examined").dataset && event.submitter?.name !== "fill";
  document.getElementById("would-fail").hidden = !fails;
  if (fails) {
    event.preventDefault();
    document.querySelector("#examined .fail")?.scrollIntoView({ block: "nearest" });
  }
});
// Coming back to the page is a new intent: the id under which it was started must not start (or find) the same run.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  field("request_id").value = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
});

const tags = chips(form.querySelector("[data-chips]"));
markScript();
examine();
const first = form.querySelector('[aria-invalid="true"]') ?? document.getElementById("errors");
if (first) {
  first.closest("details")?.setAttribute("open", "");
  first.focus();
}
