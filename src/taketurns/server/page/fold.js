// A text of which only the first lines are shown, until it is unfolded.

import { element } from "./dom.js";

// Wraps `part`, whose class `folded` cuts it. The button is there only while something is cut.
export function folding(part, what) {
  const button = element("button", { type: "button", classes: "link fold", "aria-expanded": "false" });
  button.hidden = true;
  const label = (open) => (button.textContent = open ? `Show less of ${what}` : `Show all of ${what}`);
  const measure = () => {
    if (part.classList.contains("folded")) button.hidden = part.scrollHeight <= part.clientHeight + 1;
  };
  label(false);
  part.classList.add("folded");
  button.addEventListener("click", () => {
    const open = !part.classList.toggle("folded");
    button.setAttribute("aria-expanded", String(open));
    label(open);
  });
  new ResizeObserver(measure).observe(part);
  return element("div", {}, part, button);
}
