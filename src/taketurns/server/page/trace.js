// The form of a conversation where it is kept, in the browser's history and in a trace file, and what is
// wrong with a value that is to be one. A check takes a value and its place, and returns a sentence's
// end, or null.

const FORMAT = "taketurns trace";
const VERSION = 1;

const test = (holds, what) => (value, place) => (holds(value) ? null : `${place} must be ${what}`);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isAmount = (value) => Number.isFinite(value) && value >= 0;

const text = test((value) => typeof value === "string", "a text");
const count = test((value) => Number.isSafeInteger(value) && value >= 0, "a whole number, 0 or more");
const whole = test(Number.isSafeInteger, "a whole number");
const amount = test(isAmount, "a number, 0 or more");
const share = test((value) => isAmount(value) && value <= 1, "a number from 0 to 1");
const object = test(isObject, "an object");
const settings = test(
  (value) => isObject(value) && !("model" in value) && !("messages" in value),
  "an object without model and messages, which are the conversation's",
);

const optional = (check) => (value, place) => (value === null || value === undefined ? null : check(value, place));

const list = (check, least = 0) => (value, place) => {
  if (!Array.isArray(value)) return `${place} must be a list`;
  if (value.length < least) return `${place} must not be empty`;
  return first(value.map((item, index) => () => check(item, `${place}[${index}]`)));
};

const fields = (checks) => (value, place) =>
  object(value, place)
  ?? first(Object.entries(checks).map(([name, check]) => () => check(value[name], place ? `${place}.${name}` : name)));

const all = (...checks) => (value, place) => first(checks.map((check) => () => check(value, place)));

function first(checks) {
  for (const check of checks) {
    const flaw = check();
    if (flaw) return flaw;
  }
  return null;
}

const patch = fields({
  text, tokens: count, speaker: optional(count), name: optional(text), reason: optional(text),
  probabilities: optional(list(share)), timing: optional(fields({ decide: amount, write: amount })),
});

const answer = all(
  fields({
    model: text, team: fields({ name: text, candidates: list(text, 1) }), patches: list(patch),
    about: optional(fields({ seed: whole, finish: optional(text) })), problem: optional(text),
    first: optional(amount), took: amount, settings: optional(settings),
  }),
  ({ team, patches }, place) => first(patches.map((written, index) => () => {
    const many = team.candidates.length;
    const { speaker, probabilities, reason, timing } = written;
    const at = `${place}.patches[${index}]`;
    if ((speaker ?? 0) >= many) return `${at}.speaker must be less than the number of candidates, ${many}`;
    if (probabilities && probabilities.length !== many) return `${at}.probabilities must be ${many}, one per candidate`;
    if (reason && !timing) return `${at}.timing must be an object`;
    return null;
  })),
);

const turns = list(fields({ prompt: text, answers: list(answer, 1) }), 1);

// What is wrong with the turns of a conversation, or null.
export const flaw = (value) => turns(value, "turns");

// The content of a trace file.
export function dump(kept) {
  return JSON.stringify({ format: FORMAT, version: VERSION, saved: new Date().toISOString(), turns: kept }, null, 1);
}

// The turns of a trace file. Throws an Error with the reason if it is none.
export function parse(content) {
  let value;
  try {
    value = JSON.parse(content);
  } catch {
    throw new Error("it is not JSON");
  }
  if (!isObject(value) || value.format !== FORMAT) throw new Error(`it has no "format": "${FORMAT}"`);
  if (value.version !== VERSION) {
    throw new Error(`its version is ${JSON.stringify(value.version)?.slice(0, 20)}, and this page reads version ${VERSION}`);
  }
  const wrong = flaw(value.turns);
  if (wrong) throw new Error(wrong);
  return value.turns;
}
