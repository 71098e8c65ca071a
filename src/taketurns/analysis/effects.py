"""Do answers that contain a sequence score better than others to the same question?

Compared within questions: of a question that was answered under several seeds, those answers that
contain the sequence and those that do not. What the question contributes to the score drops out;
what made the speakers differ between its answers does not, so this is observation, not experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from taketurns.analysis.clusters import interval, weights
from taketurns.analysis.turns import Answer, Turns
from taketurns.statistics import holm

if TYPE_CHECKING:
    from taketurns.analysis.clusters import Floats

SHUFFLES = 4999
LEAST = 10
"""An effect is given from this many questions on that were answered with and without."""

Sequence_ = tuple[int, ...]
Stratum = Callable[[Answer], Hashable]


@dataclass(frozen=True, slots=True)
class Effect:
    """The score with a sequence less that without, over `questions` that have answers of both
    kinds; each counts by how much it can say, with x without / all of its answers.

    95 % interval by bootstrap over questions; `p` by shuffling scores within questions, which is
    exact if nothing but chance decides which answer contains it; `p_holm` adjusted for all
    sequences. All None where there are too few questions.
    """

    sequence: Sequence_
    questions: int
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's r of how frequent sequences are with their effects, over `sequences` that have one,
    with Fisher's 95 % interval; p adjusted by Holm over the groups. None of fewer than four."""

    group: str
    sequences: int
    r: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None

    @property
    def r_squared(self) -> float | None:
        return None if self.r is None else self.r**2


def contains(speakers: Sequence_, sequence: Sequence_) -> bool:
    """Do these speakers follow one another anywhere?"""
    width = len(sequence)
    return any(speakers[at : at + width] == sequence for at in range(len(speakers) - width + 1))


def by_question(answer: Answer) -> Hashable:
    """Answers to one question are compared."""
    return answer.question


def by_length(answer: Answer) -> Hashable:
    """Only answers of as many patches to one question are compared."""
    return answer.question, len(answer.patches)


def effects(
    turns: Turns,
    lengths: Sequence[int] = (2, 3),
    stratum: Stratum = by_question,
    seed: int = 0,
) -> list[Effect]:
    """The effect of every sequence of these lengths on the score."""
    import numpy as np

    sequences = [s for length in lengths for s in product(range(len(turns.pool)), repeat=length)]
    groups: dict[Hashable, list[Answer]] = {}
    for answer in turns.answers:
        groups.setdefault(stratum(answer), []).append(answer)
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        return [Effect(sequence, 0) for sequence in sequences]
    widest = max(map(len, several))
    scores = np.zeros((len(several), widest))
    there = np.zeros((len(several), widest), dtype=bool)
    treated = np.zeros((len(several), widest, len(sequences)), dtype=bool)
    for row, group in enumerate(several):
        for column, answer in enumerate(group):
            scores[row, column], there[row, column] = answer.score, True
            for at, sequence in enumerate(sequences):
                treated[row, column, at] = contains(answer.speakers, sequence)
    weight, lever = _levers(treated, there)
    drawn = weights([group[0].task for group in several], seed)
    chance = _shuffled(scores, there, lever, seed)
    parts = np.einsum("qs,qsk->qk", scores, lever)
    found = [
        _effect(sequence, parts[:, at], weight[:, at], drawn, chance[:, at])
        for at, sequence in enumerate(sequences)
    ]
    return _adjusted(found)


def _levers(treated: Floats, there: Floats) -> tuple[Floats, Floats]:
    """What each question weighs for each sequence, and what each of its answers' scores is
    multiplied with, so that the sum over answers is weight x difference of means."""
    import numpy as np

    of_all = there.sum(1)[:, None]
    have = treated.sum(1)
    lack = of_all - have
    weight = have * lack / of_all
    with np.errstate(invalid="ignore", divide="ignore"):
        plus = np.nan_to_num(weight / have, posinf=0.0)[:, None, :]
        minus = np.nan_to_num(weight / lack, posinf=0.0)[:, None, :]
    lever = np.where(treated, plus, -minus) * there[:, :, None]
    return weight, lever


def _shuffled(scores: Floats, there: Floats, lever: Floats, seed: int) -> Floats:
    """The sums over all questions with scores shuffled within each, `[shuffle, sequence]`."""
    import numpy as np

    rng = np.random.default_rng(seed)
    flat = lever.reshape(-1, lever.shape[2])
    varies = (scores.max(1, where=there, initial=-np.inf)
              != scores.min(1, where=there, initial=np.inf))  # fmt: skip
    rows = np.flatnonzero(varies)
    size = scores.shape[1]
    found = np.zeros((SHUFFLES, lever.shape[2]))
    found += np.einsum("qs,qsk->k", scores[~varies], lever[~varies])
    chunk = max(1, 2_000_000 // max(1, len(rows) * size))
    levers = flat.reshape(*lever.shape)[rows].reshape(-1, lever.shape[2])
    for begin in range(0, SHUFFLES, chunk):
        many = min(chunk, SHUFFLES - begin)
        keys = rng.random((many, len(rows), size))
        keys[:, ~there[rows]] = 2.0  # places without an answer stay at the end
        order = keys.argsort(axis=2)
        mixed = np.take_along_axis(np.broadcast_to(scores[rows], keys.shape), order, axis=2)
        found[begin : begin + many] += mixed.reshape(many, -1) @ levers
    return found


def _effect(
    sequence: Sequence_, parts: Floats, weight: Floats, drawn: Floats, chance: Floats
) -> Effect:
    import numpy as np

    both = weight > 0
    questions = int(both.sum())
    if questions < LEAST:
        return Effect(sequence, questions)
    total = weight.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        tried = (drawn[:, both] @ parts[both]) / (drawn[:, both] @ weight[both])
    low, high = interval(tried[:, None])
    extreme = (np.abs(chance) >= abs(parts.sum()) - 1e-9).sum()
    return Effect(
        sequence,
        questions,
        float(parts.sum() / total),
        float(low[0]),
        float(high[0]),
        float((extreme + 1) / (len(chance) + 1)),
    )


def _adjusted(found: Sequence[Effect]) -> list[Effect]:
    adjusted = iter(holm([one.p for one in found if one.p is not None]))
    return [one if one.p is None else replace(one, p_holm=next(adjusted)) for one in found]


def correlations(turns: Turns, lengths: Sequence[int] = (2, 3)) -> list[Correlation]:
    """By category, and over everything ("all"): do frequent sequences help more?"""
    from scipy.stats import pearsonr

    from taketurns.analysis.sequences import frequencies

    found = []
    for group in ("all", *turns.categories):
        some = turns if group == "all" else turns.of(group)
        share = {one.sequence: one.share.value for one in frequencies(some, lengths)}
        pairs = [
            (share[one.sequence], one.effect)
            for one in effects(some, lengths)
            if one.effect is not None and one.sequence in share
        ]
        constant = len({x for x, _ in pairs}) < 2 or len({y for _, y in pairs}) < 2
        if len(pairs) < 4 or constant:
            found.append(Correlation(group, len(pairs)))
            continue
        result = pearsonr(*zip(*pairs, strict=True))
        between = result.confidence_interval()
        found.append(
            Correlation(
                group, len(pairs), float(result.statistic), float(between.low),
                float(between.high), float(result.pvalue),
            )
        )  # fmt: skip
    adjusted = iter(holm([one.p for one in found if one.p is not None]))
    return [one if one.p is None else replace(one, p_holm=next(adjusted)) for one in found]
