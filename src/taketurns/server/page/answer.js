// One answer on the page: its text in its speakers' styles, a bar of the patches, and shares.

import * as api from "./api.js";
import { copy } from "./clipboard.js";
import { curl, python } from "./clients.js";
import { byId, counted, element, percent, seconds } from "./dom.js";
import { look, mark } from "./speakers.js";
import * as tip from "./tip.js";

const ENDS = new Map([["length", " · cut at max_tokens"], ["content_filter", " · ended by the guard"]]);

export class Answer {
  // `team` has a name and candidates, as they were at the time of the answer. A candidate that answers
  // alone is speaker 0 of its answer; its `offset` gives it the same style as in the team. `asked` is the
  // request, or null if it is not known.
  constructor(model, team, asked) {
    this.model = model;
    this.team = team;
    this.asked = asked;
    this.alone = model !== team.name;
    this.offset = this.alone ? Math.max(0, team.candidates.indexOf(model)) : 0;
    this.patches = [];
    this.tokens = 0;
    this.about = null;
    this.problem = null;
    this.began = performance.now();
    this.first = null;
    this.took = null;
    this.build();
  }

  build() {
    this.figures = element("p", { classes: "figures quiet", text: "waiting" });
    this.text = element("div", { classes: "text", role: "group", "aria-label": `Answer of ${this.model}` });
    this.note = element("p", { classes: "problem" });
    this.note.hidden = true;
    this.timeline = element("div", { classes: "timeline", role: "img", "aria-label": "No patch yet" });
    this.legend = element("ul", { classes: "legend" });
    const title = element("h3", { text: this.model });
    const head = element("div", { classes: "answer-head" }, title, this.figures);
    this.element = element("article", { classes: "answer writing", "data-model": this.model },
      head, this.text, this.note, this.timeline, this.legend);
    if (this.asked) this.element.append(this.copying());
    this.text.addEventListener("keydown", (event) => this.walk(event));
  }

  copying() {
    const button = (client, spell) => {
      const made = element("button", {
        type: "button", classes: "link", text: `Copy as ${client}`, "aria-label": `Copy as ${client}, request to ${this.model}`,
      });
      made.addEventListener("click", async () => {
        if (!await copy(spell(api.streamed(this.asked), location.origin, api.hasKey()))) return;
        byId("status").textContent = `The request to ${this.model} is copied as ${client}.`;
        made.textContent = "Copied";
        setTimeout(() => (made.textContent = `Copy as ${client}`), 2000);
      });
      return made;
    };
    return element("p", { classes: "copying quiet" }, button("curl", curl), button("Python", python));
  }

  // What is written so far.
  get content() {
    return this.patches.map((patch) => patch.text).join("");
  }

  // Adds a chunk's choice.
  take(choice) {
    const turns = choice.taketurns ?? {};
    if ("speaker" in turns) this.write(turns, choice.delta.content ?? "");
    if (turns.patch) this.complete(turns.patch);
    if ("seed" in turns) this.about = { seed: turns.seed, finish: choice.finish_reason };
  }

  write({ speaker, name, tokens }, text) {
    let patch = this.patches.at(-1);
    if (!patch || patch.reason || patch.speaker !== this.raised(speaker)) {
      patch = this.begin(this.raised(speaker), name);
    }
    if (tokens && this.first === null) this.first = performance.now();
    patch.text += text;
    patch.tokens += tokens;
    patch.put(patch.text);
    this.tokens += tokens;
    this.measure();
  }

  complete(record) {
    let patch = this.patches.at(-1);
    const speaker = this.raised(record.speaker);
    if (!patch || patch.reason || patch.speaker !== speaker) patch = this.begin(speaker, record.name);
    const { text, tokens, timing, probabilities } = record;
    if (record.speaker === null) this.tokens += tokens;
    // A checkpoint alone was not selected among others.
    const reason = this.alone && record.reason === "chosen" ? "alone" : record.reason;
    Object.assign(patch, { text, tokens, reason, timing });
    patch.probabilities = probabilities?.length > 1 ? probabilities : null;
    patch.put(text);
    this.settle(patch);
    this.measure();
  }

  // Marks a patch as final: it is complete, or it was cut short.
  settle(patch) {
    patch.broken = !patch.reason;
    patch.span.setAttribute("aria-label", `${patch.name ?? "forced"}: ${patch.text}`);
    tip.renew(patch);
  }

  begin(speaker, name) {
    const space = document.createTextNode("");
    const words = document.createTextNode("");
    const sign = element("span", { classes: "mark", text: mark(speaker), "aria-hidden": "true" });
    const span = element("span", {
      classes: `patch ${look(speaker)}`, role: "note", tabindex: this.patches.length ? "-1" : "0",
    }, space, sign, words);
    // The mark is before the first word.
    const put = (text) => {
      words.data = text.trimStart();
      space.data = text.slice(0, text.length - words.data.length);
    };
    const slice = element("div", { classes: `slice ${look(speaker)}` }, element("span", { text: mark(speaker) }));
    const patch = { speaker, name, text: "", tokens: 0, put, span, slice };
    this.point(patch);
    this.patches.push(patch);
    this.text.append(span);
    this.timeline.append(slice);
    return patch;
  }

