"""The speakers' shares of tokens and of patches, by position, task and category."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from taketurns.evaluation.analysis.answers import MethodAnswers, ScoredAnswer
from taketurns.evaluation.bootstrap import Ratio, bootstrap_weights, shares_within

LAST = 8
"""Positions from this one on are counted together."""


@dataclass(frozen=True, slots=True)
class GroupShares:
    """Each candidate's share of the tokens and of the patches in a group of patches."""

    group: str
    patches: int
    of_tokens: tuple[Ratio, ...]
    of_patches: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class SpeakerShares:
    """Shares over all patches, by the patch's position in its answer, by task and by category."""

    pool: tuple[str, ...]
    overall: GroupShares
    by_position: tuple[GroupShares, ...]
    by_task: tuple[GroupShares, ...]
    by_category: tuple[GroupShares, ...]


def speaker_shares(subject: MethodAnswers) -> SpeakerShares:
    """Each candidate's shares, with intervals over questions."""
    positions = [place(number) for number in range(LAST)]
    return SpeakerShares(
        pool=subject.pool,
        overall=_groups(subject, ["all"], lambda answer, at: "all")[0],
        by_position=tuple(_groups(subject, positions, lambda answer, at: place(at))),
        by_task=tuple(_groups(subject, list(subject.tasks), lambda answer, at: answer.task)),
        by_category=tuple(_groups(subject, subject.categories, lambda answer, at: answer.category)),
    )


def place(at: int) -> str:
    """A position's name, from 1."""
    return str(at + 1) if at + 1 < LAST else f"{LAST} and on"


def _groups(
    subject: MethodAnswers, names: Sequence[str], group: Callable[[ScoredAnswer, int], str]
) -> list[GroupShares]:
    """The shares in each group that is not empty."""
    import numpy as np

    width, index = len(subject.pool), {name: number for number, name in enumerate(names)}
    counts = np.zeros((2, len(subject.questions), len(names), width))
    for row, answers in enumerate(subject.questions.values()):
        for answer in answers:
            for at, patch in enumerate(answer.patches):
                column = index[group(answer, at)]
                counts[0, row, column, patch.speaker] += len(patch.token_ids)
                counts[1, row, column, patch.speaker] += 1
    drawn = bootstrap_weights(subject.strata)
    of_tokens, of_patches = (shares_within(kind, drawn) for kind in counts)
    patches = counts[1].sum((0, 2))
    return [
        GroupShares(name, int(patches[at]), of_tokens[at], of_patches[at])
        for at, name in enumerate(names)
        if patches[at]
    ]


def boundaries(answers: Iterable[ScoredAnswer]) -> tuple[int, int]:
    """The number of boundaries between patches, and of those at which the speaker changes."""
    pairs = [pair for answer in answers for pair in pairwise(answer.speakers)]
    return len(pairs), sum(before != after for before, after in pairs)
