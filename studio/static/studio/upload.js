// Code comes in: a folder is chosen or dropped, read, hashed, and what the studio lacks of it is sent.
//
// Bound to [data-upload] of templates/runs/_upload.html. Sets the hidden inputs `snapshot` and `git` there, and tells the page:
// `snapshot-pending` {name} when a folder is taken up, `snapshot-ready` {digest, files, name, count, bytes, skipped} at the end.
import { announce, filesize, workspace } from "./common.js";
import { BadFolder, chosen, dropped, read } from "./upload/folder.js";
import { facts, readerOf } from "./upload/git-facts.js";
import { hash, Unreadable } from "./upload/hashing.js";
import { Refused, Sender } from "./upload/sending.js";
import { plural, Tree } from "./upload/tree.js";

const ASK_FROM = 100 * 1000 * 1000;
const SHOW_EVERY = 100; // milliseconds between two updates of the progress

class Upload {
  constructor(root) {
    this.root = root;
    this.form = root.closest("form");
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.drop = this.part("drop");
    this.input = this.part("input");
    this.tree = new Tree(this.part("tree"), () => this.form?.elements.namedItem("script")?.value ?? "");
    this.abort = null;
    this.submitter = null;
    this.bind();
  }

  bind() {
    this.part("choose").addEventListener("click", () => this.input.click());
    this.input.addEventListener("change", () => {
      const folder = chosen(this.input.files);
      if (folder) this.take(folder);
      else if (this.input.files) this.fail("The folder is empty.", "Choose the folder that holds the script.");
      this.input.value = ""; // the same folder may be chosen again
    });
    let inside = 0;
    const over = (on) => this.drop.classList.toggle("over", on);
    this.drop.addEventListener("dragenter", () => over(++inside > 0));
    this.drop.addEventListener("dragleave", () => over(--inside > 0));
    this.drop.addEventListener("dragover", (event) => event.preventDefault());
    this.drop.addEventListener("drop", (event) => {
      event.preventDefault();
      over((inside = 0));
      const folder = dropped(event.dataTransfer.items);
      if (folder) this.take(folder);
      else this.fail("That was not one folder.", "Drop the folder that holds the script.");
    });
    this.part("cancel").addEventListener("click", () => this.stop());
    this.part("now").addEventListener("click", () => this.sender?.now());
    this.form?.addEventListener("input", (event) => event.target.name === "script" && this.tree.mark());
    this.form?.addEventListener("change", (event) => event.target.name === "script" && this.tree.mark());
    // Start pressed while the code is on its way: start when it has arrived.
    this.form?.addEventListener(
      "submit",
      (event) => {
        if (!this.abort || event.submitter?.name === "fill") return;
        event.preventDefault();
        event.stopImmediatePropagation();
        this.submitter = event.submitter;
        this.part("then").hidden = false;
        announce("The run starts when the upload is done");
      },
      { capture: true },
    );
    addEventListener("beforeunload", (event) => this.abort && event.preventDefault());
  }

  set(name, value) {
    const input = this.form?.elements.namedItem(name) ?? this.root.querySelector(`input[name="${name}"]`);
    if (input) input.value = value;
  }

