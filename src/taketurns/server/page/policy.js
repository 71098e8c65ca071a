// The controls: a request's settings beside its question. An empty field sets nothing.

import { about, withdraw } from "./complaints.js";
import { byId, element } from "./dom.js";

const SAMPLING = [ // the request's fields of the same names
  "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
  "seed", "max_tokens",
];
const NUMBERS = ["patch_size", "turn_top_p", ...SAMPLING];
const CHOICES = ["switcher", "opening", "closing"];
const TEXTS = ["stop_strings", "schema"];
const FIELDS = [...NUMBERS, ...CHOICES, ...TEXTS];

export function offer(team, policy) {
  for (const id of ["opening", "closing"]) {
    byId(id).replaceChildren(
      element("option", { value: "", text: policy[id] ? `${policy[id]}, the team’s` : "any candidate" }),
      ...team.candidates.map((name) => element("option", { value: name, text: name })),
    );
  }
  const shown = {
    patch_size: policy.patch ? `until ${policy.patch.until}` : policy.patch_size,
    turn_top_p: policy.top_p, temperature: policy.temperature,
    top_p: policy.speaker_top_p, max_tokens: policy.max_tokens,
    top_k: "all", min_p: 0, presence_penalty: 0, frequency_penalty: 0, repetition_penalty: 1,
    schema: policy.format ? "the team’s format" : '{"type": "object", "properties": {}}',
  };
  for (const [id, value] of Object.entries({ ...shown, ...policy.sampling })) {
    if (byId(id)) byId(id).placeholder = value; // some options of the team have no field here
  }
  byId("order").placeholder = team.candidates.join(", ");
  byId("policy").oninput = () => note(team);
  byId("reset").onclick = () => {
    for (const id of [...FIELDS, "order"]) {
      byId(id).value = "";
      withdraw(byId(id));
    }
    note(team);
  };
  note(team);
}

// Shows which settings are changed, also while the controls are closed.
function note(team) {
  byId("order-field").hidden = byId("switcher").value !== "order";
  const changed = FIELDS.filter((id) => byId(id).value !== "");
  const names = changed.map((id) => document.querySelector(`label[for="${id}"]`).textContent.split(",")[0]);
  byId("changed").textContent = names.length ? `changed: ${names.join("; ")}` : "the team’s settings";
  byId("schema").setCustomValidity(schemaFlaw() ?? "");
}

// The fields of a request to the team, or to one checkpoint alone.
export function wanted(team, alone) {
  const number = (id) => (byId(id).value === "" ? undefined : Number(byId(id).value));
  const stop = stops();
  const request = {
    ...Object.fromEntries(SAMPLING.map((id) => [id, number(id)])),
    stop: stop.length ? stop : undefined,
    response_format: byId("schema").value.trim()
      ? { type: "json_schema", json_schema: { name: "answer", schema: schema() } } : undefined,
  };
  if (alone) return defined(request);
  const order = byId("order").value || team.candidates.join(",");
  const switchers = { random: "random", order: order.split(",").map((name) => name.trim()) };
  const turns = defined({
    patch_size: number("patch_size"), top_p: number("turn_top_p"),
    opening: byId("opening").value || undefined, closing: byId("closing").value || undefined,
    switcher: switchers[byId("switcher").value],
  });
  return defined({ ...request, taketurns: Object.keys(turns).length ? turns : undefined });
}

const defined = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

// One per line; spaces count.
function stops() {
  const lines = byId("stop_strings").value.split("\n").filter((line) => line !== "");
  const written = { n: "\n", t: "\t", "\\": "\\" };
  return lines.map((line) => line.replace(/\\([nt\\])/g, (_, letter) => written[letter]));
}

function schema() {
  return JSON.parse(byId("schema").value, (_, value) => {
    if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
      throw new Error("JavaScript cannot keep a number of more than 15 digits exactly");
    }
    return value;
  });
}

function schemaFlaw() {
  if (!byId("schema").value.trim()) return null;
  try {
    const value = schema();
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? null : "The schema must be a JSON object.";
  } catch (error) {
    return `The schema is not valid: ${error.message}.`;
  }
}

// Shows the server's refusal beside the field of the request's `param`, if it is one of these.
export function refused(param, sentence) {
  const [name, inside] = (param ?? "").split(".");
  const id = {
    stop: "stop_strings", response_format: "schema",
    taketurns: {
      top_p: "turn_top_p", switcher: byId("switcher").value === "order" ? "order" : "switcher",
    }[inside] ?? inside,
  }[name] ?? name;
  if (![...FIELDS, "order"].includes(id)) return;
  byId("policy").open = true;
  about(byId(id), sentence);
}
