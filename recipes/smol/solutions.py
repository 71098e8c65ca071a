"""Worked solutions: a stronger model explains the answers of the stages' questions, and those that
arrive at the right answer are kept.

It is given the answer, because so small a model finds few (as in STaR's rationalisation,
arXiv 2203.14465).
"""

from __future__ import annotations

import json
from pathlib import Path

from recipes.smol.documents import short_answer
from recipes.smol.questions import load_tasks
from taketurns import Team
from taketurns.tasks.base import Task
from taketurns.types import Message, Query
from taketurns.utils.files import write_text

WORKED = ("gsm8k", "arc_challenge", "mmlu_redux", "logiqa", "quartz", "socialiqa")
QUESTIONS = 48  # of a task, at most
BATCH = 32  # questions between two writes
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
# A team needs two candidates; only the first is asked, alone.
candidates:
  - name: solver
    model: {model}
  - name: unused
    model: {model}
switcher:
  kind: random
policy:
  temperature: 0.7
  max_tokens: 64
"""


def ask_for_solutions(model: Path, questions: Path, answers: Path, limit: int = QUESTIONS) -> None:
    """Ask `model` every question for solutions; answers are appended to `answers` in batches, so a
    stopped run goes on. A line has the question's `id`, the `text` and whether it is `right`."""
    done = _answered(answers)
    todo = [
        (task, query)
        for task in load_tasks(questions / "stage")
        if task.name in WORKED
        for query in tuple(task.queries("train"))[:limit]
        if query.id not in done
    ]
    file = answers.with_name("solver.yaml")
    write_text(file, TEAM.format(model=model))
    # Questions of like length are read together.
    todo.sort(key=lambda pair: len(pair[1].text or ""))
    with Team.load(file) as team, answers.open("a", encoding="utf-8") as log:
        for start in range(0, len(todo), BATCH):
            asked = todo[start : start + BATCH]
            traces = team.alone("solver").generate([_query(query) for _, query in asked], seed=0)
            for (task, query), trace in zip(asked, traces, strict=True):
                log.write(json.dumps(_line(task, query, trace.text)) + "\n")
            log.flush()


def keep_right(answers: Path, solutions: Path) -> None:
    """Write the solutions that are right and complete."""
    lines = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    kept = [json.dumps(line) + "\n" for line in lines if line["right"]]
    write_text(solutions, "".join(kept))


def _query(query: Query) -> Query:
    """The question without the form that its task asks for, with its answer, after two others."""
    turns = []
    for question, answer, key, explanation in SHOWN:
        asked = ASK.format(question=question, answer=answer, key=key)
        turns += [Message("user", asked), Message("assistant", explanation)]
    question = (query.text or "").rpartition("\n\n")[0]
    asked = ASK.format(question=question, answer=short_answer(query), key=query.reference)
    return Query(query.id, messages=(*turns, Message("user", asked)))


def _line(task: Task, query: Query, text: str) -> dict[str, object]:
    """A solution counts only if it says its answer at the end: one that was cut does not."""
    complete = "answer is" in text.rstrip().rpartition("\n")[2].lower()
    right = complete and task.score(query, text).value == 1
    return {"id": query.id, "text": text, "right": right}


def _answered(answers: Path) -> set[str]:
    """The ids that have an answer. A line that was cut by a stop is removed."""
    if not answers.exists():
        return set()
    text = answers.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(answers, whole)
    return {json.loads(line)["id"] for line in whole.splitlines()}
