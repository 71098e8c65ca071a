// The page: talk with a team and watch it write, optionally beside one checkpoint alone.

import * as api from "./api.js";
import { Answer } from "./answer.js";
import * as complaints from "./complaints.js";
import * as conversation from "./conversation.js";
import { byId, counted, element } from "./dom.js";
import * as editing from "./editing.js";
import * as files from "./files.js";
import * as history from "./history.js";
import * as key from "./key.js";
import * as past from "./past.js";
import * as policy from "./policy.js";
import * as theme from "./theme.js";
import * as tip from "./tip.js";

let team = { name: "", candidates: [] };
let connecting = null; // the running attempt
let running = null; // the turn that is being written: its AbortController, and a promise of its end
let changing = false; // whether the conversation is about to change

// Loads the team's description. Returns the error, or null.
function connect() {
  connecting ??= connected().finally(() => (connecting = null));
  return connecting;
}

async function connected() {
  byId("team").textContent = "connecting…";
  try {
    meet(await withKey(api.models));
    return null;
  } catch (error) {
    byId("team").textContent = `not connected: ${error.message}`;
    return error;
  }
}

function meet([first, ...rest]) {
  team = { name: first.id, candidates: first.taketurns.candidates };
  byId("team").textContent = `${team.name}: ${team.candidates.join(", ")} take turns`;
  byId("beside").replaceChildren(
    element("option", { value: "", text: "none" }),
    ...rest.map(({ id }) => element("option", { value: id, text: `${id} alone` })),
  );
  policy.offer(team, first.taketurns.policy);
  examples(first.taketurns.examples);
}

// Calls `does`; if the key is refused, asks for another key and calls it again.
async function withKey(does) {
  for (;;) {
    try {
      return await does();
    } catch (error) {
      if (error.status !== 401 || !(await key.given())) throw error;
    }
  }
}

function examples(questions) {
  byId("examples").replaceChildren(...questions.map((question) => {
    const button = element("button", { type: "button", text: question });
    button.addEventListener("click", () => {
      byId("prompt").value = question;
      byId("ask").requestSubmit();
    });
    return button;
  }));
  update();
}

// Asking

async function ask(prompt) {
  const problem = team.name ? null : await connect();
  if (problem) complaints.about(byId("prompt"), `Not connected: ${problem.message}.`);
  else await change(() => begin(prompt));
}

// Stops what is being written, whose text so far stays part of the conversation, and calls `does`. A
// second change that is wanted meanwhile (a key pressed twice) is left out.
async function change(does) {
  if (changing) return;
  changing = true;
  try {
    await stop();
    does();
  } finally {
    changing = false;
  }
  update();
}

function begin(prompt) {
  tip.hide();
  conversation.cut(editing.index() ?? Infinity);
  conversation.dropFailed();
  editing.end();
  byId("prompt").value = "";
  byId("trace-problem").hidden = true;
  const answers = [team.name, byId("beside").value].filter(Boolean).map((model) => {
    const settings = policy.wanted(team, model !== team.name);
    return new Answer(model, team, conversation.request(model, prompt, settings));
  });
  const turn = conversation.add(prompt, answers, edit);
  if (turn.element.getBoundingClientRect().bottom > innerHeight) turn.element.scrollIntoView();
  const controller = new AbortController();
  const ended = Promise.all(answers.map((answer) => write(answer, controller.signal)));
  running = { controller, ended: ended.then(() => settle(turn)) };
  say(`${team.name} is writing`);
}

async function write(answer, signal) {
  try {
    await withKey(async () => {
      answer.began = performance.now();
      for await (const choice of api.answer(answer.asked, signal)) answer.take(choice);
    });
    answer.end();
  } catch (error) {
    answer.end(signal.aborted ? "stopped" : error.message);
    if (!answer.content) policy.refused(error.param, error.message);
  }
}

// When all answers of a turn have ended.
function settle(turn) {
  running = null;
  update();
  const { prompt, answers } = turn;
  if (turn.failed) byId("prompt").value ||= prompt;
  else history.put({ id: conversation.id(), at: Date.now(), turns: conversation.record() });
  say(answers.map((one) => one.problem ?? `${one.model} wrote ${counted(one.tokens)}`).join("; "));
}

// Resolves when nothing is written any more.
async function stop() {
  running?.controller.abort();
  await running?.ended;
}

function edit(index, prompt) {
  editing.begin(index, prompt);
  update();
  byId("ask").scrollIntoView({ block: "nearest" });
}

function cancelEdit() {
  editing.cancel();
  update();
}

// Shows another conversation.
function show(turns, id) {
  return change(() => {
    tip.hide();
    editing.end();
    byId("trace-problem").hidden = true;
    conversation.load(turns, edit, id);
  });
}

function update() {
  const writing = running !== null;
  const answered = conversation.record().length > 0;
  byId("stop").hidden = !writing;
  byId("new").hidden = !conversation.length();
  byId("save-trace").disabled = writing || !answered;
  const edited = editing.index();
  byId("prompt-label").textContent = edited === null ? (answered ? "Next question" : "Question") : `Question ${edited + 1}`;
  byId("examples").hidden = conversation.length() > 0 || !byId("examples").children.length;
}

function say(sentence) {
  byId("status").textContent = sentence;
}

// Wiring

function keys(event) {
  if (document.querySelector("dialog[open]")) return; // Escape only closes the dialog
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    tip.hide();
    if (running) stop();
    else cancelEdit();
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("prompt").focus();
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = byId("prompt").value.trim();
  if (!prompt) byId("prompt").value = "";
  if (!complaints.any(byId("ask"))) ask(prompt);
});
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("ask").requestSubmit();
  }
});
byId("stop").addEventListener("click", stop);
byId("new").addEventListener("click", async () => {
  await show([]);
  byId("prompt").focus();
});
byId("cancel-edit").addEventListener("click", cancelEdit);
byId("close-key").addEventListener("click", () => byId("key").close());
byId("close-copy").addEventListener("click", () => byId("copy").close());
document.addEventListener("keydown", keys);
addEventListener("scroll", tip.hide, { passive: true });

past.start(({ turns, id }) => show(turns, id));
files.start((turns) => show(turns));
theme.start();
connect();
byId("prompt").focus();
