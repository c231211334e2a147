// Pages of environments: the form's files and errors, the search in a list of packages, locks to copy.
import { announce } from "./common.js";
import { restore } from "./tabs.js";

// ---- a field that is wrong is checked again while it is being mended ----------------------------------------------
const form = document.querySelector(".envform");
const MAX_FILE = 1_000_000;

document.addEventListener("htmx:afterSwap", (event) => {
  const field = event.target.id?.endsWith("-errors") && document.getElementById(event.target.id.replace(/-errors$/, ""));
  if (!field || !form) return;
  if (event.target.childElementCount) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
});

let timer = 0;
form?.addEventListener("input", (event) => {
  const field = event.target;
  if (!field.matches('[aria-invalid="true"][hx-post]')) return;
  clearTimeout(timer);
  timer = setTimeout(() => field.dispatchEvent(new Event("again")), 300);
});

// The snippets follow; the language that was chosen stays.
document.addEventListener("htmx:oobAfterSwap", (event) => {
  if (event.detail.target?.id === "snippets") restore();
});

// A kind that is chosen anew is not what an older message was about.
form?.addEventListener("change", (event) => {
  if (event.target.name !== "kind") return;
  for (const field of form.querySelectorAll('#variables, [aria-invalid="true"][hx-post]')) field.dispatchEvent(new Event("again"));
});

const first = form?.querySelector('[aria-invalid="true"]') ?? document.getElementById("summary");
if (first) {
  first.closest("details")?.setAttribute("open", "");
  first.focus();
}

// ---- files: dropped or chosen, they are sent as they are, since the server knows more encodings than text() ----------
const box = form?.querySelector("[data-drop]");
const source = document.getElementById("source");

function refuse(message) {
  const text = document.createElement("p");
  text.className = "help err";
  text.textContent = message;
  document.getElementById("source-errors").replaceChildren(text);
  document.getElementById("file").value = "";
}

async function take(file) {
  if (file.size > MAX_FILE) {
    refuse(`${file.name} has ${Math.round(file.size / 1000).toLocaleString("en")} KB; the limit is ${MAX_FILE / 1000} KB. Choose a file of requirements.`);
    return;
  }
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    refuse(`${file.name} cannot be read. Choose a file, not a folder.`);
    return;
  }
  const chosen = new DataTransfer();
  chosen.items.add(file);
  document.getElementById("file").files = chosen.files;
  form.requestSubmit(form.querySelector('[name="fill"]'));
}

if (box) {
  box.addEventListener("change", (event) => {
    if (event.target.files?.length) take(event.target.files[0]);
  });
  source.addEventListener("input", () => {
    form.elements.source_name.value = "";
  });
  // The whole form takes a file: a drop beside the box must not replace the page.
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const show = (on) => {
    box.closest("details").open ||= on;
    box.classList.toggle("over", on);
  };
  addEventListener("dragenter", (event) => {
    if (carries(event)) show((depth += 1) > 0);
  });
  addEventListener("dragleave", (event) => {
    if (carries(event)) show((depth -= 1) > 0);
  });
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth = 0;
    show(false);
    take(event.dataTransfer.files[0]);
  });
}

// ---- rows that match what is typed -------------------------------------------------------------------------------
function sift(field) {
  const body = document.getElementById(field.dataset.rowsOf);
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of body.rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    if (!row.hidden) shown += 1;
  }
  document.getElementById(`${body.id}-none`).hidden = shown > 0;
  const count = document.getElementById("package-count");
  if (count) count.textContent = words.length ? `${shown} of ${body.rows.length}` : body.rows.length;
  return shown;
}

document.addEventListener("input", (event) => {
  const field = event.target;
  if (!field.matches("[data-rows-of]")) return;
  sift(field);
  const address = new URL(location.href);
  if (field.value) address.searchParams.set(field.name, field.value);
  else address.searchParams.delete(field.name);
  history.replaceState(history.state, "", address);
});

document.addEventListener("submit", (event) => {
  const field = event.target.querySelector?.("[data-rows-of]");
  if (!field) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  announce(`${sift(field)} packages`);
}, true);

// ---- locks -------------------------------------------------------------------------------------------------------
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy-address]");
  if (!button || button.dataset.copy !== undefined) return;
  const answer = await fetch(button.dataset.copyAddress, { credentials: "same-origin" });
  if (!answer.ok) {
    announce("The lock could not be read");
    return;
  }
  button.dataset.copy = await answer.text();
  button.click();
});
