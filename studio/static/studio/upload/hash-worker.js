// Hashes files away from the page. Takes {job, files: [File, …]}; answers {job, at, digest} for each, {job, read} for bytes
// read meanwhile, and {job, at, error} for a file that could not be read.
import { Sha256 } from "./sha256.js";

// Files up to here are read whole, where the browser's own digest is to be had.
const WHOLE = 32 * 1024 * 1024;
const AT_ONCE = 8;
const native = globalThis.crypto?.subtle;

const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

async function digest(file, read) {
  if (native && file.size <= WHOLE) {
    const found = hex(await native.digest("SHA-256", await file.arrayBuffer()));
    read(file.size);
    return found;
  }
  const hash = new Sha256();
  if (file.size < 1024 * 1024) {
    hash.update(new Uint8Array(await file.arrayBuffer()));
    read(file.size);
    return hash.hex();
  }
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return hash.hex();
    hash.update(value);
    read(value.length);
  }
}

onmessage = async ({ data: { job, files } }) => {
  let pending = 0;
  const flush = () => {
    if (pending) postMessage({ job, read: pending });
    pending = 0;
  };
  const read = (bytes) => {
    pending += bytes;
    if (pending > 4 * 1024 * 1024) flush();
  };
  let next = 0;
  const one = async () => {
    while (next < files.length) {
      const at = next++;
      try {
        const found = await digest(files[at], read);
        postMessage({ job, at, digest: found });
      } catch (error) {
        postMessage({ job, at, error: error.name || String(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  flush();
  postMessage({ job, done: true });
};
