// The log viewer. The server holds the lines and makes the rows; here about three blocks of 1,000 rows are in the page, with a
// spacer above and below for the rest. What a person reads never moves by itself: every change of heights above it is taken back.
import { key } from "./keys.js";
import { announce, typing } from "./common.js";
import { Finder } from "./log-search.js";

const BLOCK = 1000;
const KEPT = 3;
const NEAR = 6000; // pixels from the edge of what is loaded at which the next block is fetched
const TALLEST = 28e6; // browsers cannot make elements higher than about 33 million pixels
const SILENCE = 30e3;
const STORE = "runstead.log";

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const words = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
const rowNumber = (row) => Number(row.id.slice(1));

function since(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return `${h}:${String(m).padStart(2, "0")}:${String(s).padStart(2, "0")}`;
}

class Viewer {
  constructor(card) {
    this.card = card;
    this.log = card.querySelector(".log");
    [this.above, this.below] = this.log.querySelectorAll(".pad");
    this.url = card.dataset.url;
    this.stream = card.dataset.stream;
    this.lines = Number(card.dataset.lines);
    this.size = Number(card.dataset.size);
    this.live = card.dataset.live === "1";
    this.began = Number(card.dataset.began) || null;
    this.compact = card.classList.contains("compact");
    this.blocks = new Map(); // number → element; always without gaps
    this.heights = new Map();
    this.rowHeight = 20;
    this.follow = false;
    this.aimed = null;
    this.seen = this.lines;
    this.marked = null;
    this.cursor = 0; // the line that search and "next error" go on from
    this.finder = new Finder(this);
    this.failures = 0;
    this.news = Date.now();
    this.places = Object.fromEntries([...card.querySelectorAll("[data-n]")].map((place) => [place.dataset.n, place]));
    this.adopt(card);
    this.listen();
    this.remembered();
    this.begin();
  }

  part(name) {
    return this.card.querySelector(`[data-do="${name}"]`);
  }

  adopt(card) {
    this.gutter();
    const first = this.log.querySelector(".block");
    if (first.children.length) {
      this.blocks.set(Number(card.dataset.block), first);
      this.decorate(first.children);
    } else {
      first.remove();
    }
    this.layout();
  }

  // Where blocks are, and what stands for those that are not loaded.

  get last() {
    return Math.max(0, Math.ceil(this.lines / BLOCK) - 1);
  }

  get low() {
    return Math.min(...this.blocks.keys());
  }

  get high() {
    return Math.max(...this.blocks.keys());
  }

  rows(number) {
    return Math.max(0, Math.min(BLOCK, this.lines - number * BLOCK));
  }

  height(number) {
    return this.heights.get(number) ?? this.rows(number) * this.rowHeight;
  }

  span(from, to) {
    let sum = (Math.min(to * BLOCK, this.lines) - Math.min(from * BLOCK, this.lines)) * this.rowHeight;
    for (const [number, height] of this.heights) {
      if (number >= from && number < to) sum += height - this.rows(number) * this.rowHeight;
    }
    return Math.max(0, sum);
  }

  layout() {
    let [height, count] = [0, 0];
    for (const [number, block] of this.blocks) {
      this.heights.set(number, block.offsetHeight);
      height += block.offsetHeight;
      count += block.children.length;
    }
    if (count) this.rowHeight = height / count;
    const [over, under] = count ? [this.span(0, this.low), this.span(this.high + 1, this.last + 1)] : [this.span(0, this.last + 1), 0];
    this.scale = Math.min(1, TALLEST / Math.max(1, over + under));
    this.above.style.height = `${over * this.scale}px`;
    this.below.style.height = `${under * this.scale}px`;
  }

  // Change the page, and bring the row at the top of the view back to where it was.
  keep(change) {
    const mark = this.topRow();
    const dy = mark && mark.offsetTop - this.log.scrollTop;
    change();
    this.layout();
    if (mark?.isConnected) this.scrollTo(mark.offsetTop - dy);
    else if (mark) {
      const row = this.row(rowNumber(mark));
      if (row) this.scrollTo(row.offsetTop - dy);
    }
  }

