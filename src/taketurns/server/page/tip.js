// The particulars of a patch: who wrote it and why, what the switcher thought, how long it took.

import { byId, counted, element, percent, seconds } from "./dom.js";
import { look, mark } from "./speakers.js";

const WHY = {
  chosen: "chosen by the switcher",
  opening: "opens the answer",
  closing: "closes the answer",
  fallback: "stood in for another",
  forced: "put there by the policy",
  guard: "wrote in place of what the guard withheld",
};

let shownFor = null;

export function show(target, patch, names) {
  const tip = byId("tip");
  tip.replaceChildren(...particulars(patch, names));
  tip.hidden = false;
  place(tip, target);
  target.setAttribute("aria-describedby", "tip");
  shownFor = target;
}

export function hide() {
  byId("tip").hidden = true;
  shownFor?.removeAttribute("aria-describedby");
  shownFor = null;
}

function particulars(patch, names) {
  const title = `${mark(patch.speaker)} ${patch.name ?? "forced text"}`;
  const parts = [element("h4", { text: title })];
  if (!patch.reason) return [...parts, element("p", { text: "still writing", classes: "quiet" })];
  parts.push(element("p", { text: WHY[patch.reason] ?? patch.reason, classes: "quiet" }));
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
  return `${tokens} in ${seconds(write)}${rate}; deciding took ${seconds(decide)}`;
}

// Above the target's first line, or below its last one where there is no room above.
function place(tip, target) {
  const line = target.getClientRects()[0] ?? target.getBoundingClientRect();
  const last = [...target.getClientRects()].at(-1) ?? line;
  const { width, height } = tip.getBoundingClientRect();
  const above = line.top - height - 8;
  const top = above > 8 ? above : Math.min(last.bottom + 8, innerHeight - height - 8);
  tip.style.left = `${Math.max(8, Math.min(line.left, innerWidth - width - 8))}px`;
  tip.style.top = `${top}px`;
}