  tell(type, detail) {
    this.root.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  // Give up what is on its way.
  stop() {
    this.abort?.abort();
    this.abort = null;
    this.submitter = null;
    this.idle();
    this.words("", "Drop the project folder here");
  }

  idle() {
    for (const name of ["progress", "ask", "wait", "then", "error"]) this.part(name).hidden = true;
    this.drop.removeAttribute("aria-busy");
  }

  // What the drop zone says: a name in bold, then a line, then a fainter one.
  words(name, text, faint = "Chosen files stay in this browser until they are hashed; only what the studio lacks is sent") {
    this.part("name").textContent = name;
    this.part("text").textContent = text;
    this.part("faint").textContent = faint;
  }

  fail(rule, fix) {
    this.abort = null;
    this.submitter = null;
    this.idle();
    this.part("rule").textContent = rule;
    this.part("fix").textContent = fix;
    this.part("error").hidden = false;
    announce(`${rule} ${fix}`);
  }

  async take(folder) {
    this.abort?.abort(new DOMException("another folder", "AbortError"));
    const abort = new AbortController();
    this.abort = abort;
    this.idle();
    this.set("snapshot", "");
    this.set("git", "");
    this.part("git").hidden = true;
    this.tree.clear();
    this.drop.setAttribute("aria-busy", "true");
    this.tell("snapshot-pending", { name: folder.name });
    try {
      await this.work(folder, abort.signal);
    } catch (error) {
      if (abort.signal.aborted) return;
      this.explain(error);
    }
  }

  explain(error) {
    if (error instanceof Refused) {
      const first = error.body.errors?.[0];
      this.fail([first?.field, first?.rule].filter(Boolean).join(": ") || error.message, first?.fix ?? "");
    } else if (error instanceof Unreadable || error instanceof BadFolder) this.fail(error.message, "");
    else if (error instanceof DOMException) this.fail(`The folder could not be read (${error.name}).`, "Choose it again.");
    else {
      this.fail(`This page made an error: ${error.message}.`, "Reload the page and try again.");
      throw error;
    }
  }

  async work(folder, signal) {
    this.words(`${folder.name}/`, "is being read");
    const found = await read(folder, (count) => this.progress(`${plural(count, "file")} found`), signal);
    const total = found.files.reduce((sum, item) => sum + item.size, 0);
    const size = `${plural(found.files.length, "file")}, ${filesize(total)}`;
    this.tree.show(found);
    const git = await this.git(found.git);
    this.words(`${found.name}/`, `has ${size}`);
    const step = (verb, files, bytes) => (count, done) =>
      this.progress(
        `${verb} ${count.toLocaleString("en")} of ${plural(files, "file")}, ${filesize(Math.min(done, bytes))} of ${filesize(bytes)}`,
        bytes ? done / bytes : files ? count / files : 1,
      );
    await hash(found.name, found.files, step("Hashed", found.files.length, total), signal);
    this.sender = new Sender(`/api/v1/${workspace()}/snapshots`, signal, (seconds) => this.waits(seconds));
    const row = await this.send(found, step, signal);
    this.part("progress").hidden = true;
    this.set("snapshot", row.snapshot);
    this.set("git", git ? JSON.stringify(git) : "");
    const sent = row.sent ? `${plural(row.sent, "file")}, ${filesize(row.bytes)} sent` : "nothing had to be sent";
    this.words(`${found.name}/`, `is ready: ${size}`, `${sent[0].toUpperCase()}${sent.slice(1)}. Drop another folder here to replace it`);
    this.finish(found, row.snapshot, total);
  }

  // Send what is missing and record the snapshot. Contents may vanish between the two; then it is asked again, once.
  async send(found, step, signal) {
    for (let last = false; ; last = true) {
      const wanted = await this.sender.missing(found.files, found.dirs);
      if (wanted.bytes >= ASK_FROM && !last) await this.ask(wanted, signal);
      if (wanted.files.length) await this.sender.send(wanted, step("Sent", wanted.files.length, wanted.bytes));
      try {
        const row = await this.sender.record(wanted.snapshot, found.name);
        return { ...row, sent: wanted.files.length, bytes: wanted.bytes };
      } catch (error) {
        if (last || error.status !== 409) throw error;
      }
    }
  }

  finish(found, digest, bytes) {
    const submitter = this.submitter;
    this.abort = null;
    this.submitter = null;
    this.idle();
    announce(`${found.name} is ready: ${plural(found.files.length, "file")}`);
    const files = found.files.map((item) => item.path);
    this.tell("snapshot-ready", { digest, files, name: found.name, count: files.length, bytes, skipped: found.skipped });
    this.tree.mark();
    if (submitter) this.form.requestSubmit(submitter);
  }

  async git(folder) {
    if (!folder) return null;
    const found = await facts(readerOf(folder)).catch(() => null);
    if (!found) return null;
    const where = [found.branch ?? "no branch", found.commit ? `at ${found.commit.slice(0, 7)}` : "without a commit"].join(" ");
    this.part("git").querySelector("span").textContent = `${where}, uncommitted changes unknown`;
    this.part("git").title = found.repository_uri ?? "";
    this.part("git").hidden = false;
    return found;
  }

  // Before a lot is sent: resolves when the person agrees.
  ask(wanted, signal) {
    this.part("asked").textContent = `Send ${filesize(wanted.bytes)} in ${plural(wanted.files.length, "file")}?`;
    const largest = [...wanted.files].sort((a, b) => b.size - a.size).slice(0, 3);
    this.part("largest").textContent = `Largest: ${largest.map((item) => `${item.path} (${filesize(item.size)})`).join(", ")}. What the script does not need can be listed in .runignore.`;
    this.part("progress").hidden = true;
    this.part("ask").hidden = false;
    announce(this.part("asked").textContent);
    const buttons = this.part("ask");
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      buttons.onclick = (event) => {
        const answer = event.target.closest("[data-answer]")?.dataset.answer;
        if (!answer) return;
        buttons.onclick = null;
        buttons.hidden = true;
        if (answer === "send") resolve();
        else this.stop();
      };
    });
  }

  waits(seconds) {
    const place = this.part("wait");
    place.hidden = seconds === null;
    if (seconds !== null) this.part("waiting").textContent = `The studio does not answer. Trying again in ${seconds} s.`;
  }

  progress(text, share = null) {
    const now = performance.now();
    if (share !== null && share < 1 && now - (this.shown ?? 0) < SHOW_EVERY) return;
    this.shown = now;
    const place = this.part("progress");
    place.hidden = false;
    const bar = this.part("bar");
    bar.hidden = share === null;
    if (share !== null) {
      const percent = Math.min(100, Math.round(share * 100));
      bar.setAttribute("aria-valuenow", percent);
      bar.firstElementChild.style.width = `${percent}%`;
    }
    this.part("done").textContent = text;
  }
}

for (const root of document.querySelectorAll("[data-upload]")) new Upload(root);
