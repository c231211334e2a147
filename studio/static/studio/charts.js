// Charts of metrics. A frame is drawn when it is scrolled near; its points come in buckets of extremes, and while the run
// goes on only what is new is asked for. Colours are read from the style sheet, so that both themes are right.
import { announce } from "./common.js";
import uPlot from "../vendor/uplot.js";

const EVERY = 5000;
const MOST = 3000;
const TOKENS = ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "grid", "line-2", "text-3", "surface", "warn"];
const DASHES = [[], [6, 3], [1.5, 3], [10, 3, 2, 3]];
const near = 400;

// ---- colours -----------------------------------------------------------------------------------------------------
const probe = document.createElement("span");
probe.id = "probe";
const colours = {};
function readColours() {
  if (!probe.isConnected) document.body.append(probe);
  for (const token of TOKENS) {
    probe.style.color = `var(--${token})`;
    colours[token] = getComputedStyle(probe).color;
  }
}
const faint = (colour) => colour.replace(/^rgb\((.*)\)$/, "rgba($1, .28)");

// ---- numbers -----------------------------------------------------------------------------------------------------
export function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-4 || size >= 1e7) return value.toExponential(3);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}
const bytes = (value) => {
  const power = Math.min(4, Math.floor(Math.log10(Math.max(1, value)) / 3));
  return `${+(value / 1000 ** power).toFixed(1)} ${["B", "KB", "MB", "GB", "TB"][power]}`;
};
const tick = (value) => {
  if (value === null) return "";
  const size = Math.abs(value);
  if (size >= 1e9) return `${+(value / 1e9).toPrecision(3)}G`;
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return size !== 0 && size < 1e-3 ? value.toExponential(0) : String(+value.toPrecision(4));
};
// What a chart shows above and below its values: around a flat line as much as that is high, and not 0 to 100 around a zero.
const around = (_, low, high) => {
  if (low === null) return [null, null];
  if (low !== high) return uPlot.rangeNum(low, high, 0.1, true);
  const room = Math.abs(low) || 1;
  return [low - room, high + room];
};
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

// Exponential moving average that starts at the first value; a gap stays a gap.
function smoothed(values, weight) {
  let mean = null;
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    mean = mean === null ? value : mean * weight + value * (1 - weight);
    return mean;
  });
}

