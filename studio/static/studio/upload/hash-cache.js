// Digests that this browser has worked out before, one record a folder. Losing it costs time only.

const DATABASE = "runstead-hashes";
const FOLDERS = 20;

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore("folders", { keyPath: "name" }).createIndex("used", "used");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

const result = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

// Path → [size, last modified, digest].
export async function load(name) {
  try {
    const database = await open();
    const record = await result(database.transaction("folders").objectStore("folders").get(name));
    database.close();
    return new Map((record?.entries ?? []).map(([path, size, modified, digest]) => [path, [size, modified, digest]]));
  } catch {
    return new Map(); // no storage here, as in a private window
  }
}

// Keep exactly these entries of a folder, and of other folders the last few.
export async function save(name, entries) {
  try {
    const database = await open();
    const store = database.transaction("folders", "readwrite").objectStore("folders");
    store.put({ name, used: Date.now(), entries });
    const names = await result(store.index("used").getAllKeys());
    for (const old of names.slice(0, Math.max(0, names.length - FOLDERS))) store.delete(old);
    await new Promise((resolve, reject) => {
      store.transaction.oncomplete = resolve;
      store.transaction.onabort = () => reject(store.transaction.error);
    });
    database.close();
  } catch {
    // The next time reads the files again.
  }
}
