"""The answers of an evaluation, with the speaker of each patch and their scores.

They are read from a folder that `taketurns evaluate` wrote, or from a file of traces with scores.
An answer without a score counts as wrong, as in the evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
"""The reasons of patches that one candidate wrote."""


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One answer. `question` is the id of its question with the task's name, equal for all seeds
    and methods. `patches` are those that one candidate wrote, without forced text."""

    task: str
    category: str
    question: str
    seed: int
    score: float
    query: Query
    patches: tuple[Patch, ...]

    @property
    def speakers(self) -> tuple[int, ...]:
        """The index of each patch's speaker."""
        return tuple(patch.speaker for patch in self.patches if patch.speaker is not None)

    @property
    def right(self) -> bool:
        return self.score > SOLVED

    @property
    def text(self) -> str:
        return "".join(patch.text for patch in self.patches)


@dataclass(frozen=True)
class MethodAnswers:
    """The answers of one method, ordered by task, question and seed. `pool` has the candidates'
    names by index. `failed` counts the answers that failed, which are left out."""

    method: str
    pool: tuple[str, ...]
    answers: tuple[ScoredAnswer, ...]
    failed: int = 0

    @cached_property
    def tasks(self) -> dict[str, str]:
        """The category of each task, in order."""
        return {answer.task: answer.category for answer in self.answers}

    @cached_property
    def questions(self) -> dict[str, tuple[ScoredAnswer, ...]]:
        """The answers to each question, by its id."""
        by_question: dict[str, list[ScoredAnswer]] = {}
        for answer in self.answers:
            by_question.setdefault(answer.question, []).append(answer)
        return {question: tuple(answers) for question, answers in by_question.items()}

    @property
    def strata(self) -> list[str]:
        """Each question's task: questions are resampled within their tasks."""
        return [answers[0].task for answers in self.questions.values()]

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(self.tasks.values()))

    def in_category(self, category: str) -> MethodAnswers:
        """The answers of one category."""
        kept = tuple(answer for answer in self.answers if answer.category == category)
        return MethodAnswers(self.method, self.pool, kept)


@dataclass(frozen=True, slots=True)
class AnalysisInput:
    """The answers to analyse: those of the `subject` and, if they exist, of `random` switching.
    `scores`, `[method][task][question][seed]`, are those of both and of the single checkpoints
    (`singles`), for questions that all of them answered with every seed, in the same order.
    `solved_alone` are the questions that an answer of a single checkpoint solves; None if a
    checkpoint was not asked."""

    subject: MethodAnswers
    random: MethodAnswers | None = None
    scores: Mapping[str, Mapping[str, Sequence[Sequence[float]]]] = field(default_factory=dict)
    singles: tuple[str, ...] = ()
    solved_alone: frozenset[str] | None = None


def read_answers(path: Path, method: str | None = None) -> AnalysisInput:
    """The answers at `path`: those of `method` (by default the subject) in an evaluation's folder,
    or those in a file of traces. Raises DataError for anything else."""
    if path.is_dir():
        return _read_folder(path, method)
    if method is not None:
        raise DataError(
            f"{path} is a file with the answers of one method: leave out --method, or name a "
            "folder of taketurns evaluate"
        )
    return _read_file(path)


def _read_folder(folder: Path, method: str | None) -> AnalysisInput:
    results = _read_results(folder)
    asked = {question for questions in results["asked"].values() for question in questions}
    files = {
        name: folder / entry["file"]
        for name, entry in results["methods"].items()
        if entry["file"] and (folder / entry["file"]).exists()
    }
    name = method or results["subject"]
    if name not in files:
        raise DataError(
            f"{folder} has no answers of the method {name!r}; it has {', '.join(files)}"
        )

    def asked_records(name: str) -> Iterator[Mapping[str, Any]]:
        """The records that the results are about: a file may also have answers to an older form of
        a question, or with an older scorer."""
        return (r for r in records(files[name]) if _without_seed(r["id"]) in asked)

    categories = results["categories"]
    team = tuple(candidate["name"] for candidate in results["settings"]["team"]["candidates"])
    subject = _method_answers(name, asked_records(name), categories, team)
    kinds = {name: entry["kind"] for name, entry in results["methods"].items()}
    if kinds.get(name) == "single" or not _switches(subject):
        raise DataError(
            f"one candidate writes all answers of {name!r}, so there are no turns to analyse: name "
            "a switching method with --method"
        )
    random = None
    if CHANCE in files and name != CHANCE:
        random = _method_answers(CHANCE, asked_records(CHANCE), categories, team)
    singles = tuple(name for name, kind in kinds.items() if kind == "single" and name in files)
    scores = {
        name: _scores_by_id(asked_records(name))
        for name in dict.fromkeys((*singles, CHANCE, name))
        if name in files
    }
    solved = (
        _without_seed(id_)
        for name in singles
        for id_, (_, score) in scores[name].items()
        if score > SOLVED
    )
    return AnalysisInput(
        subject=subject,
        random=random,
        scores=_shared_scores(scores),
        singles=singles,
        solved_alone=frozenset(solved) if set(subject.pool) <= set(singles) else None,
    )


