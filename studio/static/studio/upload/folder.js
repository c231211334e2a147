// A project folder as the browser gives it, chosen or dropped: what of it is kept, and what is left out and why.
//
// Both ways give the same nodes: {name, folder, children() → nodes, file() → File, total() → [files, bytes] or null}.
import { IgnoreRules, NAMES, VENV_MARK } from "./gitignore.js";

const MAX_DEPTH = 100;
const AT_ONCE = 64;

export class BadFolder extends Error {}

// The folder that `<input webkitdirectory>` gives as a flat list of files; null for an empty one.
export function chosen(list) {
  const make = (name) => {
    const inside = new Map();
    const node = { name, folder: true, inside, files: 0, bytes: 0, children: async () => [...inside.values()] };
    node.total = () => [node.files, node.bytes];
    return node;
  };
  let root = null;
  for (const file of list) {
    const parts = file.webkitRelativePath.split("/");
    root ??= make(parts[0]);
    let node = root;
    for (let at = 1; at < parts.length; at++) {
      node.files++;
      node.bytes += file.size;
      const name = parts[at];
      if (at === parts.length - 1) node.inside.set(name, { name, folder: false, file: async () => file });
      else {
        if (!node.inside.has(name)) node.inside.set(name, make(name));
        node = node.inside.get(name);
      }
    }
  }
  return root;
}

// The folder of a drop; null when something else was dropped. Call it within the event: the items are gone afterwards.
export function dropped(items) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return entries.length === 1 && entries[0].isDirectory ? node(entries[0]) : null;
}

function node(entry) {
  if (!entry.isDirectory) return { name: entry.name, folder: false, file: () => new Promise((resolve, reject) => entry.file(resolve, reject)) };
  const children = async () => {
    const reader = entry.createReader();
    const all = [];
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
      if (!some.length) return all.map(node);
      all.push(...some);
    }
  };
  return { name: entry.name, folder: true, children, total: () => null };
}

// Read a folder: {name, files: [{path, file, size}], dirs: empty folders, skipped: [{path, why, files, bytes}], git}.
// `progress(files)` counts what was found. Throws BadFolder, or AbortError.
export async function read(root, progress, signal) {
  const found = { name: root.name, files: [], dirs: [], skipped: [], git: null, rules: new IgnoreRules() };
  const top = await root.children();
  const ignore = NAMES.map((name) => top.find((child) => child.name === name && !child.folder)).find(Boolean);
  if (ignore) found.rules = new IgnoreRules(ignore.name, await (await ignore.file()).text());
  await descend(found, top, "", 0, progress, signal);
  return found;
}

async function descend(found, children, prefix, depth, progress, signal) {
  if (depth > MAX_DEPTH) throw new BadFolder(`${prefix.slice(0, 60)}… lies more than ${MAX_DEPTH} folders deep. Move it up.`);
  const kept = [];
  let any = false;
  for (const child of children) {
    const path = prefix + child.name;
    if (child.name === ".git" && child.folder && !prefix) found.git = child;
    const why = found.rules.why(path, child.folder);
    if (why) found.skipped.push(await left(child, path, why));
    else kept.push([path, child]);
  }
  for (let at = 0; at < kept.length; at += AT_ONCE) {
    signal.throwIfAborted();
    const some = kept.slice(at, at + AT_ONCE).filter(([, child]) => !child.folder);
    const files = await Promise.all(some.map(([, child]) => child.file()));
    files.forEach((file, n) => found.files.push({ path: some[n][0], file, size: file.size }));
    any ||= files.length > 0;
  }
  progress(found.files.length);
  for (const [path, child] of kept.filter(([, one]) => one.folder)) {
    const inner = await child.children();
    if (inner.some((one) => one.name === VENV_MARK)) {
      found.skipped.push(await left(child, path, "a virtual environment"));
      continue;
    }
    any = true;
    await descend(found, inner, `${path}/`, depth + 1, progress, signal);
  }
  if (!any && prefix) found.dirs.push(prefix.slice(0, -1));
}

async function left(child, path, why) {
  const [files, bytes] = child.folder ? (child.total() ?? []) : [1, (await child.file()).size];
  return { path: child.folder ? `${path}/` : path, why, files, bytes };
}