  raised(speaker) {
    return speaker === null ? null : speaker + this.offset;
  }

  // Hovering over or focusing a patch, or its slice of the bar, shows its details.
  point(patch) {
    const light = () => {
      for (const other of this.patches) this.dim(other);
      patch.span.classList.add("lit");
      patch.slice.classList.add("lit");
      tip.show(patch.span, patch, this.team.candidates);
    };
    const away = () => {
      this.dim(patch);
      tip.hide();
    };
    for (const part of [patch.span, patch.slice]) {
      part.addEventListener("pointerenter", light);
      part.addEventListener("pointerleave", away);
    }
    patch.span.addEventListener("focus", light);
    patch.span.addEventListener("blur", away);
    patch.span.addEventListener("click", () => patch.span.focus());
    patch.slice.addEventListener("click", () => patch.span.focus());
  }

  dim(patch) {
    patch.span.classList.remove("lit");
    patch.slice.classList.remove("lit");
  }

  // Arrow keys move from patch to patch; for the Tab key the answer is one stop.
  walk(event) {
    const shown = this.patches.filter((patch) => !patch.span.hidden);
    const at = shown.findIndex((patch) => patch.span === document.activeElement);
    const last = shown.length - 1;
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last }[event.key];
    if (at < 0 || to === undefined || to < 0 || to > last) return;
    event.preventDefault();
    shown[at].span.tabIndex = -1;
    shown[to].span.tabIndex = 0;
    shown[to].span.focus();
  }

  measure() {
    for (const patch of this.patches) {
      patch.slice.style.flexGrow = patch.tokens;
      // Hide the patch of a speaker that only ended the answer.
      patch.slice.hidden = patch.span.hidden = !patch.tokens && Boolean(patch.reason);
    }
    const shares = this.shares();
    this.legend.replaceChildren(...shares.map((share) => this.entry(share)));
    const said = shares.filter(({ tokens }) => tokens).map(({ name, tokens }) => `${name} ${percent(tokens / this.tokens)}`);
    this.timeline.setAttribute("aria-label", `Speakers by tokens: ${said.join(", ")}`);
    const since = ((this.took ?? performance.now()) - this.began) / 1000;
    const first = this.first === null ? "" : ` · first token ${seconds((this.first - this.began) / 1000)}`;
    this.figures.textContent = `${counted(this.tokens)} · ${seconds(since)}${first}`;
  }

  shares() {
    const shares = this.alone
      ? [{ speaker: this.offset, name: this.model, tokens: 0 }]
      : this.team.candidates.map((name, speaker) => ({ speaker, name, tokens: 0 }));
    for (const { speaker, tokens } of this.patches) {
      const share = shares.find((one) => one.speaker === speaker);
      if (share) share.tokens += tokens;
      else shares.push({ speaker, name: "forced", tokens });
    }
    return shares;
  }

  entry({ speaker, name, tokens }) {
    const share = this.tokens ? tokens / this.tokens : 0;
    const fill = element("i");
    fill.style.width = `${100 * share}%`;
    return element("li", { classes: look(speaker) },
      element("span", { classes: "mark", text: mark(speaker), "aria-hidden": "true" }),
      element("span", { classes: "name", text: name }),
      element("span", { classes: "bar" }, fill),
      element("span", { classes: "much", text: `${percent(share)} · ${tokens}` }));
  }

  // Ends the answer: `problem` says why, if it is incomplete; `at` is the time.
  end(problem = null, at = performance.now()) {
    this.element.classList.remove("writing");
    this.element.classList.toggle("unwritten", Boolean(problem) && !this.content);
    this.took = at;
    this.problem = problem;
    for (const patch of this.patches) this.settle(patch);
    if (problem) {
      this.note.hidden = false;
      this.note.textContent = problem;
    }
    this.measure();
    if (!this.tokens) this.figures.textContent = problem ? "nothing written" : "an empty answer";
    if (!this.about) return;
    this.figures.textContent += ` · seed ${this.about.seed}${ENDS.get(this.about.finish) ?? ""}`;
  }

  // The answer as plain values, in the form that trace.js describes; `from` reads them back. Of the
  // request, the model and the messages are those of the conversation.
  record() {
    const patches = this.patches.map(({ text, tokens, speaker, name, reason, probabilities, timing }) => (
      { text, tokens, speaker, name, reason, probabilities, timing }));
    const { model, team, about, problem } = this;
    const { model: _, messages, ...settings } = this.asked ?? {};
    const since = (time) => Math.round(time - this.began);
    return {
      model, team, about, problem, patches, settings: this.asked && settings,
      first: this.first === null ? null : since(this.first), took: since(this.took),
    };
  }

  static from(record, asked) {
    const answer = new Answer(record.model, record.team, asked);
    answer.began = performance.now() - record.took;
    answer.first = typeof record.first === "number" ? answer.began + record.first : null;
    for (const kept of record.patches) {
      const patch = answer.begin(kept.speaker ?? null, kept.name);
      const { text, tokens, reason, probabilities, timing } = kept;
      Object.assign(patch, { text, tokens, reason, probabilities, timing });
      patch.put(text);
      answer.tokens += tokens;
    }
    answer.about = record.about ?? null;
    answer.end(record.problem ?? null, answer.began + record.took);
    return answer;
  }
}
