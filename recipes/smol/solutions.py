"""Worked solutions: a stronger model explains the answers of the stages' questions, and those that
arrive at the right answer are kept.

It is given the answer, because so small a model finds few (as in STaR's rationalisation,
arXiv 2203.14465).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from recipes.smol.documents import short_answer
from recipes.smol.questions import load_tasks
from taketurns.tasks.base import Task
from taketurns.types import Query
from taketurns.utils.files import write_text

WORKED = ("gsm8k", "arc_challenge", "mmlu_redux", "logiqa", "quartz", "socialiqa")
QUESTIONS = 48  # of a task, at most
ASK = (
    "{question}\n\nExplain in one or two short sentences why the right answer is {answer}, and end "
    "with: The answer is {key}."
)
SHOWN = (  # how short an explanation is; without examples the model writes long lists
    (
        "What happens to ice in a warm room?\n\nA) It melts.\nB) It burns.",
        "A) It melts.",
        "A",
        "Ice is frozen water, and a warm room is above its melting point. So it turns into water. "
        "The answer is A.",
    ),
    (
        "Ann has 3 boxes with 4 pens each and gives 2 pens away. How many are left?",
        "10",
        "10",
        "She has 3 * 4 = 12 pens. After giving 2 away, 12 - 2 = 10 are left. The answer is 10.",
    ),
)
TEAM = """\
# A team needs two candidates; only the first writes.
candidates:
  - name: solver
    model: {model}
  - name: unused
    model: {model}
switcher:
  kind: fixed
  sequence: [solver]
policy:
  temperature: 0.7
  max_tokens: 64
"""


def write_prompts(
    model: Path, questions: Path, team: Path, prompts: Path, limit: int = QUESTIONS
) -> None:
    """Write the team file of the solver and what it is asked: one line a question, as `taketurns
    generate` reads it, at most `limit` of a task."""
    write_text(team, TEAM.format(model=model))
    # Questions of like length are read together.
    asked = sorted(_asked(questions, limit), key=lambda pair: len(pair[1].text or ""))
    lines = [{"id": query.id, "messages": _messages(query)} for _, query in asked]
    write_text(prompts, "".join(json.dumps(line) + "\n" for line in lines))


def keep_right(questions: Path, answers: Path, solutions: Path) -> None:
    """Write the solutions that are right and complete, a line each with `id` and `text`."""
    asked = {query.id: (task, query) for task, query in _asked(questions)}
    kept = []
    for line in answers.read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        task, query = asked[answer["id"]]
        if _right(task, query, answer["text"]):
            kept.append(json.dumps({"id": query.id, "text": answer["text"]}) + "\n")
    write_text(solutions, "".join(kept))


def _asked(questions: Path, limit: int | None = None) -> Iterator[tuple[Task, Query]]:
    """The stages' questions whose solutions are wanted, at most `limit` of a task."""
    for task in load_tasks(questions / "stage"):
        if task.name in WORKED:
            for query in islice(task.queries("train"), limit):
                yield task, query


def _messages(query: Query) -> list[dict[str, str]]:
    """The question without the form that its task asks for, with its answer, after two others."""
    text = (query.text or "").rpartition("\n\n")[0]
    asked = (text, short_answer(query), query.reference, None)
    turns = []
    for question, answer, key, explanation in (*SHOWN, asked):
        content = ASK.format(question=question, answer=answer, key=key)
        turns.append({"role": "user", "content": content})
        if explanation is not None:
            turns.append({"role": "assistant", "content": explanation})
    return turns


def _right(task: Task, query: Query, text: str) -> bool:
    """A solution counts only if it says its answer at the end: one that was cut does not."""
    complete = "answer is" in text.rstrip().rpartition("\n")[2].lower()
    return complete and task.score(query, text).value == 1
