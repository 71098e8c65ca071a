// Light and dark. The button goes through the system's theme, the other one, and the system's by name,
// so that the first click always changes what is seen.

import { byId } from "./dom.js";

const PLACE = "taketurns.theme";

function order() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return dark ? ["auto", "light", "dark"] : ["auto", "dark", "light"];
}

function set(wanted) {
  const name = order().includes(wanted) ? wanted : "auto";
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
  return name;
}

function next() {
  const names = order();
  const now = document.documentElement.dataset.theme ?? "auto";
  const name = set(names[(names.indexOf(now) + 1) % names.length]);
  try {
    localStorage.setItem(PLACE, name);
  } catch {
    // storage is off: the theme is kept until the page is closed
  }
}

export function start() {
  try {
    set(localStorage.getItem(PLACE));
  } catch {
    set("auto"); // storage is off
  }
  byId("theme").addEventListener("click", next);
}
