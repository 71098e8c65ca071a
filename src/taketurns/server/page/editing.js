// Editing an earlier question in the question's box.

import { byId } from "./dom.js";

let edited = null; // the index of the turn
let draft = ""; // what was in the box before

export const index = () => edited;

export function begin(turn, prompt) {
  if (edited === null) draft = byId("prompt").value;
  edited = turn;
  byId("prompt").value = prompt;
  byId("editing-what").textContent = `Editing question ${turn + 1}: asking it again replaces what follows it.`;
  byId("editing").hidden = false;
  byId("prompt").focus();
}

export function end() {
  edited = null;
  draft = "";
  byId("editing").hidden = true;
}

export function cancel() {
  if (edited === null) return;
  byId("prompt").value = draft;
  end();
  byId("prompt").focus();
}
