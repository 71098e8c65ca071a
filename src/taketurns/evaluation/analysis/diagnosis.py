"""How the switcher decides, as far as stored answers tell, and signs of a team that does not work.

Whether its probabilities are *right* takes answers that were not written: that is an experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

from taketurns.evaluation.analysis.clusters import Ratio, ratios, weights
from taketurns.evaluation.analysis.shares import LAST, Shares, boundaries, place
from taketurns.evaluation.analysis.turns import Answer, Turns
from taketurns.types import Patch

DOMINATES = 0.8
EXCESSIVE = 0.8
UNIFORM = 0.95
Verdict = Literal["yes", "perhaps", "no"]


@dataclass(frozen=True, slots=True)
class At:
    """Decisions at one position: mean entropy of the probabilities as a share of the most that it
    can be (0 sure, 1 even), mean probability of the favourite, and how often the favourite was
    drawn."""

    position: str
    decisions: int
    entropy: Ratio
    favourite: Ratio
    followed: Ratio


@dataclass(frozen=True, slots=True)
class Switcher:
    """Over all decisions and by position; `switches` an answer on average, `switch_rate` a boundary
    between patches. Empty where nobody was asked (a fixed order, one candidate)."""

    overall: At | None
    by_position: tuple[At, ...]
    switches: Ratio
    switch_rate: Ratio


@dataclass(frozen=True, slots=True)
class Sign:
    """A known way to fail. It is there ("yes") where the measure's whole interval lies above the
    threshold, "perhaps" where its value does; `tasks` are those whose value does."""

    name: str
    means: str
    measure: str
    value: Ratio
    threshold: float
    verdict: Verdict
    tasks: tuple[str, ...]


def switcher(turns: Turns) -> Switcher:
    """What its probabilities and choices look like."""
    decisions = _decisions(turns, lambda answer, at: "all")
    places = [place(at) for at in range(LAST)]
    by_place = _decisions(turns, lambda answer, at: place(at))
    switches, rate = _switching(turns, list(turns.questions.values()))
    return Switcher(
        overall=decisions.get("all"),
        by_position=tuple(by_place[name] for name in places if name in by_place),
        switches=switches,
        switch_rate=rate,
    )


def signs(turns: Turns, shares: Shares) -> list[Sign]:
    """The known ways to fail, each with what was measured."""
    ends = ((0, "first"), (len(turns.pool) - 1, "last"))
    found = []
    for speaker, which in ends:
        who = turns.pool[speaker]
        of_tasks = {one.group: one.of_tokens[speaker].value for one in shares.by_task}
        found.append(
            _sign(
                f"{who} dominates",
                f"the {which} candidate writes nearly everything, so the team is little more than "
                f"{who} alone",
                f"share of the tokens that {who} writes",
                shares.overall.of_tokens[speaker],
                DOMINATES,
                of_tasks,
            )
        )
    every = switcher(turns)
    of_tasks = {}
    for task in turns.tasks:
        own = [answers for answers in turns.questions.values() if answers[0].task == task]
        count, changes = boundaries(answer for answers in own for answer in answers)
        if count:
            of_tasks[task] = changes / count
    found.append(
        _sign(
            "excessive switching",
            "the speaker changes at nearly every boundary, more often than lots drawn among three "
            "would have it (0.67), so that nobody finishes a thought",
            "boundaries at which the speaker changes",
            every.switch_rate,
            EXCESSIVE,
            of_tasks,
        )
    )
    if every.overall is not None:
        by_task = _decisions(turns, lambda answer, at: answer.task)
        found.append(
            _sign(
                "near-uniform switcher",
                "its probabilities are nearly even, so it has learned next to nothing and the team "
                "is close to random switching",
                "mean entropy of its probabilities (1 is even)",
                every.overall.entropy,
                UNIFORM,
                {task: at.entropy.value for task, at in by_task.items()},
            )
        )
    return found


def _sign(
    name: str, means: str, measure: str, value: Ratio, threshold: float, by_task: dict[str, float]
) -> Sign:
    verdict: Verdict = "no"
    if value.value > threshold:
        verdict = "yes" if value.low > threshold else "perhaps"
    tasks = tuple(task for task, own in by_task.items() if own > threshold)
    return Sign(name, means, measure, value, threshold, verdict, tasks)


def _decisions(turns: Turns, group: Callable[[Answer, int], str]) -> dict[str, At]:
    """Of decisions that the switcher made, by group."""
    import numpy as np

    questions = list(turns.questions.values())
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
    drawn = weights([answers[0].task for answers in questions])
    entropy, favourite, followed = (ratios(sums[:, :, at], counts, drawn) for at in range(3))
    return {
        name: At(
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


def _switching(turns: Turns, questions: Sequence[Sequence[Answer]]) -> tuple[Ratio, Ratio]:
    import numpy as np

    drawn = weights([answers[0].task for answers in questions])
    counted = np.array([boundaries(answers) for answers in questions], dtype=float)
    answers = np.array([[float(len(own))] for own in questions])
    changes = counted[:, 1:]
    return ratios(changes, answers, drawn)[0], ratios(changes, counted[:, :1], drawn)[0]
