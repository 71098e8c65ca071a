"""The answers of an evaluation as turns: who wrote what, in what order, and what came of it.

They are read from a folder that `taketurns evaluate` wrote, or from a file of traces with scores.
An answer that its scorer gave no value counts as wrong, as in the evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from taketurns.errors import DataError
from taketurns.evaluation.store import SCHEMA, records
from taketurns.evaluation.unsolved_coverage import CHANCE, SOLVED
from taketurns.runs.records import TRACE_SCHEMA, trace_from_json
from taketurns.types import Patch, Query

REASONS = ("chosen", "opening", "closing", "fallback", "guard")
"""Of patches that one candidate wrote."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: `question` is its question's id, alike under all seeds and for all methods, with
    the task's name in it. `patches` are those that one candidate wrote; what was forced is left
    out of them."""

    task: str
    category: str
    question: str
    seed: int
    score: float
    query: Query
    patches: tuple[Patch, ...]

    @property
    def speakers(self) -> tuple[int, ...]:
        """Who wrote each patch, by number."""
        return tuple(patch.speaker for patch in self.patches if patch.speaker is not None)

    @property
    def tokens(self) -> int:
        return sum(len(patch.token_ids) for patch in self.patches)

    @property
    def right(self) -> bool:
        return self.score > SOLVED

    @property
    def text(self) -> str:
        return "".join(patch.text for patch in self.patches)


@dataclass(frozen=True)
class Turns:
    """The answers of one method. `pool` are the candidates' names by number; `answers` stand in an
    order that is that of tasks, questions and seeds. `failed` answers are not among them."""

    method: str
    pool: tuple[str, ...]
    answers: tuple[Answer, ...]
    failed: int = 0

    @cached_property
    def tasks(self) -> dict[str, str]:
        """Categories by task, in order."""
        return {answer.task: answer.category for answer in self.answers}

    @cached_property
    def questions(self) -> dict[str, tuple[Answer, ...]]:
        """A question's answers, by its id."""
        found: dict[str, list[Answer]] = {}
        for answer in self.answers:
            found.setdefault(answer.question, []).append(answer)
        return {question: tuple(answers) for question, answers in found.items()}

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(self.tasks.values()))

    def of(self, category: str) -> Turns:
        """The answers of one category."""
        kept = tuple(answer for answer in self.answers if answer.category == category)
        return Turns(self.method, self.pool, kept)


@dataclass(frozen=True, slots=True)
class Run:
    """What is analysed: the `subject`'s turns, and where they were asked too, those of random
    switching (`chance`) and the `scores` of both and of the `singles`, `[method][task][question]
    [seed]`, of questions that all of them answered under every seed, in one order. `alone` are the
    questions that an answer of some single checkpoint solves, None if one was not asked."""

    subject: Turns
    chance: Turns | None = None
    scores: Mapping[str, Mapping[str, Sequence[Sequence[float]]]] = field(default_factory=dict)
    singles: tuple[str, ...] = ()
    alone: frozenset[str] | None = None


def read_run(path: Path, method: str | None = None) -> Run:
    """The answers at `path`: an evaluation's folder, of which `method` is looked at (by default
    its subject), or a file of traces. Raises DataError for anything else, saying what it lacks."""
    if path.is_dir():
        return _read_folder(path, method)
    if method is not None:
        raise DataError(f"{path} is a file of one method's answers; --method needs a folder")
    return _read_file(path)


