// Tabs inside a page (those between pages are links). <div role="tablist"><button role="tab" aria-controls="id">…
// A fragment that is swapped in shows its first tab; the chosen one is found again by its id.
const chosen = new Map();

export function select(tab, focus = false) {
  const list = tab.closest('[role="tablist"]');
  for (const other of list.querySelectorAll('[role="tab"]')) {
    const on = other === tab;
    other.setAttribute("aria-selected", String(on));
    other.tabIndex = on ? 0 : -1;
    const panel = document.getElementById(other.getAttribute("aria-controls"));
    if (panel) panel.hidden = !on;
  }
  const copy = list.parentElement.querySelector("[data-copy-from]");
  if (copy) copy.dataset.copyFrom = `#${tab.getAttribute("aria-controls")}`;
  chosen.set(list.getAttribute("aria-label"), tab.id);
  if (focus) tab.focus();
}

document.addEventListener("click", (event) => {
  const tab = event.target.closest?.('[role="tab"][aria-controls]');
  if (tab) select(tab);
});

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.('[role="tab"][aria-controls]');
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!tab || !step) return;
  event.preventDefault();
  const tabs = [...tab.closest('[role="tablist"]').querySelectorAll('[role="tab"]')];
  select(tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length], true);
});

export function restore() {
  for (const id of chosen.values()) {
    const tab = document.getElementById(id);
    if (tab && tab.getAttribute("aria-selected") !== "true") select(tab);
  }
}
