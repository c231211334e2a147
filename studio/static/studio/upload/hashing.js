// Digests of a folder's files: from the cache where size and time are as before, else from the workers.
import { batches } from "./batches.js";
import { load, save } from "./hash-cache.js";

const BATCH_FILES = 64;
const BATCH_BYTES = 16 * 1024 * 1024;

export class Unreadable extends Error {
  constructor(path) {
    super(`${path} could not be read: it changed, or it is not yours to read. Choose the folder again.`);
  }
}

// Sets `digest` on each of `files` ({path, file, size}); resolves to how many were read. `progress(files, bytes)` counts what
// is done. Throws Unreadable, or AbortError.
export async function hash(name, files, progress, signal) {
  const cache = await load(name);
  const todo = [];
  let doneFiles = 0;
  let doneBytes = 0;
  for (const item of files) {
    const known = cache.get(item.path);
    if (known && known[0] === item.size && known[1] === item.file.lastModified) {
      item.digest = known[2];
      doneFiles++;
      doneBytes += item.size;
    } else todo.push(item);
  }
  progress(doneFiles, doneBytes);
  // Time stamps are in milliseconds here: what was written just now may change again under the same one.
  const young = Date.now() - 2000;
  if (todo.length) {
    await run(batches(todo, BATCH_FILES, BATCH_BYTES), (files_, bytes) => progress((doneFiles += files_), (doneBytes += bytes)), signal);
    const kept = files.filter((item) => item.file.lastModified < young);
    await save(name, kept.map((item) => [item.path, item.size, item.file.lastModified, item.digest]));
  }
  return todo.length;
}

function run(queue, progress, signal) {
  const count = Math.min(queue.length, Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1)));
  const workers = [];
  const work = new Promise((resolve, reject) => {
    let next = 0;
    let busy = 0;
    const give = (worker) => {
      if (next >= queue.length) {
        if (!busy) resolve();
        return;
      }
      const job = next++;
      busy++;
      worker.postMessage({ job, files: queue[job].map((item) => item.file) });
    };
    for (let n = 0; n < count; n++) {
      const worker = new Worker(new URL("./hash-worker.js", import.meta.url), { type: "module" });
      workers.push(worker);
      worker.onerror = (event) => reject(new Error(event.message || "The hashing worker could not be started."));
      worker.onmessage = ({ data }) => {
        if (data.error) reject(new Unreadable(queue[data.job][data.at].path));
        else if (data.digest) {
          queue[data.job][data.at].digest = data.digest;
          progress(1, 0);
        } else if (data.read) progress(0, data.read);
        else if (data.done) {
          busy--;
          give(worker);
        }
      };
      give(worker);
    }
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  return work.finally(() => workers.forEach((worker) => worker.terminate()));
}
