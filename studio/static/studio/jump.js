// The jump box: Ctrl K or ⌘ K, a server search over runs, experiments and pages, arrows and Enter.

const box = document.getElementById("jumpbox");

if (box) {
  const field = box.querySelector("input");
  const list = box.querySelector("#jumplist");
  let running = null;
  let timer = 0;
  let chosen = -1;
  let walked = 0; // arrows pressed since the list on its way was asked for

  const options = () => [...list.querySelectorAll("a")];

  const choose = (index) => {
    const all = options();
    if (!all.length) return;
    chosen = ((index % all.length) + all.length) % all.length;
    all.forEach((option, i) => {
      option.id = `jump-${i}`;
      option.tabIndex = -1;
      option.setAttribute("aria-selected", String(i === chosen));
    });
    field.setAttribute("aria-activedescendant", `jump-${chosen}`);
    all[chosen].scrollIntoView({ block: "nearest" });
  };

  const ask = async () => {
    running?.abort();
    running = new AbortController();
    walked = 0;
    try {
      const answer = await fetch(`${box.dataset.address}?${new URLSearchParams({ q: field.value })}`, {
        headers: { "X-Jump": "1" },
        signal: running.signal,
      });
      if (!answer.ok) throw new Error(`${answer.status}`);
      // The fragment is the studio's own, with every name escaped.
      list.innerHTML = await answer.text();
      choose(walked);
    } catch (error) {
      if (error.name === "AbortError") return;
      const words = document.createElement("p");
      words.textContent = "The search did not answer. Type on to try again.";
      list.replaceChildren(words);
    }
  };

  const open = () => {
    if (box.open) return;
    field.value = "";
    box.showModal();
    field.focus();
    ask();
  };

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      open();
    }
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-jump]")) open();
    if (event.target === box) box.close();
  });
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 90);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      walked += step;
      choose(chosen + step);
    } else if (event.key === "Enter" && options()[chosen]) {
      event.preventDefault();
      options()[chosen].click();
    } else if (event.key === "Escape") {
      // A search field would only clear itself first.
      event.preventDefault();
      box.close();
    }
  });
}
