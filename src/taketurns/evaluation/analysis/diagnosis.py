"""How the switcher decides, as far as stored answers tell, and signs of a team that does not work.

Whether its probabilities are *right* takes answers that were not written: that is an experiment.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Decisions at one position: mean entropy of the probabilities as a share of the most that it
    can be (0 sure, 1 even), mean probability of the favourite, and how often the favourite was
    drawn."""

    position: str
    decisions: int
    entropy: Ratio
    favourite: Ratio
    followed: Ratio


@dataclass(frozen=True, slots=True)
class SwitcherStats:
    """Over all decisions and by position; `switches` an answer on average, `switch_rate` a boundary
    between patches. Empty where nobody was asked (a fixed order, one candidate)."""

    overall: DecisionStats | None
    by_position: tuple[DecisionStats, ...]
    switches: Ratio
    switch_rate: Ratio


@dataclass(frozen=True, slots=True)
class FailureSign:
    """A known way to fail. It is there ("yes") where the measure's whole interval lies above the
    threshold, "perhaps" where its value does; `tasks` are those whose value does."""

    name: str
    means: str
    measure: str
    value: Ratio
    threshold: float
    verdict: Presence
    tasks: tuple[str, ...]


def switcher_stats(subject: MethodAnswers) -> SwitcherStats:
    """What its probabilities and choices look like."""
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
    """The known ways to fail, each with what was measured."""
    stats = switcher_stats(subject)
    signs = [
        _dominates(subject.pool[0], "first", shares, 0),
        _dominates(subject.pool[-1], "last", shares, len(subject.pool) - 1),
        _sign(
            "excessive switching",
            "the speaker changes at nearly every boundary, more often than lots drawn among three "
            "would have it (0.67), so that nobody finishes a thought",
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
                "its probabilities are nearly even, so it has learned next to nothing and the team "
                "is close to random switching",
                "mean entropy of its probabilities (1 is even)",
                stats.overall.entropy,
                UNIFORM,
                {task: at.entropy.value for task, at in by_task.items()},
            )
        )
    return signs


def _dominates(name: str, which: str, shares: SpeakerShares, speaker: int) -> FailureSign:
    return _sign(
        f"{name} dominates",
        f"the {which} candidate writes nearly everything, so the team is little more than "
        f"{name} alone",
        f"share of the tokens that {name} writes",
        shares.overall.of_tokens[speaker],
        DOMINATES,
        {group.group: group.of_tokens[speaker].value for group in shares.by_task},
    )


def _switch_rates(subject: MethodAnswers) -> dict[str, float]:
    """By task, of those whose answers have boundaries."""
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
    """Of decisions that the switcher made, by group."""
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
    """Entropy, the favourite's probability, whether a favourite was drawn; None if nobody decided.
    Of several favourites any will do."""
    probabilities = patch.probabilities
    if patch.reason != "chosen" or probabilities is None or len(probabilities) < 2:
        return None
    entropy = -sum(p * log(p) for p in probabilities if p > 0) / log(len(probabilities))
    most = max(probabilities)
    drawn = probabilities[patch.speaker or 0]
    return entropy, most, float(drawn == most)


def _switching(subject: MethodAnswers) -> tuple[Ratio, Ratio]:
    """How often the speaker changes, an answer and a boundary."""
    import numpy as np

    questions = subject.questions.values()
    answers = np.array([[len(of_question)] for of_question in questions], dtype=float)
    counts = np.array([boundaries(of_question) for of_question in questions], dtype=float)
    below, changes = np.hstack([answers, counts[:, :1]]), np.repeat(counts[:, 1:], 2, axis=1)
    by_answer, by_boundary = ratio_estimates(changes, below, bootstrap_weights(subject.strata))
    return by_answer, by_boundary