// ---- one frame ---------------------------------------------------------------------------------------------------
class Frame {
  constructor(element, board) {
    this.element = element;
    this.board = board;
    this.canvas = element.querySelector(".canvas");
    this.series = [...element.querySelectorAll("[data-series]")].map((mark) => ({
      id: mark.dataset.series, name: mark.dataset.name, x: [], y: [], next: 0, sampled: false, count: 0,
    }));
    this.unit = element.dataset.unit ?? "step"; // the machine's own measures are counted, not stepped
    this.loaded = false;
    this.zoomed = false;
    this.plot = null;
    element.querySelector("[data-table]")?.addEventListener("click", (event) => this.table(event.currentTarget));
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.canvas);
  }

  size() {
    return { width: Math.max(120, this.canvas.clientWidth), height: Math.max(80, this.canvas.clientHeight) };
  }

  take(answer) {
    for (const series of this.series) {
      const part = answer[series.id];
      if (part) Object.assign(series, part);
    }
    this.loaded = true;
    this.full = this.series.map(({ x, y, sampled }) => ({ x, y, sampled }));
    this.draw();
  }

  // New points behind the old ones. False: they do not fit there, all must be read again.
  append(answer) {
    let grown = false;
    for (const series of this.series) {
      const part = answer[series.id];
      if (!part) continue;
      grown = true;
      if (part.x.length && series.x.length && part.x[0] < series.x[series.x.length - 1]) return false;
      series.x = series.x.concat(part.x);
      series.y = series.y.concat(part.y);
      series.next = part.next;
      series.count += part.count;
      if (series.x.length > MOST) return false;
    }
    if (grown) {
      this.full = this.series.map(({ x, y, sampled }) => ({ x, y, sampled }));
      if (this.plot && !this.zoomed) this.plot.setData(this.data());
      else if (!this.plot) this.draw();
      this.facts();
    }
    return true;
  }

  facts() {
    const first = this.series[0];
    const last = [...first.y].reverse().find((value) => value !== null && value !== undefined);
    const place = this.element.querySelector("[data-last]");
    if (place && last !== undefined) {
      place.textContent = "bytes" in this.element.dataset ? bytes(last) : figure(last);
      place.title = String(last);
    }
    const note = this.element.querySelector("[data-sampled]");
    if (note) {
      note.textContent = first.sampled ? "sampled" : "";
      note.title = first.sampled ? "The lowest and the highest point of each stretch are shown" : "";
    }
  }

  get smooth() {
    return this.board.smooth;
  }

  data() {
    const log = this.board.log;
    const clean = (values) => (log ? values.map((value) => (value > 0 ? value : null)) : values);
    const tables = this.series.map(({ x, y }) => {
      const values = clean(y);
      return this.smooth ? [x, values, smoothed(values, this.smooth)] : [x, values];
    });
    return tables.length === 1 ? tables[0] : uPlot.join(tables, tables.map((table) => table.map(() => 2)));
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.series.some((series) => series.x.length)) return;
    const time = this.board.x === "time";
    const lines = [];
    this.series.forEach((series, n) => {
      const token = `s${(n % 8) + 1}`;
      const dash = DASHES[n % DASHES.length];
      const few = series.x.length === 1;
      const line = { label: series.name, width: 1.75, dash, points: { show: few, size: 6 }, stroke: () => colours[token] };
      if (this.smooth) lines.push({ ...line, width: 1, dash: [], stroke: () => faint(colours[token]), raw: true });
      lines.push(line);
    });
    const font = '10.5px "Inter Variable", system-ui, sans-serif';
    const axis = { stroke: () => colours["text-3"], font, ticks: { show: false } };
    const options = {
      ...this.size(),
      padding: [6, 8, 0, 0],
      legend: { show: false },
      scales: { x: { time }, y: this.board.log ? { distr: 3 } : { range: around } },
      axes: [
        { ...axis, size: 25, gap: 7, space: 70, grid: { show: false }, border: { show: true, width: 1, stroke: () => colours["line-2"] },
          values: time ? undefined : (_, marks) => marks.map((at, n) => (n ? tick(at) : `${this.unit} ${tick(at)}`)) },
        { ...axis, size: 44, gap: 5, space: 34, grid: { stroke: () => colours.grid, width: 1 }, values: (_, marks) => marks.map(tick) },
      ],
      cursor: {
        sync: { key: "metrics", setSeries: false }, points: { size: 7 }, drag: { x: true, y: false, dist: 6 },
        bind: { dblclick: (_, __, handler) => (event) => { handler(event); this.reset(); } },
      },
      series: [{}, ...lines],
      hooks: {
        setCursor: [(plot) => this.tip(plot)],
        setSelect: [(plot) => this.zoom(plot)],
        draw: [(plot) => this.gaps(plot)],
      },
    };
    this.plot = new uPlot(options, this.data(), this.canvas);
    const [first, second] = this.plot.data[0];
    if (second === undefined) this.plot.setScale("x", { min: first - 1, max: first + 1 }); // alone, it stands in the middle
    this.box = document.createElement("div");
    this.box.className = "tip";
    this.box.hidden = true;
    this.canvas.append(this.box);
    this.facts();
  }

  // A value that is no number breaks the line and leaves a triangle on the axis.
  gaps(plot) {
    if (this.series.length > 1) return;
    const { ctx, bbox } = plot;
    const { x, y } = this.series[0];
    ctx.save();
    ctx.fillStyle = colours.warn;
    for (let n = 0; n < x.length; n += 1) {
      if (y[n] !== null) continue;
      const at = plot.valToPos(x[n], "x", true);
      if (at < bbox.left || at > bbox.left + bbox.width) continue;
      const foot = bbox.top + bbox.height;
      const size = 4 * devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(at, foot - 1.6 * size);
      ctx.lineTo(at + size, foot);
      ctx.lineTo(at - size, foot);
      ctx.fill();
    }
    ctx.restore();
  }

  tip(plot) {
    const { idx, left, top } = plot.cursor;
    if (idx === null || idx === undefined || left < 0) {
      this.box && (this.box.hidden = true);
      return;
    }
    // Other charts of the page show the cursor, the one under the pointer shows the values.
    if (!this.canvas.matches(":hover")) {
      if (this.box) this.box.hidden = true;
      return;
    }
    const at = plot.data[0][idx];
    const head = document.createElement("b");
    head.textContent = this.board.x === "time" ? clock(at) : `${this.unit} ${at.toLocaleString("en")}`;
    const lines = plot.series
      .map((series, n) => ({ series, n, value: n ? plot.data[n][idx] : null }))
      .filter(({ series, n, value }) => n && !series.raw && value !== null && value !== undefined)
      .sort((a, b) => b.value - a.value)
      .map(({ series, n, value }) => {
        const line = document.createElement("div");
        const mark = document.createElement("span");
        mark.className = ["sw", "sw dash", "sw dot", "sw dash"][plot.series.filter((other, m) => m && m <= n && !other.raw).length - 1] ?? "sw dash";
        mark.style.setProperty("--c", series.stroke());
        const number = document.createElement("i");
        number.textContent = figure(value);
        line.append(mark, document.createTextNode(series.label), number);
        return line;
      });
    this.box.replaceChildren(head, ...lines);
    this.box.hidden = false;
    const offset = plot.bbox.left / devicePixelRatio;
    const width = this.box.offsetWidth;
    const right = left + offset + 14;
    const place = right + width > this.canvas.clientWidth ? left + offset - width - 14 : right;
    this.box.style.transform = `translate(${Math.max(0, place)}px, ${Math.max(0, top - 10)}px)`;
  }

  async zoom(plot) {
    if (!plot.select.width) return;
    this.zoomed = true;
    if (this.board.x !== "step" || !this.full?.some((part) => part.sampled)) return;
    // Nearer in, the server has more points than the buckets show.
    const low = Math.floor(plot.posToVal(plot.select.left, "x"));
    const high = Math.ceil(plot.posToVal(plot.select.left + plot.select.width, "x"));
    const answer = await this.board.ask(this.series.map((series) => series.id), `&low=${low}&high=${high}`);
    if (!answer || !this.zoomed) return;
    for (const series of this.series) {
      const part = answer.series[series.id];
      if (part) [series.x, series.y, series.sampled] = [part.x, part.y, part.sampled];
    }
    this.plot.setData(this.data(), false);
    this.plot.setScale("x", { min: low, max: high });
    this.facts();
  }

  reset() {
    if (!this.zoomed) return;
    this.zoomed = false;
    this.series.forEach((series, n) => Object.assign(series, this.full[n]));
    this.plot.setData(this.data());
    this.facts();
  }

  table(button) {
    const open = this.element.querySelector(".tablewrap");
    button.setAttribute("aria-expanded", String(!open));
    button.textContent = open ? "View as table" : "View as chart";
    this.canvas.hidden = !open;
    if (open) {
      open.remove();
      return;
    }
    const wrap = document.createElement("div");
    wrap.className = "tablewrap";
    wrap.tabIndex = 0;
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of [this.board.x, ...this.series.map((series) => series.name)]) {
      const cell = document.createElement("th");
      cell.textContent = name;
      head.append(cell);
    }
    const body = table.createTBody();
    const tables = this.series.map(({ x, y }) => [x, y]);
    const joined = tables.length === 1 ? tables[0] : uPlot.join(tables);
    const [xs, ...columns] = joined;
    xs.forEach((at, n) => {
      const row = body.insertRow();
      row.insertCell().textContent = this.board.x === "time" ? clock(at) : at;
      for (const column of columns) row.insertCell().textContent = column[n] === null ? "NaN" : figure(column[n]);
    });
    wrap.append(table);
    this.canvas.after(wrap);
  }
}

