// The files of a folder as a list that folds: folders first, and at the end what was left out and why.
import { filesize, icon } from "../common.js";

const TOP = 30;
const INSIDE = 100;
const SKIPPED = 12;

export const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

const folder = () => ({ folders: new Map(), files: [], count: 0 });

function inside(node, name) {
  if (!node.folders.has(name)) node.folders.set(name, folder());
  return node.folders.get(name);
}

function build(files, dirs) {
  const root = folder();
  for (const item of files) {
    const parts = item.path.split("/");
    const name = parts.pop();
    let node = root;
    for (const part of parts) {
      node = inside(node, part);
      node.count++;
    }
    node.files.push({ ...item, name });
  }
  for (const path of dirs) path.split("/").reduce(inside, root);
  return root;
}

function line(kind, name, note, size, depth) {
  const item = document.createElement("li");
  item.style.setProperty("--d", depth);
  item.dataset.depth = depth;
  const label = document.createElement("span");
  label.className = "trunc";
  label.textContent = name;
  const why = document.createElement("span");
  why.className = "why";
  why.textContent = note;
  why.hidden = !note;
  const end = document.createElement("span");
  end.className = "sz";
  end.textContent = size;
  item.append(icon(kind), label, why, end);
  return item;
}

function more(text, show) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "fold";
  button.textContent = text;
  button.addEventListener("click", () => show(item));
  item.append(button);
  return item;
}

export class Tree {
  // `list`: the <ul>. `script()`: the path of the entry script now.
  constructor(list, script) {
    this.list = list;
    this.script = script;
  }

  clear() {
    this.list.replaceChildren();
    this.list.hidden = true;
  }

  show({ files, dirs, skipped }) {
    const top = this.lines(build(files, dirs), "", 0, TOP);
    this.list.replaceChildren(...top, ...this.leftOut(skipped));
    this.list.hidden = false;
    this.mark();
  }

  lines(node, prefix, depth, limit) {
    const folders = [...node.folders].sort(([a], [b]) => a.localeCompare(b));
    const files = [...node.files].sort((a, b) => a.name.localeCompare(b.name));
    const make = [
      ...folders.map(([name, inner]) => () => this.folder(name, inner, `${prefix}${name}/`, depth)),
      ...files.map((item) => () => this.file(item, depth)),
    ];
    const page = (from) => {
      const some = make.slice(from, from + limit).map((one) => one());
      const rest = make.length - from - limit;
      if (rest > 0) {
        const item = more(`${rest.toLocaleString("en")} more`, (place) => {
          place.replaceWith(...page(from + limit));
          this.mark();
        });
        item.style.setProperty("--d", depth);
        item.dataset.depth = depth;
        some.push(item);
      }
      return some;
    };
    return page(0);
  }

  folder(name, inner, path, depth) {
    const item = line("folder", "", "", inner.count ? plural(inner.count, "file") : "empty", depth);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "fold";
    button.textContent = name;
    button.setAttribute("aria-expanded", "false");
    item.querySelector(".trunc").replaceWith(button);
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      if (open) {
        while (Number(item.nextElementSibling?.dataset.depth) > depth) item.nextElementSibling.remove();
      } else item.after(...this.lines(inner, path, depth + 1, INSIDE));
      this.mark();
    });
    return item;
  }

  file({ path, name, size }, depth) {
    const item = line("file", name, "entry script", filesize(size), depth);
    item.querySelector(".why").hidden = true;
    item.dataset.path = path;
    return item;
  }

  leftOut(skipped) {
    const make = skipped.map(({ path, why, bytes }) => () => {
      const list = / in (\.\w+)$/.exec(why)?.[1];
      const words = ["skipped", ...(bytes === undefined ? [] : [filesize(bytes)]), list ? `listed in ${list}` : why];
      const item = line("slash", path, words.join(", "), "", 0);
      item.classList.add("skip2");
      item.title = why;
      return item;
    });
    const some = make.slice(0, SKIPPED).map((one) => one());
    if (make.length > SKIPPED) {
      const rest = make.slice(SKIPPED);
      some.push(more(`${rest.length.toLocaleString("en")} more skipped`, (place) => place.replaceWith(...rest.map((one) => one()))));
    }
    return some;
  }

  // Mark the entry script among the lines that are shown.
  mark() {
    const script = this.script();
    for (const item of this.list.querySelectorAll("[data-path]")) {
      const on = item.dataset.path === script;
      item.classList.toggle("on", on);
      item.querySelector(".why").hidden = !on;
    }
  }
}