def _read_folder(folder: Path, method: str | None) -> Run:
    try:
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        schema = found["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        schema = ""
    if schema != SCHEMA and schema.startswith(SCHEMA.partition("/")[0]):
        raise DataError(f"{folder} is of an older taketurns; let this one evaluate into another")
    if schema != SCHEMA:
        raise DataError(
            f"{folder} has no results.json of an evaluation: let taketurns evaluate --output "
            f"{folder} come to its end"
        )
    kinds = {name: one["kind"] for name, one in found["methods"].items()}
    subject = method or found["subject"]
    answers = {name: folder / one["file"] for name, one in found["methods"].items() if one["file"]}
    asked = {question for questions in found["asked"].values() for question in questions}
    there = [name for name, path in answers.items() if path.exists()]
    if subject not in there:
        raise DataError(f"{folder} has no answers of {subject!r}; it has {', '.join(there)}")
    categories = found["categories"]
    turns = _turns(subject, _asked(answers[subject], asked), categories)
    decided = any(len(p.probabilities or ()) > 1 for a in turns.answers for p in a.patches)
    alone = not decided and len({s for a in turns.answers for s in a.speakers}) < 2
    if kinds.get(subject) == "single" or alone:
        raise DataError(f"{subject!r} has no turns: one candidate writes all of its answers")
    chance = CHANCE in there and subject != CHANCE
    singles = tuple(name for name, kind in kinds.items() if kind == "single" and name in there)
    kept = {
        name: _by_id(_asked(answers[name], asked))
        for name in dict.fromkeys((*singles, CHANCE, subject))
        if name in there
    }
    solved = (
        id_.rpartition("#")[0]
        for name in singles
        for id_, (_, score) in kept[name].items()
        if score > SOLVED
    )
    return Run(
        subject=turns,
        chance=_turns(CHANCE, _asked(answers[CHANCE], asked), categories) if chance else None,
        scores=_scores(kept),
        singles=singles,
        alone=frozenset(solved) if set(turns.pool) <= set(singles) else None,
    )


def _asked(path: Path, questions: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """The answers that the results are about: a file may hold some to questions that were changed
    since, or with scores by other rules."""
    return (one for one in records(path) if one["id"].rpartition("#")[0] in questions)


def _read_file(path: Path) -> Run:
    if not path.is_file():
        raise DataError(f"{path} is neither a folder of taketurns evaluate nor a file of traces")
    found = [record for record in records(path) if record.get("error") is None]
    if not found or any(record.get("schema") != TRACE_SCHEMA for record in found):
        raise DataError(f"{path} is no file of traces, as taketurns generate and evaluate write it")
    if not all("score" in record for record in found):
        raise DataError(
            f"{path} has traces without scores: taketurns evaluate keeps both, or add to each line "
            'its "score" (0 to 1) and "task"'
        )
    turns = _turns(path.stem, found, {})
    return Run(turns)


def _turns(method: str, found: Iterable[Mapping[str, Any]], categories: Mapping[str, str]) -> Turns:
    answers: dict[str, Answer] = {}
    names: dict[int, str] = {}
    wide = 0
    failed: set[str] = set()
    for record in found:
        if record.get("error") is not None:
            failed.add(record["id"])
            continue
        trace = trace_from_json(record)
        metadata = trace.query.metadata
        task = record.get("task") or metadata.get("task") or "all"
        patches = tuple(
            patch
            for patch in trace.patches
            if patch.speaker is not None and patch.reason in REASONS and patch.token_ids
        )
        for patch, written in zip(trace.patches, record["patches"], strict=True):
            wide = max(wide, len(patch.probabilities or ()))
            if patch.speaker is not None:
                names[patch.speaker] = written["name"]
        answers[record["id"]] = Answer(
            task=task,
            category=categories.get(task) or metadata.get("category") or task,
            question=_question(record, task),
            seed=trace.seed,
            score=float(record["score"] or 0.0),
            query=trace.query,
            patches=patches,
        )
    if not any(answer.patches for answer in answers.values()):
        raise DataError(f"the answers of {method!r} hold no patches that a candidate wrote alone")
    size = max(wide, max(names, default=0) + 1)
    pool = tuple(names.get(number, f"candidate {number}") for number in range(size))
    failed -= answers.keys()
    place = {task: at for at, task in enumerate(dict.fromkeys(a.task for a in answers.values()))}
    ordered = sorted(answers.values(), key=lambda answer: place[answer.task])
    return Turns(method, pool, tuple(ordered), len(failed))


def _question(record: Mapping[str, Any], task: str) -> str:
    """An evaluation's ids end in the seed: `task/question@digest#seed`."""
    question, mark, seed = str(record["id"]).rpartition("#")
    whole = question if mark and seed.isdigit() else str(record["id"])
    return whole if whole.startswith(f"{task}/") else f"{task}/{whole}"


def _scores(
    kept: Mapping[str, Mapping[str, tuple[str, float]]],
) -> dict[str, dict[str, list[list[float]]]]:
    """By method and task, of the answers that all of them gave."""
    names = list(kept)
    shared = set.intersection(*(set(found) for found in kept.values()))
    first = kept[names[0]]
    seeds: dict[str, list[str]] = {}
    for id_ in first:
        if id_ in shared:
            seeds.setdefault(id_.rpartition("#")[0], []).append(id_)
    most = max(map(len, seeds.values()), default=0)
    found: dict[str, dict[str, list[list[float]]]] = {name: {} for name in names}
    for ids in seeds.values():
        if len(ids) == most:
            task = first[ids[0]][0]
            for name in names:
                own = [kept[name][id_][1] for id_ in sorted(ids)]
                found[name].setdefault(task, []).append(own)
    return found


def _by_id(found: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    return {
        record["id"]: (record["task"], float(record["score"] or 0.0))
        for record in found
        if record.get("error") is None
    }