// ---- all frames of a page ----------------------------------------------------------------------------------------
class Board {
  constructor(element) {
    this.element = element;
    this.address = element.dataset.charts;
    this.x = element.dataset.x ?? "step";
    this.smooth = 0;
    this.log = false;
    this.frames = new Map();
    this.waiting = new Set();
    this.timer = 0;
    this.failures = 0;
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const frame = this.frames.get(entry.target);
        if (entry.isIntersecting && !frame.loaded) this.want(frame);
        frame.near = entry.isIntersecting;
      }
    }, { rootMargin: `${near}px` });
    for (const figure of element.querySelectorAll("[data-chart]")) {
      this.frames.set(figure, new Frame(figure, this));
      this.seen.observe(figure);
    }
    if ("live" in element.dataset) setTimeout(() => this.poll(), EVERY);
  }

  async ask(ids, more = "") {
    try {
      const answer = await fetch(`${this.address}?x=${this.x}&s=${ids.join(",")}${more}`, { credentials: "same-origin" });
      if (!answer.ok) return null;
      return await answer.json();
    } catch {
      return null;
    }
  }

  want(frame) {
    this.waiting.add(frame);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), 20);
  }

  async load() {
    const frames = [...this.waiting];
    this.waiting.clear();
    for (let n = 0; n < frames.length; n += 6) {
      const part = frames.slice(n, n + 6);
      const answer = await this.ask(part.flatMap((frame) => frame.series.map((series) => series.id)));
      if (!answer) {
        for (const frame of part) frame.canvas.textContent = "The points could not be read. Reload the page to try again.";
        continue;
      }
      for (const frame of part) frame.take(answer.series);
    }
  }

  async poll() {
    if (!this.element.isConnected) return;
    const again = () => setTimeout(() => this.poll(), Math.min(60_000, EVERY * 2 ** Math.max(0, this.failures - 2)));
    if (document.hidden) return again();
    const drawn = [...this.frames.values()].filter((frame) => frame.loaded && frame.near);
    const ids = drawn.flatMap((frame) => frame.series.map((series) => (series.next ? `${series.id}:${series.next}` : series.id)));
    const answer = await this.ask(ids.slice(0, 60));
    if (!answer) {
      this.failures += 1;
      return again();
    }
    this.failures = 0;
    for (const frame of drawn) {
      if (!frame.append(answer.series)) this.want(frame);
    }
    this.news(answer.total);
    if (!answer.final) again();
  }

  news(total) {
    const place = this.element.querySelector("[data-new]");
    const more = total - Number(this.element.dataset.total ?? total);
    if (!place || more <= 0) return;
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = more === 1 ? "1 new metric. Show" : `${more} new metrics. Show`;
    if (place.hidden) announce(link.textContent);
    place.replaceChildren(link);
    place.hidden = false;
  }

  redraw() {
    for (const frame of this.frames.values()) if (frame.loaded) frame.draw();
  }

  again() {
    for (const frame of this.frames.values()) {
      frame.loaded = false;
      frame.zoomed = false;
      if (frame.near) this.want(frame);
    }
  }
}

