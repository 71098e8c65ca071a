"""A table in which people label the skills of patches without seeing the speaker.

Rows are shuffled and show the question, the text before the patch, and the patch: no speaker, no
task, no score. The ids are digests. The labels are read back and compared with other labels.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from random import Random

from taketurns.errors import DataError
from taketurns.evaluation.analysis.answers import MethodAnswers, ScoredAnswer
from taketurns.evaluation.analysis.skills import SKILLS, SkillLabel, agreement
from taketurns.evaluation.bootstrap import percentile_interval
from taketurns.evaluation.statistics import FEW_RESAMPLES, PERCENT_TAIL

COLUMNS = ("id", "question", "before", "patch", "skill")
GUARDED = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two sets of labels on `patches` that both have: the share with the same label
    and Cohen's kappa, each with a 95 % interval (bootstrap over questions). `left` rows have no
    label yet."""

    patches: int
    left: int
    same: float | None = None
    same_low: float | None = None
    same_high: float | None = None
    kappa: float | None = None
    kappa_low: float | None = None
    kappa_high: float | None = None


def write_annotations(path: Path, subject: MethodAnswers, count: int, seed: int = 0) -> int:
    """Write at most `count` patches, drawn evenly; return their number. Raises DataError if the
    file cannot be written."""
    every = [(a, number) for a in subject.answers for number in range(len(a.patches))]
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


def read_annotations(path: Path, subject: MethodAnswers) -> tuple[list[SkillLabel], int]:
    """The labels of the table, and the number of rows without one. Raises DataError for patches of
    another run and for words that are not a skill."""
    known = {
        _id(answer, number): (answer, number)
        for answer in subject.answers
        for number in range(len(answer.patches))
    }
    labels: list[SkillLabel] = []
    left = 0
    for line, row in enumerate(_rows(path), start=2):
        if row["id"] not in known:
            raise DataError(
                f"{path}:{line}: this run has no patch with the id {row['id']!r}: analyse the run "
                "for which --annotate wrote the table"
            )
        answer, number = known[row["id"]]
        skill = (row["skill"] or "").strip().lower()
        if not skill:
            left += 1
        elif skill not in SKILLS:
            raise DataError(
                f"{path}:{line}: unknown skill {skill!r}; the skills are {', '.join(SKILLS)}"
            )
        else:
            labels.append(SkillLabel(answer.question, answer.seed, number, skill))
    return labels, left


def rater_agreement(
    people: Sequence[SkillLabel], left: int, others: Sequence[SkillLabel]
) -> Agreement:
    """The agreement of people's labels with other labels of the same patches."""
    import numpy as np

    theirs = {(label.question, label.seed, label.patch): label.skill for label in others}
    by_question: dict[str, list[tuple[str, str]]] = {}
    for label in people:
        other = theirs.get((label.question, label.seed, label.patch))
        if other is not None:
            by_question.setdefault(label.question, []).append((label.skill, other))
    if not by_question:
        return Agreement(0, left)
    groups = list(by_question.values())
    rng = Random(0)
    resampled = [_agreement(rng.choices(groups, k=len(groups))) for _ in range(FEW_RESAMPLES)]
    low, high = percentile_interval(
        np.array(resampled, dtype=float), PERCENT_TAIL
    )  # NaN where kappa is None
    same, kappa = _agreement(groups)
    return Agreement(
        sum(map(len, groups)), left, same, float(low[0]), float(high[0]), kappa,
        None if np.isnan(low[1]) else float(low[1]), None if np.isnan(high[1]) else float(high[1]),
    )  # fmt: skip


def _agreement(groups: Sequence[Sequence[tuple[str, str]]]) -> tuple[float, float | None]:
    first, second = zip(*chain.from_iterable(groups), strict=True)
    return agreement(first, second)


def _id(answer: ScoredAnswer, number: int) -> str:
    return sha256(f"{answer.question}#{answer.seed}#{number}".encode()).hexdigest()[:12]


def _cell(text: str) -> str:
    """Text with a quote before it if a spreadsheet would read it as a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(GUARDED) else text


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not {"id", "skill"} <= set(table.fieldnames or ()):
        has = ", ".join(table.fieldnames or ()) or "no columns"
        raise DataError(
            f"{path} must have the columns id and skill, and has {has}: write the table with "
            "--annotate"
        )
    return rows
