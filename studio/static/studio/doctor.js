// The connection test, shown while it goes on: the server answers in lines of JSON, one for each step. Without this the form
// posts as forms do, and the page comes back with all steps at once.
import { announce, csrf, icon } from "./common.js";

function running(title) {
  const item = document.createElement("li");
  item.className = "now";
  const words = document.createElement("span");
  const name = document.createElement("b");
  name.textContent = title;
  words.append(name);
  const turning = icon("run");
  turning.classList.add("spin");
  item.append(turning, words);
  return item;
}

async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

async function examine(form) {
  const place = form.closest("#doctor");
  const body = new FormData(form);
  const list = document.createElement("ol");
  list.className = "checks timed";
  place.querySelector("[data-doctor-steps]").replaceChildren(list);
  for (const button of place.querySelectorAll("button")) button.disabled = true;
  let finished = false;
  try {
    const answer = await fetch(form.action, { method: "POST", body, headers: { "X-Live": "1", "X-CSRFToken": csrf() }, redirect: "manual" });
    if (!answer.ok || !answer.body) throw new Error(`HTTP ${answer.status}`);
    for await (const line of lines(answer)) {
      list.querySelector(".now")?.remove();
      if (line.begun) list.append(running(line.begun));
      else if (line.step) list.insertAdjacentHTML("beforeend", line.step);
      else if (line.done) {
        place.innerHTML = line.done;
        finished = true;
      }
    }
  } finally {
    if (!finished) location.reload(); // cut off: the page knows how far the last whole test came
  }
  const wrong = place.querySelector(".broke b");
  announce(wrong ? `${wrong.textContent} failed` : "The connection test passed");
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("form[data-doctor]") || !form.closest("#doctor")) return;
  event.preventDefault();
  examine(form);
});
