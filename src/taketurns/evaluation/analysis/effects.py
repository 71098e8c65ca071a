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

from taketurns.evaluation.analysis.clusters import interval, weights
from taketurns.evaluation.analysis.turns import Answer, Turns
from taketurns.evaluation.statistics import holm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from taketurns.evaluation.analysis.clusters import Floats

    Bools = NDArray[np.bool_]

SHUFFLES = 4999
AT_ONCE = 2_000_000
"""Scores that are shuffled at a time, which bounds memory."""
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
    table = _table(several, sequences)
    weight, lever = _levers(table)
    parts = np.einsum("qs,qsk->qk", table.scores, lever)
    chance = _shuffled(table, lever, seed)
    # Groups of one question are not independent of each other.
    names = list(dict.fromkeys(group[0].question for group in several))
    rows = {name: number for number, name in enumerate(names)}
    of_questions = np.zeros((2, len(names), len(sequences)))
    for number, group in enumerate(several):
        of_questions[:, rows[group[0].question]] += parts[number], weight[number]
    tasks = {group[0].question: group[0].task for group in several}
    drawn = weights([tasks[name] for name in names], seed)
    found = [
        _effect(sequence, of_questions[0, :, at], of_questions[1, :, at], drawn, chance[:, at])
        for at, sequence in enumerate(sequences)
    ]
    return _adjusted(found)


@dataclass(frozen=True)
class _Table:
    """Answers in groups, `[group, answer]`: their scores, whether there is one, and whether it
    contains each sequence, `[group, answer, sequence]`."""

    scores: Floats
    there: Bools
    treated: Bools


def _table(groups: Sequence[Sequence[Answer]], sequences: Sequence[Sequence_]) -> _Table:
    import numpy as np

    shape = len(groups), max(map(len, groups))
    scores, there = np.zeros(shape), np.zeros(shape, dtype=bool)
    treated = np.zeros((*shape, len(sequences)), dtype=bool)
    for row, group in enumerate(groups):
        for column, answer in enumerate(group):
            scores[row, column], there[row, column] = answer.score, True
            treated[row, column] = [contains(answer.speakers, one) for one in sequences]
    return _Table(scores, there, treated)


def _levers(table: _Table) -> tuple[Floats, Floats]:
    """What each group weighs for each sequence, and what each of its answers' scores is multiplied
    with, so that the sum over answers is weight x difference of means."""
    import numpy as np

    of_all = table.there.sum(1)[:, None]
    have = table.treated.sum(1)
    lack = of_all - have
    weight: Floats = have * lack / of_all
    plus = (lack / of_all)[:, None, :]
    minus = (have / of_all)[:, None, :]
    lever: Floats = np.where(table.treated, plus, -minus) * table.there[:, :, None]
    return weight, lever


def _shuffled(table: _Table, lever: Floats, seed: int) -> Floats:
    """The sums over all groups with scores shuffled within each, `[shuffle, sequence]`."""
    import numpy as np

    rng = np.random.default_rng(seed)
    scores, there = table.scores, table.there
    most = np.where(there, scores, -np.inf).max(1)
    least = np.where(there, scores, np.inf).min(1)
    rows, same = np.flatnonzero(most != least), most == least
    size = scores.shape[1]
    found: Floats = np.zeros((SHUFFLES, lever.shape[2]))
    found += np.einsum("qs,qsk->k", scores[same], lever[same])
    levers = lever[rows].reshape(-1, lever.shape[2])
    chunk = max(1, AT_ONCE // max(1, len(rows) * size))
    for begin in range(0, SHUFFLES, chunk):
        many = min(chunk, SHUFFLES - begin)
        keys = rng.random((many, len(rows), size))
        keys[:, ~there[rows]] = 2.0  # places without an answer stay at the end
        mixed = np.take_along_axis(scores[rows][None], keys.argsort(axis=2), axis=2)
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
    with np.errstate(invalid="ignore", divide="ignore"):
        tried = (drawn[:, both] @ parts[both]) / (drawn[:, both] @ weight[both])
    low, high = interval(tried[:, None])
    extreme = (np.abs(chance) >= abs(parts.sum()) - 1e-9).sum()
    return Effect(
        sequence,
        questions,
        float(parts.sum() / weight.sum()),
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

    from taketurns.evaluation.analysis.sequences import frequencies

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
