// The conversation on the page: questions, each with its answers, and the messages of a request.

import { Answer } from "./answer.js";
import { byId, element } from "./dom.js";
import { folding } from "./fold.js";

const turns = [];
let began = Date.now(); // the conversation's id in the history

export const length = () => turns.length;
export const id = () => began;

class Turn {
  constructor(prompt, answers) {
    this.prompt = prompt;
    this.answers = answers;
    const asked = element("h2", { classes: "asked", text: prompt });
    this.edit = element("button", { type: "button", classes: "plain edit", text: "Edit" });
    const head = element("div", { classes: "turn-head" }, folding(asked, "the question"), this.edit);
    const cards = element("div", { classes: "answers" }, ...answers.map((answer) => answer.element));
    this.element = element("section", { classes: "turn" }, head, cards);
  }

  // Whether no answer came: the conversation goes on without this turn.
  get failed() {
    return this.answers.every((answer) => answer.problem && !answer.content);
  }

  // What `model` answered here; where it wrote nothing, what another did.
  contentFor(model) {
    const wrote = this.answers.filter((answer) => answer.content);
    return (wrote.find((answer) => answer.model === model) ?? wrote[0])?.content ?? "";
  }
}

// The body of a request to `model` that follows the present turns.
export function request(model, prompt, settings) {
  const earlier = turns.flatMap((turn) => [
    { role: "user", content: turn.prompt },
    { role: "assistant", content: turn.contentFor(model) },
  ]);
  return { model, messages: [...earlier, { role: "user", content: prompt }], ...settings };
}

export function add(prompt, answers, edit) {
  const turn = new Turn(prompt, answers);
  const number = turns.push(turn);
  turn.element.setAttribute("aria-label", `Question ${number}`);
  turn.edit.setAttribute("aria-label", `Edit question ${number}`);
  turn.edit.addEventListener("click", () => edit(number - 1, prompt));
  byId("conversation").append(turn.element);
  return turn;
}

// Removes the turns from `index` on. If one had answers, what is left is another conversation: the
// history keeps both.
export function cut(index) {
  const removed = turns.splice(index);
  for (const turn of removed) turn.element.remove();
  if (removed.some((turn) => !turn.failed)) began = Date.now();
}

// Removes a last turn without answers, which is asked anew.
export function dropFailed() {
  if (turns.at(-1)?.failed) turns.pop().element.remove();
}

export function clear() {
  cut(0);
}

// The conversation as plain values, in the form that trace.js describes; `load` shows it again.
export function record() {
  return turns.filter((turn) => !turn.failed).map(({ prompt, answers }) => (
    { prompt, answers: answers.map((answer) => answer.record()) }));
}

export function load(kept, edit, started = Date.now()) {
  clear();
  began = started;
  for (const { prompt, answers } of kept) {
    const shown = answers.map((record) => {
      const asked = record.settings ? request(record.model, prompt, record.settings) : null;
      return Answer.from(record, asked);
    });
    add(prompt, shown, edit);
  }
}
