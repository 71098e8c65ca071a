// The details of a patch: its speaker and reason, the switcher's probabilities, and its times.

import { byId, counted, element, percent, seconds } from "./dom.js";
import { look, mark } from "./speakers.js";

const WHY = new Map([
  ["chosen", "selected by the switcher"],
  ["alone", "writes alone"],
  ["opening", "opens the answer"],
  ["closing", "closes the answer"],
  ["fallback", "stood in for a failed speaker"],
  ["forced", "forced by the policy"],
  ["guard", "replaced a patch that the guard rejected"],
]);

let shown = null; // the patch that is shown

export function show(target, patch, names) {
  shown?.target.removeAttribute("aria-describedby");
  shown = { target, patch, names };
  target.setAttribute("aria-describedby", "tip");
  byId("tip").hidden = false;
  fill();
}

// Updates the details of a patch, if it is the one that is shown.
export function renew(patch) {
  if (shown?.patch === patch) fill();
}

export function hide() {
  byId("tip").hidden = true;
  shown?.target.removeAttribute("aria-describedby");
  shown = null;
}

function fill() {
  const tip = byId("tip");
  tip.replaceChildren(...particulars(shown.patch, shown.names));
  place(tip, shown.target);
}

function particulars(patch, names) {
  const title = `${mark(patch.speaker)} ${patch.name ?? "forced text"}`;
  const parts = [element("h4", { text: title })];
  if (!patch.reason) {
    const state = patch.broken ? `cut short after ${counted(patch.tokens)}` : "still writing";
    return [...parts, element("p", { text: state, classes: "quiet" })];
  }
  parts.push(element("p", { text: WHY.get(patch.reason) ?? patch.reason, classes: "quiet" }));
  if (patch.probabilities) {
    const list = element("dl");
    patch.probabilities.forEach((share, index) => {
      const chosen = index === patch.speaker ? "chosen" : "";
      const fill = element("i");
      fill.style.width = `${100 * share}%`;
      list.append(
        element("dt", { text: `${mark(index)} ${names[index] ?? index}`, classes: chosen }),
        element("span", { classes: `bar ${look(index)}` }, fill),
        element("dd", { text: percent(share), classes: chosen }),
      );
    });
    parts.push(list);
  }
  parts.push(element("p", { text: timing(patch), classes: "quiet" }));
  return parts;
}

function timing(patch) {
  const { decide, write } = patch.timing;
  const tokens = counted(patch.tokens);
  if (patch.speaker === null) return tokens;
  const rate = write > 0 ? `, ${Math.round(patch.tokens / write)} tokens/s` : "";
  const deciding = patch.reason === "alone" ? "" : `; decision ${seconds(decide)}`;
  return `${tokens} in ${seconds(write)}${rate}${deciding}`;
}

// Above the target's first line, or below its last line if there is no room above.
function place(tip, target) {
  const line = target.getClientRects()[0] ?? target.getBoundingClientRect();
  const last = [...target.getClientRects()].at(-1) ?? line;
  const { width, height } = tip.getBoundingClientRect();
  const above = line.top - height - 8;
  const top = above > 8 ? above : Math.min(last.bottom + 8, innerHeight - height - 8);
  tip.style.left = `${Math.max(8, Math.min(line.left, innerWidth - width - 8))}px`;
  tip.style.top = `${top}px`;
}
