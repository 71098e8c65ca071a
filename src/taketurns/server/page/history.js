// Earlier conversations, kept in this browser.

import { flaw } from "./trace.js";

const PLACE = "taketurns.history";
const MOST = 40;

// The valid entries; anything else is ignored, and removed when the next entry is put.
export function past() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(kept) ? kept.map(current).filter(isEntry) : [];
  } catch {
    return []; // storage is off, or its content is not valid
  }
}

// Puts an entry in front, in place of the one with its id; drops the oldest ones if the browser's
// storage is full.
export function put(entry) {
  const entries = [entry, ...past().filter(({ id }) => id !== entry.id)].slice(0, MOST);
  while (entries.length) {
    try {
      localStorage.setItem(PLACE, JSON.stringify(entries));
      return;
    } catch {
      entries.pop();
    }
  }
}

export function forget() {
  try {
    localStorage.removeItem(PLACE);
  } catch {
    // storage is off: nothing is kept
  }
}

// An entry of one question, as former versions of the page kept it, is a conversation of one turn.
function current(entry) {
  if (!entry || entry.turns) return entry;
  const { at, prompt, answers } = entry;
  return { id: at, at, turns: [{ prompt, answers }] };
}

const isEntry = (entry) =>
  Number.isSafeInteger(entry?.id) && Number.isSafeInteger(entry.at) && flaw(entry.turns) === null;
