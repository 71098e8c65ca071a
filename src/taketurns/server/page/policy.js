// The controls: a request's settings beside its question. An empty field sets nothing.

import { withdraw } from "./complaints.js";
import { byId, element } from "./dom.js";

const NUMBERS = ["patch_size", "turn_top_p", "temperature", "top_p", "max_tokens", "seed"];
const CHOICES = ["switcher", "opening", "closing"];

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
  };
  for (const [id, value] of Object.entries(shown)) byId(id).placeholder = value;
  byId("order").placeholder = team.candidates.join(", ");
  byId("policy").addEventListener("input", () => note(team));
  byId("reset").addEventListener("click", () => {
    for (const id of [...NUMBERS, ...CHOICES, "order"]) {
      byId(id).value = "";
      withdraw(byId(id));
    }
    note(team);
  });
  note(team);
}

// Shows which settings are changed, also while the controls are closed.
function note(team) {
  byId("order-field").hidden = byId("switcher").value !== "order";
  const changed = [...NUMBERS, ...CHOICES].filter((id) => byId(id).value !== "");
  const names = changed.map((id) => document.querySelector(`label[for="${id}"]`).textContent.split(",")[0]);
  byId("changed").textContent = names.length ? `changed: ${names.join("; ")}` : "the team’s settings";
}

// The fields of a request to the team, or to one checkpoint alone.
export function wanted(team, alone) {
  const number = (id) => (byId(id).value === "" ? undefined : Number(byId(id).value));
  const request = {
    temperature: number("temperature"), top_p: number("top_p"),
    max_tokens: number("max_tokens"), seed: number("seed"),
  };
  if (alone) return request;
  const order = byId("order").value || team.candidates.join(",");
  const switchers = { random: "random", order: order.split(",").map((name) => name.trim()) };
  const turns = {
    patch_size: number("patch_size"), top_p: number("turn_top_p"),
    opening: byId("opening").value || undefined, closing: byId("closing").value || undefined,
    switcher: switchers[byId("switcher").value],
  };
  return { ...request, taketurns: turns };
}
