// Earlier questions and answers, kept in this browser.

const PLACE = "taketurns.history";
const MOST = 40;

// The valid entries; anything else is ignored, and removed when the next entry is added.
export function past() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(kept) ? kept.filter(isEntry) : [];
  } catch {
    return []; // storage is off, or its content is not valid
  }
}

// Adds an entry in front; drops the oldest ones if the browser's storage is full.
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
    // storage is off: nothing is kept
  }
}

const isText = (value) => typeof value === "string";
const isCount = (value) => typeof value === "number" && value >= 0;
const isListOf = (holds, value) => Array.isArray(value) && value.every(holds);
const orNull = (holds, value) => value === null || value === undefined || holds(value);

const isEntry = (value) =>
  isText(value?.prompt) && isCount(value.at) && isListOf(isAnswer, value.answers);

// The form of Answer.record().
const isAnswer = (value) =>
  isText(value?.model) && isText(value.team?.name) && isListOf(isText, value.team.candidates)
  && (value.first === null || isCount(value.first)) && isCount(value.took)
  && orNull(isText, value.problem) && isListOf(isPatch, value.patches);

const isPatch = (value) =>
  isText(value?.text) && isCount(value.tokens)
  && orNull(Number.isInteger, value.speaker) && orNull(isText, value.name)
  && orNull((shares) => isListOf(isCount, shares), value.probabilities)
  && (!value.reason || (isCount(value.timing?.decide) && isCount(value.timing.write)));
