"""The browser of traces: a part of the page that holds traces as data and shows those asked for.

Traces are JSON that cannot end its script element, and the script puts their words in as text, so
nothing that a model wrote is ever taken for HTML.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from random import Random
from typing import Any

from taketurns.evaluation.analysis.report.looks import LOOKS
from taketurns.evaluation.analysis.turns import Answer, Run
from taketurns.evaluation.unsolved_coverage import SOLVED

RESULTS = (
    ("", "all"),
    ("right", "right"),
    ("wrong", "wrong"),
    ("only", "right where no checkpoint alone was"),
)


def style() -> str:
    """CSS for the browser, beside that of the page."""
    rules = "".join(
        f".s{number}{{--c:{one.colour};--u:{one.line}}}\n" for number, one in enumerate(LOOKS)
    )
    return _file("browser.css") + rules


def browser(run: Run, most: int) -> str:
    """HTML with at most `most` traces: where there are more, those that are right where no
    checkpoint alone was come first, then a draw from each task alike."""
    turns = run.subject
    chosen = sample(run, most)
    record = {
        "pool": turns.pool,
        "marks": [one.mark for one in LOOKS],
        "solved": SOLVED,
        "traces": [_trace(answer, _only(run, answer)) for answer in chosen],
    }
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    speakers = "".join(
        f'<li><span class="patch s{number % len(LOOKS)}"><span class="mark">'
        f"{LOOKS[number % len(LOOKS)].mark}</span>{escape(name)}</span></li>"
        for number, name in enumerate(turns.pool)
    )
    said = f"All {len(chosen)} answers of {turns.method}."
    if len(chosen) < len(turns.answers):
        said = (
            f"{len(chosen)} of {len(turns.answers)} answers of {turns.method}: first those "
            "that are right where no checkpoint alone was, then a draw from each task alike."
        )
    return (
        '<section class="browser" aria-labelledby="browse">\n<h2 id="browse">The answers</h2>\n'
        f"<p>{escape(said)} Keys: <kbd>j</kbd> and <kbd>k</kbd> go to the next and the last, "
        "<kbd>/</kbd> to the search.</p>\n"
        f'<ul class="who" aria-label="Speakers">{speakers}</ul>\n'
        f"{_filters(run)}\n"
        '<p id="count" class="quiet" role="status"></p>\n<div id="shown"></div>\n'
        '<button type="button" id="more" hidden>Show more</button>\n'
        "<noscript><p>Showing answers takes JavaScript.</p></noscript>\n</section>\n"
        f'<script type="application/json" id="traces">{safe}</script>\n'
        f"<script>{_file('browser.js')}</script>\n"
    )


def sample(run: Run, most: int) -> list[Answer]:
    """The answers that the page holds, in the run's order."""
    answers = run.subject.answers
    if len(answers) <= most:
        return list(answers)
    numbers = list(range(len(answers)))
    Random(0).shuffle(numbers)
    by_task: dict[str, int] = {}
    place = {}
    for number in numbers:  # the first of each task, then the second of each, and so on
        task = answers[number].task
        by_task[task] = by_task.get(task, 0) + 1
        place[number] = (not _only(run, answers[number]), by_task[task])
    return [answers[number] for number in sorted(sorted(place, key=place.__getitem__)[:most])]


def _only(run: Run, answer: Answer) -> bool:
    return answer.right and run.alone is not None and answer.question not in run.alone


def _trace(answer: Answer, only: bool) -> dict[str, Any]:
    reference = answer.query.reference
    return {
        "id": answer.query.id,
        "task": answer.task,
        "seed": answer.seed,
        "score": answer.score,
        "only": only,
        "asked": answer.query.conversation[-1].content,
        "reference": "" if reference is None else str(reference),
        "patches": [
            [
                patch.speaker,
                patch.text,
                len(patch.token_ids),
                None
                if patch.probabilities is None or len(patch.probabilities) < 2
                else [round(p, 2) for p in patch.probabilities],
            ]
            for patch in answer.patches
        ],
    }


def _filters(run: Run) -> str:
    turns = run.subject
    results = [one for one in RESULTS if one[0] != "only" or run.alone is not None]
    speakers = [("", "anybody"), *((str(n), name) for n, name in enumerate(turns.pool))]
    order = "".join(
        _select(name, f"{name} of three in a row", speakers, hidden=True)
        for name in ("first", "second", "third")
    )
    return (
        '<form class="filters" id="filters">'
        + _select("task", "Task", [("", "all"), *((task, task) for task in turns.tasks)])
        + _select("result", "Result", results)
        + '<div role="group" aria-labelledby="row"><span id="row">Speakers in a row</span>'
        + f"<div>{order}</div></div>"
        + '<label>Words<input id="words" type="search" autocomplete="off"></label>'
        + '<button type="reset">Clear</button></form>'
    )


def _select(
    id_: str, label: str, options: Iterable[tuple[str, str]], *, hidden: bool = False
) -> str:
    inner = "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options
    )
    if hidden:
        return f'<select id="{id_}" aria-label="{escape(label)}">{inner}</select>'
    return f'<label>{escape(label)}<select id="{id_}">{inner}</select></label>'


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
