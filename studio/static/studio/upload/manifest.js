// The manifest of a snapshot: the bytes whose SHA-256 is its id. One form only, so that equal folders have equal ids; see
// docs/run-directory.md.

// Order by code points. The language's own order is by UTF-16 units, which differs beyond the basic plane.
export function byCodePoint(a, b) {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const x = a.charCodeAt(at);
    const y = b.charCodeAt(at);
    if (x !== y) {
      const high = (unit) => unit >= 0xd800 && unit <= 0xdfff;
      return high(x) === high(y) ? x - y : high(x) ? 1 : -1;
    }
  }
  return a.length - b.length;
}

// `files`: [{path, size, digest}]; `dirs`: empty folders. A browser tells neither modes nor links. Sorts `files` in place, so
// that positions in the manifest are positions in the list.
export function manifest(files, dirs) {
  files.sort((a, b) => byCodePoint(a.path, b.path));
  const entries = files.map(({ path, size, digest }) => [path, 0o644, size, digest]);
  const body = { v: 1, files: entries, links: [], dirs: [...dirs].sort(byCodePoint) };
  return new TextEncoder().encode(JSON.stringify(body));
}
