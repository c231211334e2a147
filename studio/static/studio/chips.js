// Tags as chips. The text field below stays the truth: what it holds is sent, and it works by itself without this.
import { icon } from "./common.js";

// The same rules as runs/tags.py: commas separate, double quotes protect.
export function parse(text) {
  const items = [];
  let item = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const c = text[at];
    if (quoted && c === '"' && text[at + 1] === '"') {
      item += '"';
      at += 1;
    } else if (c === '"' && (quoted || item.trim() === "")) {
      quoted = !quoted;
    } else if ((c === "," || c === "\n") && !quoted) {
      items.push(item.trim());
      item = "";
    } else {
      item += c;
    }
  }
  items.push(item.trim());
  return items.filter((each) => each !== "");
}

const quote = (item) => (/[,"\r\n]/.test(item) ? `"${item.replaceAll('"', '""')}"` : item);

export function chips(place) {
  if (!place) return null;
  const input = place.querySelector("input");
  const box = document.createElement("div");
  box.className = "query";
  const entry = document.createElement("input");
  entry.placeholder = input.placeholder;
  entry.autocomplete = "off";
  box.append(entry);
  input.hidden = true;
  place.append(box);
  // Label, error message and links to the field now mean what is seen.
  entry.id = input.id;
  input.removeAttribute("id");
  for (const name of ["aria-describedby", "aria-invalid"]) if (input.hasAttribute(name)) entry.setAttribute(name, input.getAttribute(name));
  input.removeAttribute("aria-invalid");
  let items = [];

  function draw() {
    for (const chip of box.querySelectorAll(".chip")) chip.remove();
    for (const item of items) {
      const chip = document.createElement("span");
      chip.className = "chip";
      const word = document.createElement("span");
      word.textContent = item;
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `Remove tag ${item}`);
      button.append(icon("x"));
      button.addEventListener("click", () => {
        items = items.filter((each) => each !== item);
        write();
        entry.focus();
      });
      chip.append(word, button);
      entry.before(chip);
    }
    entry.placeholder = items.length ? "" : input.placeholder;
  }

  function write() {
    input.value = items.map(quote).join(", ");
    draw();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function take() {
    const typed = parse(entry.value);
    if (!typed.length) return;
    items = [...new Set([...items, ...typed])];
    entry.value = "";
    write();
  }

  entry.addEventListener("keydown", (event) => {
    if ((event.key === "Enter" && !event.ctrlKey && !event.metaKey && entry.value) || event.key === ",") {
      event.preventDefault();
      take();
    } else if (event.key === "Backspace" && !entry.value && items.length) {
      items = items.slice(0, -1);
      write();
    }
  });
  entry.addEventListener("blur", take);
  entry.addEventListener("input", (event) => event.stopPropagation());
  // What is half typed counts when the form goes.
  input.form.addEventListener("submit", take, true);
  document.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && take(), true);

  const show = () => {
    items = parse(input.value);
    draw();
  };
  show();
  return { show };
}
