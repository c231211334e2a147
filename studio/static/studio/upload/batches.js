// Files in batches of so many and so many bytes at most; a larger file has one for itself.

export function batches(items, count, size) {
  const all = [];
  let batch = [];
  let bytes = 0;
  for (const item of items) {
    if (batch.length && (batch.length >= count || bytes + item.size > size)) {
      all.push(batch);
      batch = [];
      bytes = 0;
    }
    batch.push(item);
    bytes += item.size;
  }
  if (batch.length) all.push(batch);
  return all;
}
