// Sends to the studio what it lacks of a folder: small contents many in one request, large ones in pieces. Whatever is cut is
// tried again, and goes on from what has arrived.
import { csrf } from "../common.js";
import { batches } from "./batches.js";
import { manifest } from "./manifest.js";

const BATCH_BYTES = 4 * 1024 * 1024;
const BATCH_FILES = 1000;
const PIECE = 8 * 1024 * 1024;
const AT_ONCE = 2;
const LONGEST_WAIT = 60;
const PACK_FROM = 32 * 1024;

// A refusal of the studio: what it said, and for which file.
export class Refused extends Error {
  constructor(status, body) {
    super(body?.detail || `The studio answered ${status}.`);
    this.status = status;
    this.body = body ?? {};
  }
}

class Cut extends Error {}

// One request. Throws Cut where trying again may help, Refused where it does not.
function request(method, address, body, headers, signal, progress) {
  return new Promise((resolve, reject) => {
    const http = new XMLHttpRequest(); // fetch tells nothing of how far an upload is
    http.open(method, address);
    http.setRequestHeader("X-CSRFToken", csrf());
    for (const [name, value] of Object.entries(headers)) http.setRequestHeader(name, value);
    http.upload.onprogress = (event) => progress?.(event.loaded);
    http.onload = () => {
      let answer = null;
      try {
        answer = JSON.parse(http.responseText);
      } catch {
        // said below
      }
      if (http.status >= 200 && http.status < 300 && answer) resolve(answer);
      else if (http.status >= 500 || http.status === 408 || http.status === 429) reject(new Cut());
      else reject(new Refused(http.status, answer));
    };
    http.onerror = http.ontimeout = () => reject(new Cut());
    http.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => http.abort(), { once: true });
    http.send(body);
  });
}

export class Sender {
  // `address`: of the workspace's snapshots. `waiting(seconds)` is told before each new try, and `null` when it goes on.
  constructor(address, signal, waiting) {
    this.address = address;
    this.signal = signal;
    this.waiting = waiting;
    this.wake = () => {};
  }

  // Try now instead of at the end of the wait.
  now() {
    this.wake();
  }

  async again(work) {
    for (let seconds = 1; ; seconds = Math.min(seconds * 2, LONGEST_WAIT)) {
      try {
        const answer = await work();
        this.waiting(null);
        return answer;
      } catch (error) {
        if (!(error instanceof Cut)) throw error;
      }
      for (let left = seconds; left > 0; left--) {
        this.waiting(left);
        let early = false;
        await new Promise((resolve, reject) => {
          const timer = setTimeout(resolve, 1000);
          this.wake = () => {
            early = true;
            clearTimeout(timer);
            resolve();
          };
          this.signal.addEventListener("abort", () => reject(this.signal.reason), { once: true });
        });
        if (early) break;
      }
    }
  }

  // Ask what is missing of `files` (sorted by this) and `dirs`: {snapshot, known, files, bytes, have, small}.
  async missing(files, dirs) {
    const data = manifest(files, dirs);
    const headers = { "Content-Type": "application/json" };
    let body = data;
    if (data.length > PACK_FROM && typeof CompressionStream === "function") {
      body = await new Response(new Blob([data]).stream().pipeThrough(new CompressionStream("gzip"))).blob();
      headers["Content-Encoding"] = "gzip";
    }
    const answer = await this.again(() => request("POST", `${this.address}/missing`, body, headers, this.signal));
    const wanted = answer.missing.flatMap(([first, end]) => files.slice(first, end));
    const bytes = wanted.reduce((sum, item) => sum + item.size - (answer.have[item.digest] ?? 0), 0);
    return { ...answer, files: wanted, bytes };
  }

  // Send the contents that `missing` answered. `progress(files, bytes)` counts what has left.
  async send(wanted, progress) {
    let files = 0;
    let settled = 0;
    const flying = new Map();
    const tell = () => progress(files, settled + [...flying.values()].reduce((sum, part) => sum + part, 0));
    const fly = async (key, size, work, count) => {
      await this.again(() => {
        flying.set(key, 0);
        return work((loaded) => {
          flying.set(key, Math.min(loaded, size));
          tell();
        });
      });
      flying.delete(key);
      settled += size;
      files += count;
      tell();
    };
    const small = wanted.files.filter((item) => item.size <= wanted.small);
    const large = wanted.files.filter((item) => item.size > wanted.small);
    const jobs = [
      ...batches(small, BATCH_FILES, BATCH_BYTES).map((batch) => () => this.batch(batch, fly)),
      ...large.map((item) => () => this.pieces(item, wanted.have[item.digest] ?? 0, fly)),
    ];
    let next = 0;
    const lane = async () => {
      while (next < jobs.length) await jobs[next++]();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
  }

  async batch(items, fly) {
    const body = new Blob(items.flatMap((item) => [record(item), item.file]));
    const headers = { "Content-Type": "application/octet-stream" };
    const send = (progress) => request("PUT", `${this.address}/blobs`, body, headers, this.signal, progress);
    await fly(items[0].digest, items.reduce((sum, item) => sum + item.size, 0), send, items.length);
  }

  async pieces(item, have, fly) {
    const headers = { "Content-Type": "application/octet-stream" };
    for (let at = have; at < item.size; ) {
      const end = Math.min(at + PIECE, item.size);
      const address = `${this.address}/blobs/${item.digest}?offset=${at}&size=${item.size}`;
      const send = (progress) => request("PUT", address, item.file.slice(at, end), headers, this.signal, progress);
      try {
        await fly(item.digest, end - at, send, end === item.size ? 1 : 0);
        at = end;
      } catch (error) {
        // Pieces that the studio gave up, or that another page sent on meanwhile: go on from what is there.
        if (error.status !== 409 || error.body.have === at) throw error;
        at = error.body.have;
      }
    }
  }

  // Record the snapshot whose contents are all there.
  record(snapshot, name) {
    const body = JSON.stringify({ snapshot, name });
    return this.again(() => request("POST", this.address, body, { "Content-Type": "application/json" }, this.signal));
  }
}

// What stands before each content: digest (32 bytes), flags (1), length (8, big endian).
function record({ digest, size }) {
  const head = new DataView(new ArrayBuffer(41));
  for (let at = 0; at < 32; at++) head.setUint8(at, parseInt(digest.slice(2 * at, 2 * at + 2), 16));
  head.setUint32(33, Math.floor(size / 2 ** 32));
  head.setUint32(37, size >>> 0);
  return head.buffer;
}
