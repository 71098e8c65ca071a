"""A table for people who label patches without knowing who wrote them, and reading it back.

Rows are shuffled and show question, what stood before, and the patch: no speaker, no task, no
result. The ids are digests that say nothing. Filled in, they are compared with other labels.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

from taketurns.errors import DataError
from taketurns.evaluation.analysis.clusters import interval
from taketurns.evaluation.analysis.skills import SKILLS, Label, agreement
from taketurns.evaluation.analysis.turns import Answer, Turns
from taketurns.evaluation.statistics import FEW_RESAMPLES

COLUMNS = ("id", "question", "before", "patch", "skill")
GUARDED = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of `patches` that both labelled: the share with the same label and Cohen's kappa, each with
    a 95 % interval (bootstrap over questions); `left` rows have no label yet."""

    patches: int
    left: int
    same: float | None = None
    same_low: float | None = None
    same_high: float | None = None
    kappa: float | None = None
    kappa_low: float | None = None
    kappa_high: float | None = None


def write_annotations(path: Path, turns: Turns, count: int, seed: int = 0) -> int:
    """Write at most `count` patches, drawn evenly; how many. Raises DataError."""
    every = [(answer, number) for answer in turns.answers for number in range(len(answer.patches))]
    chosen = Random(seed).sample(every, min(count, len(every)))
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for answer, number in chosen:
                before = "".join(patch.text for patch in answer.patches[:number])
                asked = answer.query.conversation[-1].content
                shown = (_cell(text) for text in (asked, before, answer.patches[number].text))
                table.writerow([_id(answer, number), *shown, ""])
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error
    return len(chosen)


def read_annotations(path: Path, turns: Turns) -> tuple[list[Label], int]:
    """The labels that were filled in, and how many rows have none. Raises DataError for another
    run's patches and for words that are no skill's."""
    known = {
        _id(answer, number): (answer, number)
        for answer in turns.answers
        for number in range(len(answer.patches))
    }
    found: list[Label] = []
    left = 0
    for line, row in enumerate(_rows(path), start=2):
        if row["id"] not in known:
            raise DataError(f"{path}:{line}: {row['id']!r} is no patch of this run")
        answer, number = known[row["id"]]
        skill = (row["skill"] or "").strip().lower()
        if not skill:
            left += 1
        elif skill not in SKILLS:
            raise DataError(
                f"{path}:{line}: {skill!r} is no skill; the skills are {', '.join(SKILLS)}"
            )
        else:
            found.append(Label(answer.question, answer.seed, number, skill))
    return found, left


def compare(people: Sequence[Label], left: int, others: Sequence[Label]) -> Agreement:
    """What people and another labeller say of the same patches."""
    theirs = {(one.question, one.seed, one.patch): one.skill for one in others}
    pairs: dict[str, list[tuple[str, str]]] = {}
    for one in people:
        other = theirs.get((one.question, one.seed, one.patch))
        if other is not None:
            pairs.setdefault(one.question, []).append((one.skill, other))
    every = [pair for own in pairs.values() for pair in own]
    if not every:
        return Agreement(0, left)
    same, kappa = _both(every)
    tried = _resampled(pairs)
    same_low, same_high = _percentiles([one for one, _ in tried])
    kappa_low, kappa_high = _percentiles([other for _, other in tried if other is not None])
    return Agreement(len(every), left, same, same_low, same_high, kappa, kappa_low, kappa_high)


def _both(pairs: Sequence[tuple[str, str]]) -> tuple[float, float | None]:
    return agreement([a for a, _ in pairs], [b for _, b in pairs])


def _resampled(
    pairs: Mapping[str, Sequence[tuple[str, str]]],
) -> list[tuple[float, float | None]]:
    rng, groups = Random(0), list(pairs.values())
    return [
        _both([pair for own in rng.choices(groups, k=len(groups)) for pair in own])
        for _ in range(FEW_RESAMPLES)
    ]


def _percentiles(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    import numpy as np

    if not values:
        return None, None
    low, high = interval(np.array(values))
    return float(low), float(high)


def _id(answer: Answer, number: int) -> str:
    return sha256(f"{answer.question}#{answer.seed}#{number}".encode()).hexdigest()[:12]


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(GUARDED) else text


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not {"id", "skill"} <= set(table.fieldnames or ()):
        raise DataError(f"{path} has no columns id and skill: write one with --annotate")
    return rows