const boards = new Map();
function scan() {
  for (const element of document.querySelectorAll("[data-charts]")) {
    if (!boards.has(element)) boards.set(element, new Board(element));
  }
  for (const element of boards.keys()) if (!element.isConnected) boards.delete(element);
}

document.addEventListener("themechange", () => {
  readColours();
  for (const board of boards.values()) board.redraw();
});
document.addEventListener("htmx:afterSettle", scan);

// ---- controls of the Metrics tab: kept in the address ------------------------------------------------------------
const controls = document.querySelector("[data-charts-controls]");
function remember(name, value) {
  const address = new URL(location.href);
  if (value) address.searchParams.set(name, value);
  else address.searchParams.delete(name);
  history.replaceState(null, "", address);
}
function setSmooth(value) {
  controls.querySelector("[data-smooth-text]").textContent = value ? value.toFixed(2) : "none";
  for (const board of boards.values()) board.smooth = value;
}

readColours();
scan();

if (controls) {
  const slider = controls.querySelector("[data-smooth]");
  const log = controls.querySelector("[data-log]");
  setSmooth(Number(slider.value));
  slider.addEventListener("input", () => {
    setSmooth(Number(slider.value));
    remember("smooth", Number(slider.value) ? slider.value : "");
    for (const board of boards.values()) board.redraw();
  });
  const setLog = (on) => {
    log.setAttribute("aria-pressed", String(on));
    for (const board of boards.values()) board.log = on;
  };
  setLog(new URL(location.href).searchParams.has("log"));
  log.addEventListener("click", () => {
    const on = log.getAttribute("aria-pressed") !== "true";
    setLog(on);
    remember("log", on ? "1" : "");
    for (const board of boards.values()) board.redraw();
  });
  for (const button of controls.querySelectorAll("[data-x]")) {
    button.addEventListener("click", (event) => {
      event.preventDefault();
      for (const other of controls.querySelectorAll("[data-x]")) other.setAttribute("aria-pressed", String(other === button));
      remember("x", button.value === "time" ? "time" : "");
      for (const board of boards.values()) {
        board.x = button.value;
        board.again();
      }
    });
  }
}
