// The dialog of earlier conversations.

import { byId, element } from "./dom.js";
import * as history from "./history.js";

// Calls `chosen` with the entry that is selected.
export function start(chosen) {
  byId("open-history").addEventListener("click", () => open(chosen));
  byId("close-history").addEventListener("click", () => byId("history").close());
  byId("forget").addEventListener("click", () => {
    history.forget();
    byId("history").close();
  });
}

function open(chosen) {
  const entries = history.past().map((entry) => {
    const button = element("button", { type: "button" },
      element("span", { classes: "q", text: entry.turns[0].prompt }),
      element("span", { classes: "quiet", text: about(entry) }));
    button.addEventListener("click", () => {
      byId("history").close();
      chosen(entry);
    });
    return element("li", {}, button);
  });
  const nothing = element("li", { classes: "quiet", text: "Nothing yet." });
  byId("past").replaceChildren(...(entries.length ? entries : [nothing]));
  byId("forget").hidden = !entries.length;
  byId("history").showModal();
}

function about({ at, turns }) {
  const models = new Set(turns.flatMap(({ answers }) => answers.map(({ model }) => model)));
  const questions = turns.length > 1 ? ` · ${turns.length} questions` : "";
  return `${new Date(at).toLocaleString()} · ${[...models].join(" beside ")}${questions}`;
}