def _read_results(folder: Path) -> Mapping[str, Any]:
    try:
        results: Mapping[str, Any] = json.loads((folder / "results.json").read_text("utf-8"))
        schema = results["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        schema = ""
    if schema != SCHEMA and schema.startswith(SCHEMA.partition("/")[0]):
        raise DataError(
            f"{folder} was written by an older version of taketurns (schema {schema}): evaluate "
            "again, into another folder"
        )
    if schema != SCHEMA:
        raise DataError(
            f"{folder} has no results.json of an evaluation: run taketurns evaluate --output "
            f"{folder} to its end"
        )
    return results


def _switches(answers: MethodAnswers) -> bool:
    """Is there a switcher, or more than one speaker?"""
    decided = any(len(p.probabilities or ()) > 1 for a in answers.answers for p in a.patches)
    return decided or len({s for a in answers.answers for s in a.speakers}) > 1


def _read_file(path: Path) -> AnalysisInput:
    if not path.is_file():
        raise DataError(
            f"{path} does not exist or is not a file: name a folder of taketurns evaluate, or a "
            "file of traces with scores"
        )
    traces = [record for record in records(path) if record.get("error") is None]
    if not traces or any(record.get("schema") != TRACE_SCHEMA for record in traces):
        raise DataError(
            f"{path} has no traces, or records that are not traces (schema {TRACE_SCHEMA}): name a "
            "file that taketurns generate or evaluate wrote"
        )
    if not all("score" in record for record in traces):
        raise DataError(
            f"{path} has traces without scores: use a file of taketurns evaluate, or add "
            '"score" (0 to 1) and "task" to each line'
        )
    return AnalysisInput(_method_answers(path.stem, traces, {}))


def _method_answers(
    method: str,
    traces: Iterable[Mapping[str, Any]],
    categories: Mapping[str, str],
    team: Sequence[str] = (),
) -> MethodAnswers:
    """The answers of `traces`. A candidate that wrote nothing is in none of them by name, so its
    name is that in `team`, where that has as many candidates."""
    answers: dict[str, ScoredAnswer] = {}
    names: dict[int, str] = {}
    width = 0
    failed: set[str] = set()
    for record in traces:
        if record.get("error") is not None:
            failed.add(record["id"])
            continue
        trace = trace_from_json(record)
        metadata = trace.query.metadata
        task = record.get("task") or metadata.get("task") or "all"
        for patch, written in zip(trace.patches, record["patches"], strict=True):
            width = max(width, len(patch.probabilities or ()))
            if patch.speaker is not None:
                names[patch.speaker] = written["name"]
        answers[record["id"]] = ScoredAnswer(
            task=task,
            category=categories.get(task) or metadata.get("category") or task,
            question=_question(record, task),
            seed=trace.seed,
            score=float(record["score"] or 0.0),
            query=trace.query,
            patches=tuple(
                patch
                for patch in trace.patches
                if patch.speaker is not None and patch.reason in REASONS and patch.token_ids
            ),
        )
    if not any(answer.patches for answer in answers.values()):
        raise DataError(
            f"the answers of {method!r} have no patch with a speaker: name a method whose patches "
            "are each written by one candidate"
        )
    size = max(width, max(names, default=0) + 1)
    known = dict(enumerate(team)) if len(team) == size else {}
    known |= names
    pool = tuple(known.get(number, f"candidate {number}") for number in range(size))
    failed -= answers.keys()
    place = {task: at for at, task in enumerate(dict.fromkeys(a.task for a in answers.values()))}
    ordered = sorted(answers.values(), key=lambda answer: place[answer.task])
    return MethodAnswers(method, pool, tuple(ordered), len(failed))


def _question(record: Mapping[str, Any], task: str) -> str:
    """The question's id: in an evaluation, `task/question@digest#seed` without the seed."""
    question, mark, seed = str(record["id"]).rpartition("#")
    whole = question if mark and seed.isdigit() else str(record["id"])
    return whole if whole.startswith(f"{task}/") else f"{task}/{whole}"


def _without_seed(id_: str) -> str:
    return id_.rpartition("#")[0]


def _scores_by_id(traces: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    """Task and score of each answer that did not fail, by id."""
    return {
        record["id"]: (record["task"], float(record["score"] or 0.0))
        for record in traces
        if record.get("error") is None
    }


def _shared_scores(
    methods: Mapping[str, Mapping[str, tuple[str, float]]],
) -> dict[str, dict[str, list[list[float]]]]:
    """`[method][task][question][seed]`, for questions that all methods answered with every seed."""
    first, *others = methods.values()
    seeds: dict[str, list[str]] = {}
    for id_ in first:
        if all(id_ in other for other in others):
            seeds.setdefault(_without_seed(id_), []).append(id_)
    most = max(map(len, seeds.values()), default=0)
    scores: dict[str, dict[str, list[list[float]]]] = {name: {} for name in methods}
    for ids in seeds.values():
        if len(ids) == most:
            task, _ = first[ids[0]]
            for name, answers in methods.items():
                of_question = [answers[id_][1] for id_ in sorted(ids)]
                scores[name].setdefault(task, []).append(of_question)
    return scores
