// Shows the traces that pass the filters, a few at a time. All contents are inserted as text, never as HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("traces").textContent);
  const at = (id) => document.getElementById(id);
  const list = at("shown"), status = at("count"), more = at("more");
  const BATCH = 20;
  let found = [], shown = 0;

  function element(tag, { classes = "", text, ...rest } = {}, ...children) {
    const made = document.createElement(tag);
    if (classes) made.className = classes;
    if (text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(rest)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const right = (trace) => trace.score > data.solved;

  function fits(trace) {
    const task = at("task").value, result = at("result").value, words = at("words").value.toLowerCase();
    if (task && trace.task !== task) return false;
    if (result === "right" && !right(trace)) return false;
    if (result === "wrong" && right(trace)) return false;
    if (result === "only" && !trace.only) return false;
    const order = ["first", "second", "third"].map((id) => at(id).value);
    while (order.length && order.at(-1) === "") order.pop();
    if (order.length && !follows(trace.patches.map((patch) => String(patch[0])), order)) return false;
    return !words || (trace.asked + " " + trace.patches.map((p) => p[1]).join("")).toLowerCase().includes(words);
  }

  // Do the speakers contain this order anywhere? "" matches any speaker.
  function follows(speakers, order) {
    return speakers.some((_, start) => start + order.length <= speakers.length
      && order.every((who, step) => who === "" || speakers[start + step] === who));
  }

  function article(trace) {
    const verdict = right(trace) ? "✓ right" : "✗ wrong";
    const head = element("header", {},
      element("span", { classes: right(trace) ? "right" : "wrong", text: verdict }),
      element("span", { text: trace.task }),
      element("span", { classes: "quiet", text: `${trace.id}, seed ${trace.seed}` }));
    if (trace.only) head.append(element("span", { text: "no checkpoint alone solved this" }));
    const wrote = element("p", { classes: "wrote" });
    for (const [speaker, text] of trace.patches) {
      const words = text.trimStart();
      wrote.append(element("span", { classes: `patch s${speaker % data.marks.length}` },
        text.slice(0, text.length - words.length),
        element("span", { classes: "mark", text: data.marks[speaker % data.marks.length],
          "aria-hidden": "true" }),
        words));
    }
    const foot = element("div", { classes: "foot" }, particulars(trace));
    if (trace.reference) foot.prepend(element("p", { classes: "quiet", text: `Reference: ${trace.reference}` }));
    return element("article", { classes: "trace", tabindex: "0",
      "aria-label": `${verdict}, ${trace.task}: ${trace.asked}` },
      head, element("p", { classes: "asked", text: trace.asked }), wrote, foot);
  }

  // The speaker and the switcher's probabilities of each patch; built when it is opened.
  function particulars(trace) {
    const made = element("details", {}, element("summary", { text: "patch by patch" }));
    made.addEventListener("toggle", () => {
      if (made.children.length > 1) return;
      const head = element("tr", {}, ...["speaker", "tokens", ...data.pool].map(
        (text) => element("th", { scope: "col", text })));
      const rows = trace.patches.map(([speaker, , tokens, probabilities]) => element("tr", {},
        element("td", { text: `${data.marks[speaker % data.marks.length]} ${data.pool[speaker]}` }),
        element("td", { text: String(tokens) }),
        ...data.pool.map((_, who) => element("td", { text: probabilities ? probabilities[who].toFixed(2) : "–" }))));
      made.append(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
    });
    return made;
  }

  function show() {
    for (const trace of found.slice(shown, shown + BATCH)) list.append(article(trace));
    shown = Math.min(found.length, shown + BATCH);
    status.textContent = `${shown} of ${found.length} matching answers shown, ${data.traces.length} on this page`;
    more.hidden = shown === found.length;
  }

  function filter() {
    found = data.traces.filter(fits);
    shown = 0;
    list.replaceChildren();
    show();
  }

  function step(by) {
    const all = [...list.children];
    const next = all.indexOf(document.activeElement?.closest(".trace")) + by;
    if (next === all.length && !more.hidden) show();
    list.children[Math.max(0, next)]?.focus();
  }

  at("words").addEventListener("input", filter);
  for (const choice of at("filters").querySelectorAll("select")) choice.addEventListener("change", filter);
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("reset", () => setTimeout(filter));
  more.addEventListener("click", () => {
    const first = shown;
    show();
    list.children[first]?.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") at("words").focus();
    else return;
    event.preventDefault();
  });
  filter();
})();
