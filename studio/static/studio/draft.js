// What was typed into the composer and not started, kept in this browser, one draft a workspace.
const key = (slug) => `runstead:draft:${slug}`;

export function load(slug) {
  try {
    return JSON.parse(localStorage.getItem(key(slug)) ?? "null");
  } catch {
    return null;
  }
}

export function save(slug, fields, request) {
  try {
    localStorage.setItem(key(slug), JSON.stringify({ fields, request, at: Date.now() }));
    return true;
  } catch {
    return false; // Storage is full or switched off: the page itself still holds everything.
  }
}

export function discard(slug) {
  try {
    localStorage.removeItem(key(slug));
  } catch {
    // There is nothing to remove then.
  }
}

// Remove the draft if it is the one that was started under this request id.
export function forget(slug, request) {
  if (request && load(slug)?.request === request) discard(slug);
}
