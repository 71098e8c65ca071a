"""Who writes how much: shares of tokens and of patches, by position, task and category."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from taketurns.evaluation.analysis.clusters import Ratio, ratios, weights
from taketurns.evaluation.analysis.turns import Answer, Turns

LAST = 8
"""Positions from here on are counted together."""


@dataclass(frozen=True, slots=True)
class Share:
    """Of a group of patches: each candidate's share of the tokens and of the patches."""

    group: str
    patches: int
    of_tokens: tuple[Ratio, ...]
    of_patches: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class Shares:
    """Over everything, by the patch's position in its answer, by task and by category."""

    pool: tuple[str, ...]
    overall: Share
    by_position: tuple[Share, ...]
    by_task: tuple[Share, ...]
    by_category: tuple[Share, ...]


def shares(turns: Turns) -> Shares:
    """Everybody's shares, with intervals over questions."""
    positions = [place(number) for number in range(LAST)]
    return Shares(
        pool=turns.pool,
        overall=_groups(turns, ["all"], lambda answer, at: "all")[0],
        by_position=tuple(_groups(turns, positions, lambda answer, at: place(at))),
        by_task=tuple(_groups(turns, list(turns.tasks), lambda answer, at: answer.task)),
        by_category=tuple(_groups(turns, turns.categories, lambda answer, at: answer.category)),
    )


def place(at: int) -> str:
    """A position's name, from 1."""
    return str(at + 1) if at + 1 < LAST else f"{LAST} and on"


def _groups(turns: Turns, names: Sequence[str], group: Callable[[Answer, int], str]) -> list[Share]:
    """Shares in each group that has any patches."""
    import numpy as np

    width, index = len(turns.pool), {name: number for number, name in enumerate(names)}
    questions = list(turns.questions.values())
    counts = np.zeros((2, len(questions), len(names), width))
    for row, answers in enumerate(questions):
        for answer in answers:
            for at, patch in enumerate(answer.patches):
                column = index[group(answer, at)]
                counts[0, row, column, patch.speaker] += len(patch.token_ids)
                counts[1, row, column, patch.speaker] += 1
    drawn = weights([answers[0].task for answers in questions])
    found: list[list[list[Ratio]]] = []
    for kind in counts:
        flat = kind.reshape(len(questions), -1)
        below = np.repeat(kind.sum(2), width, axis=1)
        of_all = ratios(flat, below, drawn)
        found.append([of_all[at : at + width] for at in range(0, len(of_all), width)])
    return [
        Share(name, int(counts[1, :, at].sum()), tuple(found[0][at]), tuple(found[1][at]))
        for at, name in enumerate(names)
        if counts[1, :, at].sum()
    ]


def boundaries(answers: Iterable[Answer]) -> tuple[int, int]:
    """How many boundaries between patches there are, and at how many the speaker changes."""
    pairs = [pair for answer in answers for pair in pairwise(answer.speakers)]
    return len(pairs), sum(before != after for before, after in pairs)
