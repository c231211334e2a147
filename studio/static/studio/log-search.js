// Searching a log: the server finds the lines, the browser marks what it found in those that are in the page.

// Ranges of a text over the nodes it may be split into.
function* matches(element, query) {
  const nodes = [];
  let text = "";
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    nodes.push([text.length, walker.currentNode]);
    text += walker.currentNode.data;
  }
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return;
  const place = (offset) => {
    const [start, node] = nodes.findLast(([begin]) => begin <= offset);
    return [node, offset - start];
  };
  for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, at + query.length)) {
    const range = document.createRange();
    range.setStart(...place(at));
    const [node, offset] = place(at + query.length - 1);
    range.setEnd(node, offset + 1);
    yield range;
  }
}

export class Finder {
  constructor(viewer) {
    this.viewer = viewer;
    this.found = null;
  }

  // Ask for what is typed; with a direction, go to the next or the previous line that holds it.
  async search(direction) {
    const viewer = this.viewer;
    const query = viewer.part("search").value;
    const output = viewer.card.querySelector(".found");
    if (!query) {
      this.found = null;
      output.textContent = "";
      this.highlight();
      return;
    }
    if (this.found?.query !== query || this.found.size !== viewer.size) {
      output.textContent = "…";
      const asked = (this.asked = Symbol("search"));
      const found = await viewer.ask("search", { q: query }).catch((error) => viewer.failed(error));
      if (this.asked !== asked || !found) return;
      this.found = { query, size: viewer.size, lines: found.lines ?? [], more: found.more };
    }
    const { lines, more } = this.found;
    let at = -1;
    if (direction && lines.length) {
      const from = viewer.cursor || viewer.topLine() - 1;
      at = direction > 0 ? lines.findIndex((line) => line > from) : lines.findLastIndex((line) => line < from);
      if (at < 0 && direction > 0 && more) {
        const next = await viewer.ask("search", { q: query, after: from, limit: 1 }).catch(() => null);
        if (next?.lines?.length) {
          viewer.go(next.lines[0]);
          output.textContent = `${lines.length.toLocaleString("en")}+`;
          this.highlight();
          return;
        }
      }
      if (at < 0) at = direction > 0 ? 0 : lines.length - 1;
      viewer.marked = null;
      viewer.go(lines[at]);
    }
    const total = lines.length.toLocaleString("en") + (more ? "+" : "");
    output.textContent = !lines.length ? "None" : at < 0 ? total : `${(at + 1).toLocaleString("en")} of ${total}`;
    this.highlight();
  }

  highlight() {
    const viewer = this.viewer;
    if (!globalThis.Highlight) return;
    CSS.highlights.delete("log-search");
    const query = this.found?.query.toLowerCase();
    if (!query) return;
    const ranges = [];
    const hits = new Set(this.found.lines);
    for (const block of viewer.blocks.values()) {
      for (const row of block.children) {
        if (hits.has(Number(row.id.slice(1))) || this.found.more) ranges.push(...matches(row.lastElementChild, query));
      }
    }
    CSS.highlights.set("log-search", new Highlight(...ranges));
  }
}
