"""Calibration of an answer's confidence: Brier score and expected calibration error.

The multiclass Brier score is the sum over classes of (probability - outcome)², from 0 to 2 (Brier
1950); an answer's value is 1 minus half of it. The calibration error is the mean distance between
confidence and share of right answers over ten bins of confidence, weighted by the bins' sizes (Guo
et al., arXiv 1706.04599).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import ClassVar

from taketurns.tasks.scorers.base import Scorer, unparsed, version_with
from taketurns.tasks.scorers.styling import answered
from taketurns.types import Query, Score

BINS = 10
STATED = re.compile(
    r"\bconfiden(?:ce|t)\b(?:\s+level)?\s*(?:is|of|:|=)?\s*(?:about |around )?"
    r"(\d+(?:\.\d+)?|\.\d+)\s*(\\?%|percent\b)?"
    r"|(\d+(?:\.\d+)?|\.\d+)\s*(\\?%|percent)\s+(?:confident|sure|certain|confidence)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Calibration:
    """Compares the confidence in an answer with its correctness by the scorer `of`. `measures` uses
    the `confidence` and `raw` (1: right) of the scores."""

    stored_name: ClassVar[str] = "Stated"

    of: Scorer

    @property
    def version(self) -> int:
        """It increases with the version of `of`."""
        return version_with(self.of)

    def check(self, query: Query) -> None:
        self.of.check(query)

    def measures(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """`accuracy`, `brier` and `ece` over the answers that have a confidence."""
        stated = [
            (score.confidence, score.raw, score.value)
            for score in scores
            if score.confidence is not None and score.raw is not None and score.value is not None
        ]
        if not stated:
            return {}
        confidences, right, values = zip(*stated, strict=True)
        return {
            "accuracy": fmean(right),
            "brier": 2 * (1 - fmean(values)),
            "ece": calibration_error(confidences, right),
        }


@dataclass(frozen=True)
class Stated(_Calibration):
    """The confidence that an answer states ("Confidence: 80 %"). The rest of the probability is
    spread evenly over the other choices of the data."""

    name: str = field(default="calibration", kw_only=True)

    def score(self, query: Query, answer: str) -> Score:
        answer = answered(answer)
        stated = list(STATED.finditer(answer))
        confidence = _probability(stated[-1]) if stated else None
        if confidence is None:
            return unparsed("no confidence is stated")
        inner = self.of.score(query, STATED.sub("", answer))
        if not inner.parsed or inner.value is None:
            return inner
        right = inner.value >= 1
        others = max(1, len(query.metadata.get("choices") or "ab") - 1)
        rest = [(1 - confidence) / others] * others
        outcome = 0 if right else 1
        return replace(
            inner,
            value=1 - brier([confidence, *rest], outcome) / 2,
            raw=float(right),
            confidence=confidence,
        )

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        return self.of.canonical_answer(query, STATED.sub("", answered(answer)))


@dataclass(frozen=True)
class Sampled(_Calibration):
    """The confidence from several answers to one query: the share of them that agree, by the answer
    that `of` extracts. `score` treats a single answer as certain."""

    stored_name: ClassVar[str] = "Sampled"

    name: str = field(default="calibration-sampled", kw_only=True)

    def score(self, query: Query, answer: str) -> Score:
        return self.score_group(query, [answer])[0]

    def score_group(self, query: Query, answers: Sequence[str]) -> list[Score]:
        inner = [self.of.score(query, answer) for answer in answers]
        classes = [_class(score) for score in inner]
        parsed = [name for name in classes if name is not None]
        if not parsed:
            return inner
        shares = {name: parsed.count(name) / len(parsed) for name in dict.fromkeys(parsed)}
        names = list(shares)
        right = names.index(RIGHT) if RIGHT in names else None
        value = 1 - brier(list(shares.values()), right) / 2
        return [
            score
            if name is None
            else replace(score, value=value, raw=float(name == RIGHT), confidence=shares[name])
            for score, name in zip(inner, classes, strict=True)
        ]

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        return self.of.canonical_answer(query, answer)


def brier(probabilities: Sequence[float], right: int | None) -> float:
    """Brier's multiclass score of one forecast; `right` is the index of the right class, None if
    none of the classes is right."""
    missed = sum((p - (i == right)) ** 2 for i, p in enumerate(probabilities))
    return missed + (1.0 if right is None else 0.0)


def calibration_error(confidences: Sequence[float], right: Sequence[float]) -> float:
    """Guo et al.'s expected calibration error over ten bins of equal width. Raises ValueError for
    different lengths."""
    bins: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for confidence, outcome in zip(confidences, right, strict=True):
        bins[min(BINS - 1, int(confidence * BINS))].append((confidence, outcome))
    gaps = (abs(sum(confidence - outcome for confidence, outcome in members)) for members in bins)
    return sum(gaps) / len(confidences)


RIGHT = object()


def _class(score: Score) -> object:
    """The class of an answer: all right answers are one class, in whatever wording."""
    if not score.parsed or score.value is None:
        return None
    return RIGHT if score.value >= 1 else " ".join((score.answer or "").casefold().split())


def _probability(match: re.Match[str]) -> float | None:
    digits, percent = match[1] or match[3], match[2] or match[4]
    value = float(digits)
    if percent or value > 1:
        value /= 100
    return value if value <= 1 else None
