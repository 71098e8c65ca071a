// What was asked and answered before, kept in this browser.

const PLACE = "taketurns.history";
const MOST = 40;

export function past() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(kept) ? kept : [];
  } catch {
    return []; // storage is off, or holds something else
  }
}

// Adds an entry in front; drops the oldest ones when the browser's room is used up.
export function add(entry) {
  const entries = [entry, ...past()].slice(0, MOST);
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
    // storage is off: nothing is kept anyway
  }
}
