// The page of a run. What moves by itself is the server's (fragments, morphed in); here is what a person's hand needs.
import "./tabs.js";
import { forget } from "./draft.js";
import { typing, workspace } from "./common.js";

const header = () => document.getElementById("run-header");

// The draft that became this run is no longer one.
forget(workspace(), header()?.dataset.request);

// 1 to 8 open the tabs; single keys stay off inside fields and when a person turned them off.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.body.dataset.keys === "off") return;
  if (!/^[1-8]$/.test(event.key)) return;
  const tab = document.querySelectorAll("#run-tabs a")[Number(event.key) - 1];
  if (!tab) return;
  event.preventDefault();
  location.assign(tab.href);
});

// A menu opened by keyboard or mouse shows its first choice; for the question of Cancel that is the safe one.
document.addEventListener(
  "toggle",
  (event) => {
    if (event.target.matches?.("details.ask[open]")) event.target.querySelector("button")?.focus();
  },
  true,
);

document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && event.target.closest?.("details.dd[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary")?.focus();
});