  scrollTo(top) {
    this.log.scrollTop = top;
    this.expected = this.log.scrollTop;
  }

  topRow() {
    const top = this.log.scrollTop;
    for (const number of [...this.blocks.keys()].sort((a, b) => a - b)) {
      const block = this.blocks.get(number);
      if (block.offsetTop + block.offsetHeight <= top) continue;
      const rows = block.children;
      let [low, high] = [0, rows.length - 1];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (rows[middle].offsetTop + rows[middle].offsetHeight > top) high = middle;
        else low = middle + 1;
      }
      return rows[low] ?? null;
    }
    return null;
  }

  topLine() {
    const row = this.topRow();
    return row ? rowNumber(row) : 1;
  }

  row(number) {
    return this.blocks.get(Math.floor((number - 1) / BLOCK))?.children[(number - 1) % BLOCK] ?? null;
  }

  // Asking the server.

  async ask(part, fields, signal) {
    const address = `${this.url}/${part}?${new URLSearchParams({ stream: this.stream, ...fields })}`;
    const answer = await fetch(address, { credentials: "same-origin", signal, headers: { Accept: "application/json" } });
    if (answer.status === 204) return null;
    if (answer.redirected || answer.status === 401) throw Object.assign(new Error("Signed out"), { final: true });
    if (!answer.ok && answer.status !== 410 && answer.status !== 422) throw new Error(`HTTP ${answer.status}`);
    const found = await answer.json();
    if (found.error) this.say(found.error);
    return found;
  }

  say(text) {
    const place = this.card.querySelector(".lstop");
    place.textContent = text;
    place.hidden = !text;
  }

  make(html) {
    const made = document.createElement("template");
    made.innerHTML = html;
    this.decorate(made.content.children);
    return made.content;
  }

  totals(found) {
    this.lines = Math.max(this.lines, found.lines);
    this.size = Math.max(this.size, found.size);
    for (const name of ["lines", "errors", "warnings"]) {
      const place = this.places[name];
      place.textContent = words(found[name], name.slice(0, -1));
      place.classList.toggle("some", name !== "lines" && found[name] > 0);
    }
    this.gutter();
    if (this.lines) this.log.querySelector(".lempty")?.remove();
  }

  // Room for the largest number.
  gutter() {
    this.log.style.setProperty("--num", `${this.lines.toLocaleString("en").length + 3}ch`);
  }

  // Fetch a block that joins those that are loaded.
  async load(number) {
    if (this.loading) return;
    const block = await this.fetched(number);
    if (!block) return;
    this.keep(() => {
      this.blocks.get(number)?.remove();
      this.place(number, block);
      this.trim();
    });
    this.fill();
  }

  // Show a block in place of all that is loaded, and then what `then` says.
  async show(number, then) {
    const aim = (this.aimed = { end: then === this.toEnd });
    clearTimeout(this.jumping);
    const block = await this.fetched(number);
    if (this.aimed !== aim) return;
    this.aimed = null;
    if (!block) return;
    this.replace(number, block);
    then();
    this.fill();
  }

  async fetched(number) {
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    this.loading = true;
    try {
      const found = await this.ask("lines", { from: number * BLOCK + 1, count: BLOCK }, abort.signal);
      if (found?.html === undefined) return null;
      this.totals(found);
      const block = document.createElement("div");
      block.className = "block";
      block.append(this.make(found.html));
      return block;
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
      return null;
    } finally {
      if (this.abort === abort) this.loading = false;
    }
  }

  replace(number, block) {
    for (const old of this.blocks.values()) old.remove();
    this.blocks.clear();
    this.place(number, block);
    this.layout();
  }

  place(number, block) {
    const after = [...this.blocks.keys()].filter((other) => other > number);
    this.log.insertBefore(block, after.length ? this.blocks.get(Math.min(...after)) : this.below);
    this.blocks.set(number, block);
  }

  // Let go of the blocks that are farthest from the view.
  trim() {
    while (this.blocks.size > KEPT) {
      const middle = this.log.scrollTop + this.log.clientHeight / 2;
      const [first, last] = [this.blocks.get(this.low), this.blocks.get(this.high)];
      const away = middle - first.offsetTop - first.offsetHeight > last.offsetTop - middle ? this.low : this.high;
      this.blocks.get(away).remove();
      this.blocks.delete(away);
    }
  }

  // Have what is in view, and a little more.
  fill() {
    clearTimeout(this.jumping);
    if (!this.lines || !this.log.clientHeight || this.aimed) return;
    const { start, end, top, bottom } = this.view();
    if (!this.blocks.size || bottom <= start || top >= end) {
      this.jumping = setTimeout(() => this.jump(), 60);
    } else if (this.loading) {
      // Asked again when it has come.
    } else if (bottom > end - NEAR && this.high < this.last) {
      this.load(this.high + 1);
    } else if (top < start + NEAR && this.low > 0) {
      this.load(this.low - 1);
    } else if (bottom > end - NEAR && this.blocks.get(this.high).children.length < this.rows(this.high)) {
      this.load(this.high);
    }
  }

  view() {
    const top = this.log.scrollTop;
    const start = this.above.offsetTop + this.above.offsetHeight;
    return { top, bottom: top + this.log.clientHeight, start, end: this.below.offsetTop };
  }

  // The block that a place in a spacer stands for, and how far into it.
  where() {
    const { top, end } = this.view();
    const under = this.blocks.size > 0 && top >= end;
    let number = under ? this.high + 1 : 0;
    let wanted = (top - (under ? end : this.above.offsetTop)) / this.scale;
    while (number < this.last && wanted > this.height(number)) wanted -= this.height(number++);
    return { number, part: Math.min(1, Math.max(0, wanted / Math.max(1, this.height(number)))) };
  }

  // The view is in a spacer: somebody pulled the scroll bar, or was faster than the server.
  async jump() {
    const { number } = this.where();
    const block = await this.fetched(number);
    if (!block || this.aimed) return;
    const { start, end, top, bottom } = this.view();
    const now = this.where();
    if (bottom > start && top < end && this.blocks.size) {
      this.fill();
    } else if (now.number !== number) {
      this.jump();
    } else {
      this.replace(number, block);
      this.scrollTo(block.offsetTop + now.part * block.offsetHeight);
      this.fill();
    }
  }

  // Rows as this person wants them: times, marks, hits.
  decorate(rows) {
    for (const row of rows) {
      const time = row.children[1];
      if (time.dataset.t) {
        const at = Number(time.dataset.t);
        time.textContent = this.times === "since" && this.began ? since(at - this.began) : clock.format(at * 1000);
        time.title = full.format(at * 1000);
      }
      const number = rowNumber(row);
      row.classList.toggle("hit", this.marked !== null && number >= this.marked[0] && number <= this.marked[1]);
    }
    if (this.finder.found) requestAnimationFrame(() => this.finder.highlight());
  }

  redecorate() {
    for (const block of this.blocks.values()) this.decorate(block.children);
  }

  // Going somewhere.

  go(number, { mark = true } = {}) {
    if (!this.lines) return;
    const line = Math.min(Math.max(1, number), this.lines);
    this.following(false);
    this.cursor = line;
    if (mark) {
      this.marked = this.marked && line >= this.marked[0] && line <= this.marked[1] ? this.marked : [line, line];
      this.redecorate();
    }
    const show = () => {
      const row = this.row(line);
      if (!row) return;
      const [top, view] = [this.log.scrollTop, this.log.clientHeight];
      // A line that can be seen already is not moved.
      if (row.offsetTop < top + 24 || row.offsetTop + row.offsetHeight > top + view - 24) {
        this.scrollTo(row.offsetTop - Math.floor(view / 3));
      }
      this.fill();
    };
    const block = Math.floor((line - 1) / BLOCK);
    if (this.row(line)) show();
    else this.show(block, show);
  }

  end() {
    if (!this.lines) return;
    if (this.high === this.last && this.blocks.get(this.high)?.children.length === this.rows(this.last)) {
      this.toEnd();
      this.fill();
    } else if (!this.aimed?.end) {
      // A slow server is not asked again while its answer is under way.
      this.show(this.last, this.toEnd);
    }
  }

  toEnd = () => {
    this.scrollTo(this.log.scrollHeight);
    this.rests = true; // at the end, and to stay there when a banner above takes some of the height
  };

  get atEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.log;
    return scrollTop + clientHeight >= scrollHeight - 4;
  }

  following(on) {
    const now = on && this.live;
    if (now !== this.follow) {
      this.follow = now;
      this.seen = this.lines;
      this.part("follow").setAttribute("aria-pressed", String(now));
    }
    if (now) this.end();
    else if (this.aimed?.end) this.aimed = null;
    this.offer();
  }

  offer() {
    const button = this.part("newest");
    const count = this.lines - this.seen;
    button.hidden = this.follow || count <= 0;
    button.textContent = `${words(count, "new line")} ↓`;
  }

  // Live lines.

  async poll() {
    clearTimeout(this.timer);
    if (!this.live || document.hidden || this.polling) return;
    this.polling = true;
    try {
      const found = await this.ask("poll", { after: this.size, from: Math.max(1, this.lines) });
      this.failures = 0;
      if (this.stopped) this.say("");
      this.stopped = null;
      if (found) this.arrived(found);
    } catch (error) {
      this.failed(error);
      if (error.final) return;
    } finally {
      this.polling = false;
    }
    if (!this.live) return;
    const pace = Date.now() - this.news > SILENCE ? 2000 : 1000;
    const wait = this.failures < 3 ? pace : Math.min(60e3, 2000 * 2 ** (this.failures - 3));
    this.timer = setTimeout(() => this.poll(), wait);
  }

  failed(error) {
    if (error.final) {
      this.say("You are signed out. Sign in again to go on.");
      return;
    }
    this.stopped ??= clock.format(Date.now());
    if (++this.failures >= 3) this.say(`Stopped at ${this.stopped}. Reconnecting.`);
  }

  arrived(found) {
    if (found.size > this.size) this.news = Date.now();
    const before = this.lines;
    this.totals(found);
    this.live = found.live;
    if (!this.blocks.size && this.lines) this.follow || this.show(0, () => {});
    else if (found.html && this.complete(before)) this.append(found);
    else this.keep(() => {});
    if (this.follow) this.end();
    else this.fill();
    this.offer();
    if (!this.live) this.ended();
  }

  // Whether the rows up to `lines` are all here, so that the next ones join them.
  complete(lines) {
    const number = Math.max(0, Math.ceil(lines / BLOCK) - 1);
    const block = this.blocks.get(number);
    return Boolean(block) && block.children.length === lines - number * BLOCK;
  }

  append(found) {
    const rows = [...this.make(found.html).children];
    this.keep(() => {
      for (const row of rows) {
        const number = rowNumber(row);
        const old = this.row(number);
        if (old) {
          // The last line was not finished. Leave it where somebody selects it.
          if (!document.getSelection()?.containsNode(old, true)) old.replaceWith(row);
          continue;
        }
        const place = Math.floor((number - 1) / BLOCK);
        if (!this.blocks.has(place)) {
          if (!this.follow && this.blocks.size >= KEPT) break;
          const block = document.createElement("div");
          block.className = "block";
          this.place(place, block);
        }
        this.blocks.get(place).append(row);
      }
      if (this.follow) this.trim();
    });
  }

  ended() {
    const { aimed } = this; // a short run is over with its first lines: the way to their end is still gone to its end
    this.following(false);
    this.aimed = aimed;
    for (const part of [this.card.querySelector(".live"), this.part("follow"), this.card.querySelector(".fkey")]) part.hidden = true;
    const empty = this.log.querySelector(".lempty");
    if (empty && !this.lines) empty.textContent = "Nothing was written.";
    announce("The log has ended.");
  }

  async problem(backwards = false) {
    const from = this.cursor || this.topLine() - 1;
    const direction = backwards ? { direction: "back" } : {};
    const ask = (after) => this.ask("problem", { after, ...direction }).catch((error) => this.failed(error));
    const found = (await ask(from))?.line ?? (from ? (await ask(0))?.line : null);
    if (!found) {
      announce("No errors or warnings.");
      return;
    }
    this.marked = null;
    this.go(found);
  }

  // One line in full.
  async unfold(button) {
    const row = button.closest(".l");
    const text = row.lastElementChild;
    const number = Number(button.dataset.line);
    const found = await this.ask("line", { n: number }).catch((error) => this.failed(error));
    if (!found) return;
    const before = [...text.childNodes];
    const fold = document.createElement("button");
    fold.type = "button";
    fold.className = "folded";
    fold.textContent = "Fold";
    fold.addEventListener("click", () => this.keep(() => text.replaceChildren(...before)));
    const made = document.createElement("template");
    made.innerHTML = found.html;
    this.keep(() => text.replaceChildren(made.content, fold));
    if (found.rest) {
      const rest = document.createElement("a");
      rest.href = `${this.url}/raw?${new URLSearchParams({ stream: this.stream, n: number })}`;
      rest.textContent = `${found.rest.toLocaleString("en")} more bytes: download this line`;
      this.keep(() => text.append(" ", rest));
    }
  }

  // What a person set.

  remembered() {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(STORE) ?? "{}");
    } catch {
      // Nothing is remembered where storage is closed.
    }
    this.times = kept.times ?? "local";
    if (this.times === "since" && !this.began) this.times = "local";
    this.wrapped = kept.wrapped ?? matchMedia("(max-width: 860px)").matches;
    this.apply();
  }

  remember() {
    try {
      localStorage.setItem(STORE, JSON.stringify({ times: this.times, wrapped: this.wrapped }));
    } catch {
      // As above.
    }
    this.keep(() => {
      this.heights.clear();
      this.apply();
    });
    if (this.follow) this.end();
  }

  apply() {
    this.card.classList.toggle("wrapped", this.wrapped);
    this.card.classList.toggle("unwrapped", !this.wrapped);
    this.card.classList.toggle("untimed", this.times === "off");
    this.part("wrap").setAttribute("aria-pressed", String(this.wrapped));
    this.part("times").value = this.times;
    this.part("times").querySelector('[value="since"]').disabled = !this.began;
    this.redecorate();
  }

  full(on) {
    this.keep(() => this.card.classList.toggle("full", on));
    this.part("full").setAttribute("aria-pressed", String(on));
    if (this.follow) this.end();
    this.log.focus({ preventScroll: true });
  }

  // Links to lines.

  fromAddress() {
    const found = /^#L(\d+)(?:-L?(\d+))?$/.exec(location.hash);
    if (!found || this.compact) return false;
    const [from, to] = [Number(found[1]), Number(found[2] ?? found[1])];
    this.marked = [Math.min(from, to), Math.max(from, to)];
    this.go(this.marked[0]);
    this.redecorate();
    return true;
  }

  link(number, more) {
    const range = more && this.marked ? [Math.min(this.marked[0], number), Math.max(this.marked[0], number)] : [number, number];
    const hash = range[0] === range[1] ? `#L${range[0]}` : `#L${range[0]}-L${range[1]}`;
    if (this.compact) {
      location.assign(`${this.url}${hash}`);
      return;
    }
    history.replaceState(null, "", hash);
    this.marked = range;
    this.cursor = number;
    this.following(false);
    this.redecorate();
  }

  goto(on) {
    const form = this.card.querySelector(".lgoto");
    form.hidden = !on;
    this.part("goto").hidden = on;
    if (on) form.querySelector("input").select();
    else this.log.focus({ preventScroll: true });
  }

  begin() {
    const start = Number(this.card.dataset.start);
    this.layout();
    if (!this.fromAddress()) {
      if (start) {
        if (start > 1) this.go(start, { mark: false });
        this.cursor = 0;
      } else if (this.live) {
        this.following(true);
      } else {
        this.end();
      }
    }
    this.fill();
    this.timer = setTimeout(() => this.poll(), 500);
  }

  listen() {
    const { log, card } = this;
    let framed = false;
    let before = 0;
    const scrolled = () => {
      framed = false;
      const top = log.scrollTop;
      if (Math.abs(top - (this.expected ?? -9)) > 1) {
        this.cursor = 0;
        if (top < before - 1) this.following(false);
        else if (this.atEnd && this.live && !this.follow && this.high === this.last) this.following(true);
      }
      before = this.expected = top;
      this.rests = this.atEnd;
      this.fill();
    };
    log.addEventListener("scroll", () => {
      if (!framed) requestAnimationFrame(scrolled);
      framed = true;
    });
    new ResizeObserver(() => {
      this.keep(() => this.wrapped && this.heights.clear());
      if (this.follow || this.rests) this.end();
      else this.fill();
    }).observe(log);
    document.addEventListener("selectionchange", () => {
      const selection = document.getSelection();
      if (this.follow && selection && !selection.isCollapsed && log.contains(selection.anchorNode)) this.following(false);
    });
    document.addEventListener("visibilitychange", () => !document.hidden && this.poll());
    addEventListener("hashchange", () => this.fromAddress());
    log.addEventListener("click", (event) => {
      const button = event.target.closest(".folded[data-line]");
      const number = event.target.closest(".l > a");
      if (button) this.unfold(button);
      else if (number && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        this.link(rowNumber(number.parentElement), event.shiftKey);
      }
    });
    const actions = {
      wrap: () => ((this.wrapped = !this.wrapped), this.remember()),
      follow: () => this.following(!this.follow),
      newest: () => this.following(true),
      full: () => this.full(!card.classList.contains("full")),
      problem: () => this.problem(),
      warning: () => this.problem(),
      goto: () => this.goto(true),
      speak: () => {
        const on = log.getAttribute("aria-live") === "off";
        log.setAttribute("aria-live", on ? "polite" : "off");
        this.part("speak").setAttribute("aria-pressed", String(on));
      },
    };
    for (const [name, action] of Object.entries(actions)) this.part(name).addEventListener("click", action);
    this.part("times").addEventListener("change", (event) => ((this.times = event.target.value), this.remember()));
    this.part("stream")?.addEventListener("change", (event) => location.assign(`${this.url}?${new URLSearchParams({ stream: event.target.value })}`));
    const field = this.part("search");
    field.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.finder.search(0), 250);
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        clearTimeout(this.typing);
        this.finder.search(event.shiftKey ? -1 : 1);
      } else if (event.key === "Escape") {
        event.preventDefault();
        field.value = "";
        this.finder.search(0);
        log.focus({ preventScroll: true });
      }
    });
    const goto = card.querySelector(".lgoto");
    goto.addEventListener("submit", (event) => {
      event.preventDefault();
      const number = Number(goto.querySelector("input").value.replace(/\D/g, ""));
      this.goto(false);
      if (number) {
        this.marked = null;
        this.go(number);
        if (!this.compact) history.replaceState(null, "", `#L${this.cursor}`);
      }
    });
    goto.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        this.goto(false);
      }
    });
    card.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && card.classList.contains("full") && !typing(event.target)) {
        event.preventDefault();
        this.full(false);
      } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "f") {
        event.preventDefault();
        field.select();
      } else if (event.key.toLowerCase() === "g" && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target)) {
        if (document.body.dataset.keys === "off") return;
        event.preventDefault();
        this.goto(true);
      }
    });
    // The rest is for the whole page: it has one log.
    key("e", (event) => this.problem(event.shiftKey));
    key("f", () => (this.live ? this.following(!this.follow) : this.end()));
  }
}

for (const card of document.querySelectorAll("[data-log]")) new Viewer(card);
