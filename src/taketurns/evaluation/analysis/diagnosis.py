"""The switcher's decisions in stored answers, and signs of failure of a team.

Whether its probabilities are *right* can only be measured with new answers: that is an experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

from taketurns.evaluation.analysis.answers import MethodAnswers, ScoredAnswer
from taketurns.evaluation.analysis.shares import LAST, SpeakerShares, boundaries, place
from taketurns.evaluation.bootstrap import Ratio, bootstrap_weights, ratio_estimates
from taketurns.types import Patch

DOMINATES = 0.8
EXCESSIVE = 0.8
UNIFORM = 0.95
Presence = Literal["yes", "perhaps", "no"]


@dataclass(frozen=True, slots=True)
class DecisionStats:
    """Decisions at one position: mean entropy of the probabilities as a share of its maximum (0:
    certain, 1: equal probabilities), mean probability of the most probable candidate (`favourite`),
    and how often that candidate was drawn (`followed`)."""

    position: str
    decisions: int
    entropy: Ratio
    favourite: Ratio
    followed: Ratio


@dataclass(frozen=True, slots=True)
class SwitcherStats:
    """Over all decisions and by position; `switches` is the mean number of changes of speaker per
    answer, `switch_rate` that per boundary between patches. `overall` is None if there was no
    switcher to ask (a fixed order, one candidate)."""

    overall: DecisionStats | None
    by_position: tuple[DecisionStats, ...]
    switches: Ratio
    switch_rate: Ratio


@dataclass(frozen=True, slots=True)
class FailureSign:
    """A known sign of failure. Its verdict is "yes" if the whole interval of the measure is above
    the threshold, "perhaps" if only its value is; `tasks` are those with a value above it."""

    name: str
    means: str
    measure: str
    value: Ratio
    threshold: float
    verdict: Presence
    tasks: tuple[str, ...]


def switcher_stats(subject: MethodAnswers) -> SwitcherStats:
    """Statistics of the switcher's probabilities and choices."""
    overall = _decisions(subject, lambda answer, at: "all")
    by_position = _decisions(subject, lambda answer, at: place(at))
    places = [place(at) for at in range(LAST)]
    switches, rate = _switching(subject)
    return SwitcherStats(
        overall=overall.get("all"),
        by_position=tuple(by_position[name] for name in places if name in by_position),
        switches=switches,
        switch_rate=rate,
    )


def failure_signs(subject: MethodAnswers, shares: SpeakerShares) -> list[FailureSign]:
    """The known signs of failure, each with its measured value."""
    stats = switcher_stats(subject)
    signs = [
        _dominates(subject.pool[0], "first", shares, 0),
        _dominates(subject.pool[-1], "last", shares, len(subject.pool) - 1),
        _sign(
            "excessive switching",
            "the speaker changes at nearly every boundary, more often than with random switching "
            "of three candidates (0.67), so that candidates seldom finish a sentence",
            "boundaries at which the speaker changes",
            stats.switch_rate,
            EXCESSIVE,
            _switch_rates(subject),
        ),
    ]
    if stats.overall is not None:
        by_task = _decisions(subject, lambda answer, at: answer.task)
        signs.append(
            _sign(
                "near-uniform switcher",
                "the switcher's probabilities are nearly equal, so it has learned almost nothing "
                f"and the team is close to random switching{_left_out(subject.pool, shares)}",
                "mean entropy of its probabilities (1: equal)",
                stats.overall.entropy,
                UNIFORM,
                {task: at.entropy.value for task, at in by_task.items()},
            )
        )
    return signs


def _left_out(pool: Sequence[str], shares: SpeakerShares) -> str:
    """Top-p leaves out the least probable candidate, however close it is."""
    read = zip(pool, shares.overall.of_tokens, strict=True)
    silent = [name for name, tokens in read if tokens.value == 0]
    if not silent:
        return ""
    return (
        f" of the others: {' and '.join(silent)} wrote nothing, since top-p leaves out the least "
        "probable candidates, however close they are (policy.top_p: 1.0 draws all)"
    )


def _dominates(name: str, which: str, shares: SpeakerShares, speaker: int) -> FailureSign:
    return _sign(
        f"{name} dominates",
        f"the {which} candidate writes nearly all tokens, so the team is nearly {name} alone",
        f"share of the tokens that {name} writes",
        shares.overall.of_tokens[speaker],
        DOMINATES,
        {group.group: group.of_tokens[speaker].value for group in shares.by_task},
    )


def _switch_rates(subject: MethodAnswers) -> dict[str, float]:
    """The switch rate of each task whose answers have boundaries."""
    counts = {
        task: boundaries(answer for answer in subject.answers if answer.task == task)
        for task in subject.tasks
    }
    return {task: changes / count for task, (count, changes) in counts.items() if count}


def _sign(
    name: str, means: str, measure: str, value: Ratio, threshold: float, by_task: dict[str, float]
) -> FailureSign:
    verdict: Presence = "no"
    if value.value > threshold:
        verdict = "yes" if value.low > threshold else "perhaps"
    tasks = tuple(task for task, measured in by_task.items() if measured > threshold)
    return FailureSign(name, means, measure, value, threshold, verdict, tasks)


def _decisions(
    subject: MethodAnswers, group: Callable[[ScoredAnswer, int], str]
) -> dict[str, DecisionStats]:
    """Statistics of the switcher's decisions, by group."""
    import numpy as np

    questions = list(subject.questions.values())
    index: dict[str, int] = {}
    rows: list[tuple[int, int, tuple[float, float, float]]] = []
    for number, answers in enumerate(questions):
        for answer in answers:
            for at, patch in enumerate(answer.patches):
                if (figures := _figures(patch)) is not None:
                    column = index.setdefault(group(answer, at), len(index))
                    rows.append((number, column, figures))
    if not rows:
        return {}
    sums = np.zeros((len(questions), len(index), 3))
    counts = np.zeros((len(questions), len(index)))
    for number, column, figures in rows:
        sums[number, column] += figures
        counts[number, column] += 1
    drawn = bootstrap_weights(subject.strata)
    entropy, favourite, followed = (
        ratio_estimates(sums[:, :, at], counts, drawn) for at in range(3)
    )
    return {
        name: DecisionStats(
            name, int(counts[:, column].sum()), entropy[column], favourite[column], followed[column]
        )
        for name, column in index.items()
    }


def _figures(patch: Patch) -> tuple[float, float, float] | None:
    """Entropy, probability of the most probable candidate, and whether such a candidate was drawn
    (any of equals); None if the switcher did not decide."""
    probabilities = patch.probabilities
    if patch.reason != "chosen" or probabilities is None or len(probabilities) < 2:
        return None
    entropy = -sum(p * log(p) for p in probabilities if p > 0) / log(len(probabilities))
    most = max(probabilities)
    drawn = probabilities[patch.speaker or 0]
    return entropy, most, float(drawn == most)


def _switching(subject: MethodAnswers) -> tuple[Ratio, Ratio]:
    """How often the speaker changes, per answer and per boundary."""
    import numpy as np

    questions = subject.questions.values()
    answers = np.array([[len(of_question)] for of_question in questions], dtype=float)
    counts = np.array([boundaries(of_question) for of_question in questions], dtype=float)
    below, changes = np.hstack([answers, counts[:, :1]]), np.repeat(counts[:, 1:], 2, axis=1)
    by_answer, by_boundary = ratio_estimates(changes, below, bootstrap_weights(subject.strata))
    return by_answer, by_boundary
