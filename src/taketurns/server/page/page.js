// The page: ask a team and watch it write, optionally beside one checkpoint alone.

import * as api from "./api.js";
import { Answer } from "./answer.js";
import * as complaints from "./complaints.js";
import { byId, counted, element } from "./dom.js";
import * as history from "./history.js";
import * as key from "./key.js";
import * as policy from "./policy.js";
import * as tip from "./tip.js";

let team = { name: "", candidates: [] };
let connecting = null; // the running attempt
let running = null; // stops the running answers

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
  byId("examples").hidden = !questions.length;
  byId("examples").replaceChildren(...questions.map((question) => {
    const button = element("button", { type: "button", text: question });
    button.addEventListener("click", () => {
      byId("prompt").value = question;
      byId("ask").requestSubmit();
    });
    return button;
  }));
}

// Asking

async function ask(prompt) {
  const problem = team.name ? null : await connect();
  if (problem) return complaints.about(byId("prompt"), `Not connected: ${problem.message}.`);
  running?.abort();
  const mine = (running = new AbortController());
  const models = [team.name, byId("beside").value].filter(Boolean);
  const answers = models.map((model) => new Answer(model, team));
  show(prompt, answers);
  if (byId("answers").getBoundingClientRect().top > 0.6 * innerHeight) byId("answers").scrollIntoView();
  busy(true);
  say(`${team.name} is writing`);
  const messages = [{ role: "user", content: prompt }];
  await Promise.all(answers.map((answer) => write(answer, messages, mine.signal)));
  if (answers.some((answer) => answer.tokens || !answer.problem)) {
    history.add({ prompt, at: Date.now(), answers: answers.map((answer) => answer.record()) });
  }
  if (running !== mine) return;
  running = null;
  busy(false);
  say(answers.map((one) => one.problem ?? `${one.model} wrote ${counted(one.tokens)}`).join("; "));
}

async function write(answer, messages, signal) {
  try {
    const asked = { model: answer.model, messages, ...policy.wanted(team, answer.alone) };
    await withKey(async () => {
      answer.began = performance.now();
      for await (const choice of api.answer(asked, signal)) answer.take(choice);
    });
    answer.end();
  } catch (error) {
    answer.end(signal.aborted ? "stopped" : error.message);
  }
}

function show(prompt, answers) {
  tip.hide();
  const asked = element("h2", { classes: "asked", text: prompt });
  byId("answers").replaceChildren(asked, ...answers.map((answer) => answer.element));
}

function busy(writing) {
  byId("stop").hidden = !writing;
  byId("submit").textContent = writing ? "Ask again" : "Ask";
}

function say(sentence) {
  byId("status").textContent = sentence;
}

// History

function openHistory() {
  const entries = history.past().map((entry) => {
    const when = new Date(entry.at).toLocaleString();
    const models = entry.answers.map((answer) => answer.model).join(" beside ");
    const button = element("button", { type: "button" },
      element("span", { classes: "q", text: entry.prompt }),
      element("span", { classes: "quiet", text: `${when} · ${models}` }));
    button.addEventListener("click", () => {
      running?.abort();
      byId("history").close();
      byId("prompt").value = entry.prompt;
      show(entry.prompt, entry.answers.map((record) => Answer.from(record)));
    });
    return element("li", {}, button);
  });
  const nothing = element("li", { classes: "quiet", text: "Nothing yet." });
  byId("past").replaceChildren(...(entries.length ? entries : [nothing]));
  byId("forget").hidden = !entries.length;
  byId("history").showModal();
}

// Light and dark

const THEMES = ["auto", "light", "dark"];

function theme(wanted) {
  const name = THEMES.includes(wanted) ? wanted : "auto";
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
  return name;
}

function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "auto";
  const next = theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  try {
    localStorage.setItem("taketurns.theme", next);
  } catch {
    // storage is off: the theme is kept until the page is closed
  }
}

// Wiring

function keys(event) {
  if (document.querySelector("dialog[open]")) return; // Escape only closes the dialog
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    tip.hide();
    running?.abort();
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
byId("stop").addEventListener("click", () => running?.abort());
byId("theme").addEventListener("click", nextTheme);
byId("open-history").addEventListener("click", openHistory);
byId("close-history").addEventListener("click", () => byId("history").close());
byId("forget").addEventListener("click", () => {
  history.forget();
  byId("history").close();
});
byId("close-key").addEventListener("click", () => byId("key").close());
document.addEventListener("keydown", keys);
addEventListener("scroll", tip.hide, { passive: true });

try {
  theme(localStorage.getItem("taketurns.theme"));
} catch {
  theme("auto");
}
connect();
byId("prompt").focus();
