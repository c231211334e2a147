// Facts of a git repository, read out of its `.git` folder in the browser. Nothing of that folder is sent.

const MAX = 4 * 1024 * 1024;
const COMMIT = /^[0-9a-f]{40}([0-9a-f]{24})?$/;

// `read(path)` resolves to the text of a file below `.git`, or null. Resolves to {repository_uri, branch, commit} as far as
// known, or null when this is no repository. Whether there are uncommitted changes cannot be told from here.
export async function facts(read) {
  const head = (await read("HEAD"))?.trim();
  if (!head) return null;
  const found = {};
  if (COMMIT.test(head)) found.commit = head;
  const name = /^ref:\s*(refs\/\S+)$/.exec(head)?.[1];
  if (name) {
    if (name.startsWith("refs/heads/")) found.branch = name.slice("refs/heads/".length);
    const commit = (await read(name))?.trim() ?? packed((await read("packed-refs")) ?? "", name);
    if (COMMIT.test(commit)) found.commit = commit;
  }
  const address = remote(sections((await read("config")) ?? ""), found.branch);
  if (address) found.repository_uri = mask(address);
  return found;
}

function packed(text, name) {
  for (const line of text.split("\n")) {
    if (line.endsWith(` ${name}`)) return line.slice(0, line.indexOf(" "));
  }
  return "";
}

// A configuration as a map: `remote.origin.url` → value.
export function sections(text) {
  const values = new Map();
  let section = "";
  for (const line of text.split("\n")) {
    const head = /^\s*\[\s*([^\s\]"]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]/.exec(line);
    const rest = head ? line.slice(head[0].length) : line;
    if (head) section = head[2] === undefined ? head[1].toLowerCase() : `${head[1].toLowerCase()}.${head[2].replace(/\\(.)/g, "$1")}`;
    const pair = /^\s*([A-Za-z][A-Za-z0-9-]*)\s*=\s*(.*?)\s*$/.exec(rest);
    if (pair && section) values.set(`${section}.${pair[1].toLowerCase()}`, value(pair[2]));
  }
  return values;
}

function value(text) {
  let plain = "";
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (c === '"') quoted = !quoted;
    else if (c === "\\" && at + 1 < text.length) plain += text[++at];
    else if (!quoted && (c === "#" || c === ";")) break;
    else plain += c;
  }
  return plain.trim();
}

// The address of the branch's own remote, else of origin, else of the first.
function remote(config, branch) {
  const names = [...config.keys()].map((key) => /^remote\.(.+)\.url$/.exec(key)?.[1]).filter(Boolean);
  const name = [config.get(`branch.${branch}.remote`), "origin", names[0]].find((one) => names.includes(one));
  return name === undefined ? "" : config.get(`remote.${name}.url`);
}

// The address without user, password, token or query. The server does the same again.
export function mask(address) {
  if (!address.includes("://")) return address;
  const plain = address.replace(/[?#].*$/s, "");
  return /^ssh:/i.test(plain) ? plain.replace(/^(ssh:\/\/[^/@:]*):[^/]*@/i, "$1:***@") : plain.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/]*@/i, "$1***@");
}

// A reader of files below a node of `folder.js`.
export function readerOf(git) {
  return async (path) => {
    let node = git;
    for (const part of path.split("/")) {
      if (!node?.folder) return null;
      node = (await node.children()).find((child) => child.name === part);
    }
    if (!node || node.folder) return null;
    const file = await node.file();
    return file.size > MAX ? null : file.text();
  };
}
