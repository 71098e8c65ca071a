// Trace files: saves the conversation, and opens one by the button or by dropping it on the page.

import * as conversation from "./conversation.js";
import { byId, element } from "./dom.js";
import * as trace from "./trace.js";

const MOST = 32 * 1024 * 1024; // bytes; the page shows every patch of a file

// Calls `opened` with the turns of every trace that is opened.
export function start(opened) {
  const open = async (file) => {
    const problem = await read(file, opened);
    byId("trace-problem").textContent = problem ?? "";
    byId("trace-problem").hidden = problem === null;
  };
  byId("save-trace").addEventListener("click", save);
  byId("open-trace").addEventListener("click", () => byId("trace-file").click());
  byId("trace-file").addEventListener("change", ({ target }) => {
    if (target.files.length) open(target.files[0]);
    target.value = ""; // the same file can be opened again
  });
  dropping(open);
}

async function read(file, opened) {
  try {
    if (file.size > MOST) throw new Error(`it has more than ${MOST / 1024 / 1024} MiB`);
    const content = await file.text().catch(() => {
      throw new Error("it cannot be read");
    });
    await opened(trace.parse(content));
    return null;
  } catch (error) {
    return `${file.name} is no trace of taketurns: ${error.message}.`;
  }
}

function save() {
  const content = new Blob([trace.dump(conversation.record())], { type: "application/json" });
  const href = URL.createObjectURL(content);
  const now = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  element("a", { href, download: `taketurns-trace-${now}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000); // the browser has begun to read it by then
}

function dropping(open) {
  const show = (shown) => (byId("drop").hidden = !shown);
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    show(true);
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) show(false); // the pointer left the window
  });
  addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    show(false);
    if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  });
}
