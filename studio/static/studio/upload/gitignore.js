// Which files of a folder are left out, by the one ignore file in its root, in gitignore's syntax. The same rules, in the
// same words, as the studio's own `runs/ignore.py`.

export const NAMES = [".runignore", ".amlignore", ".gitignore"];
export const ALWAYS = new Set([".git", "__pycache__", ".ipynb_checkpoints", ".DS_Store"]);
export const VENV_MARK = "pyvenv.cfg";

const POSIX = {
  alnum: "\\p{L}\\p{N}", alpha: "\\p{L}", blank: " \\t", cntrl: "\\x00-\\x1f\\x7f", digit: "0-9", graph: "\\x21-\\x7e",
  lower: "\\p{Ll}", print: "\\x20-\\x7e", punct: "!-\\/:-@\\[-`{-~", space: "\\s", upper: "\\p{Lu}", xdigit: "0-9A-Fa-f",
};
const escaped = (c) => (/[\\^$.*+?()[\]{}|/-]/.test(c) ? `\\${c}` : c);

// A bracket expression that begins at `at`: [its source, the place behind it], or null when it never ends.
function bracket(text, at) {
  let i = at + 1;
  const negated = text[i] === "!" || text[i] === "^";
  if (negated) i++;
  let inside = "";
  for (let first = true; ; first = false) {
    if (i >= text.length) return null;
    if (text[i] === "]" && !first) break;
    const named = /^\[:([a-z]+):\]/.exec(text.slice(i));
    if (named) {
      if (!(named[1] in POSIX)) return null;
      inside += POSIX[named[1]];
      i += named[0].length;
      continue;
    }
    if (text[i] === "\\" && i + 1 < text.length) i++;
    let low = String.fromCodePoint(text.codePointAt(i));
    i += low.length;
    if (text[i] === "-" && i + 1 < text.length && text[i + 1] !== "]") {
      i++;
      if (text[i] === "\\" && i + 1 < text.length) i++;
      const high = String.fromCodePoint(text.codePointAt(i));
      i += high.length;
      if (low <= high) inside += `${escaped(low)}-${escaped(high)}`;
      continue;
    }
    inside += escaped(low);
  }
  // A bracket never matches a slash.
  const source = negated ? `[^/${inside}]` : inside ? `(?!/)[${inside}]` : "(?!)";
  return [source, i + 1];
}

// One part between slashes as a regular expression; null when it can match nothing.
function part(text) {
  let source = "";
  for (let i = 0; i < text.length; ) {
    const c = text[i];
    if (c === "\\") {
      if (i + 1 >= text.length) return null;
      const next = String.fromCodePoint(text.codePointAt(i + 1));
      source += escaped(next);
      i += 1 + next.length;
    } else if (c === "*") {
      while (text[i] === "*") i++;
      source += "[^/]*";
    } else if (c === "?") {
      source += "[^/]";
      i++;
    } else if (c === "[") {
      const found = bracket(text, i);
      if (!found) return null;
      source += found[0];
      i = found[1];
    } else {
      const whole = String.fromCodePoint(text.codePointAt(i));
      source += escaped(whole);
      i += whole.length;
    }
  }
  return source;
}

// A line as {keep, folders, match}, or null when it is no rule.
export function rule(line) {
  let text = line;
  // Spaces at the end do not count, unless a backslash says so.
  while (/[ \t]$/.test(text) && !/(^|[^\\])(\\\\)*\\[ \t]$/.test(text)) text = text.slice(0, -1);
  if (!text || text.startsWith("#")) return null;
  const keep = text.startsWith("!");
  if (keep) text = text.slice(1);
  const folders = text.endsWith("/");
  if (folders) text = text.slice(0, -1);
  if (!text || text === "/") return null;
  const anchored = text.includes("/");
  if (text.startsWith("/")) text = text.slice(1);
  const parts = text.split("/");
  let source = anchored ? "^" : "^(?:.*/)?";
  let slash = "";
  for (const [at, piece] of parts.entries()) {
    if (piece === "**") {
      if (at === parts.length - 1) source += at ? "/.+" : ".+";
      else if (at === 0) source += "(?:.*/)?";
      else source += "/(?:.*/)?";
      slash = "";
      continue;
    }
    const found = part(piece);
    if (found === null || (piece === "" && parts.length > 1)) return null;
    source += slash + found;
    slash = "/";
    if (parts[at + 1] === "**") slash = "";
  }
  try {
    return { keep, folders, match: new RegExp(`${source}$`, "su") };
  } catch {
    return null;
  }
}

export class IgnoreRules {
  // `name`: the ignore file's; `text`: what it says.
  constructor(name = "", text = "") {
    this.name = name;
    this.rules = [];
    for (const line of text.replace(/^\ufeff/, "").split(/\r\n|\n|\r/)) {
      const made = rule(line);
      if (made) this.rules.push({ ...made, line: line.trim() });
    }
  }

  // Why a path is left out, or "". A folder that is left out takes with it all that is in it: ask for it first.
  why(path, folder) {
    if (ALWAYS.has(path.slice(path.lastIndexOf("/") + 1))) return "always left out";
    for (let at = this.rules.length - 1; at >= 0; at--) {
      const { keep, folders, match, line } = this.rules[at];
      if ((folder || !folders) && match.test(path)) return keep ? "" : `${line} in ${this.name}`;
    }
    return "";
  }
}
