"""Do answers that contain a sequence score better than other answers to the same question?

The comparison is within questions: among the answers to one question with several seeds, those that
contain the sequence against those that do not. The effect of the question on the score drops out.
The causes of different speakers in its answers do not, so this is observation, not experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from taketurns.evaluation.analysis.answers import AnalysisInput, MethodAnswers, ScoredAnswer
from taketurns.evaluation.bootstrap import bootstrap_weights, percentile_interval
from taketurns.evaluation.statistics import PERCENT_TAIL, holm_known, pearson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from taketurns.evaluation.statistics import Floats

    Bools = NDArray[np.bool_]

SHUFFLES = 4999
AT_ONCE = 2_000_000
"""Scores that are shuffled at the same time; bounds memory."""
LEAST = 10
"""An effect needs at least this number of questions with answers of both kinds."""

SpeakerSequence = tuple[int, ...]
Stratum = Callable[[ScoredAnswer], Hashable]


@dataclass(frozen=True, slots=True)
class ObservedEffect:
    """The mean score of answers with a sequence minus that of answers without it, over `questions`
    that have both. The weight of a question is with * without / all, from its numbers of answers.

    95 % interval by bootstrap over questions. `p` comes from shuffling scores within questions; it
    is exact if chance alone decides which answer contains the sequence. `p_holm` is adjusted for
    all sequences. All are None if there are too few questions.
    """

    sequence: SpeakerSequence
    questions: int
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True, slots=True)
class FrequencyCorrelation:
    """Pearson's r between the frequency of sequences and their effects, over `sequences` with an
    effect, with Fisher's 95 % interval; `p_holm` is adjusted by Holm over the groups. None with
    fewer than four sequences."""

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


@dataclass(frozen=True, slots=True)
class SequenceEffects:
    """The effect of each sequence: `overall`, among answers with the same number of patches
    (`same_length`) and, if it was asked, with `random` switching; and its correlation with
    frequency."""

    pool: tuple[str, ...]
    overall: Sequence[ObservedEffect]
    same_length: Sequence[ObservedEffect]
    random: Sequence[ObservedEffect] | None
    correlations: Sequence[FrequencyCorrelation]


def contains(speakers: SpeakerSequence, sequence: SpeakerSequence) -> bool:
    """Does `sequence` occur anywhere in `speakers`?"""
    width = len(sequence)
    return any(speakers[at : at + width] == sequence for at in range(len(speakers) - width + 1))


def by_question(answer: ScoredAnswer) -> Hashable:
    """Compare answers to the same question."""
    return answer.question


def by_length(answer: ScoredAnswer) -> Hashable:
    """Compare answers to the same question with the same number of patches."""
    return answer.question, len(answer.patches)


def sequence_effects(inputs: AnalysisInput) -> SequenceEffects:
    """The effects of all sequences and their correlations with frequency."""
    return SequenceEffects(
        inputs.subject.pool,
        observed_effects(inputs.subject),
        observed_effects(inputs.subject, stratum=by_length),
        None if inputs.random is None else observed_effects(inputs.random),
        frequency_correlations(inputs.subject),
    )


def observed_effects(
    subject: MethodAnswers,
    lengths: Sequence[int] = (2, 3),
    stratum: Stratum = by_question,
    seed: int = 0,
) -> list[ObservedEffect]:
    """The effect of every sequence of these lengths on the score."""
    import numpy as np

    sequences = [s for length in lengths for s in product(range(len(subject.pool)), repeat=length)]
    groups: dict[Hashable, list[ScoredAnswer]] = {}
    for answer in subject.answers:
        groups.setdefault(stratum(answer), []).append(answer)
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        return [ObservedEffect(sequence, 0) for sequence in sequences]
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
    drawn = bootstrap_weights([tasks[name] for name in names], seed)
    effects = [
        _effect(sequence, of_questions[0, :, at], of_questions[1, :, at], drawn, chance[:, at])
        for at, sequence in enumerate(sequences)
    ]
    adjusted = holm_known([effect.p for effect in effects])
    return [replace(effect, p_holm=p) for effect, p in zip(effects, adjusted, strict=True)]


@dataclass(frozen=True)
class _Table:
    """Answers in groups, `[group, answer]`: their scores, which places hold an answer, and whether
    it contains each sequence, `[group, answer, sequence]`."""

    scores: Floats
    there: Bools
    treated: Bools


def _table(
    groups: Sequence[Sequence[ScoredAnswer]], sequences: Sequence[SpeakerSequence]
) -> _Table:
    import numpy as np

    shape = len(groups), max(map(len, groups))
    scores, there = np.zeros(shape), np.zeros(shape, dtype=bool)
    treated = np.zeros((*shape, len(sequences)), dtype=bool)
    for row, group in enumerate(groups):
        for column, answer in enumerate(group):
            scores[row, column], there[row, column] = answer.score, True
            treated[row, column] = [contains(answer.speakers, sequence) for sequence in sequences]
    return _Table(scores, there, treated)


def _levers(table: _Table) -> tuple[Floats, Floats]:
    """The weight of each group for each sequence, and the factor of each of its answers' scores, so
    that the sum over answers is weight times difference of means."""
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
    sums: Floats = np.zeros((SHUFFLES, lever.shape[2]))
    sums += np.einsum("qs,qsk->k", scores[same], lever[same])
    levers = lever[rows].reshape(-1, lever.shape[2])
    chunk = max(1, AT_ONCE // max(1, len(rows) * size))
    for begin in range(0, SHUFFLES, chunk):
        many = min(chunk, SHUFFLES - begin)
        keys = rng.random((many, len(rows), size))
        keys[:, ~there[rows]] = 2.0  # places without an answer stay at the end
        mixed = np.take_along_axis(scores[rows][None], keys.argsort(axis=2), axis=2)
        sums[begin : begin + many] += mixed.reshape(many, -1) @ levers
    return sums


def _effect(
    sequence: SpeakerSequence, parts: Floats, weight: Floats, drawn: Floats, chance: Floats
) -> ObservedEffect:
    import numpy as np

    both = weight > 0
    questions = int(both.sum())
    if questions < LEAST:
        return ObservedEffect(sequence, questions)
    with np.errstate(invalid="ignore", divide="ignore"):
        tried = (drawn[:, both] @ parts[both]) / (drawn[:, both] @ weight[both])
    low, high = percentile_interval(tried[:, None], PERCENT_TAIL)
    extreme = (np.abs(chance) >= abs(parts.sum()) - 1e-9).sum()
    return ObservedEffect(
        sequence,
        questions,
        float(parts.sum() / weight.sum()),
        float(low[0]),
        float(high[0]),
        float((extreme + 1) / (len(chance) + 1)),
    )


def frequency_correlations(
    subject: MethodAnswers, lengths: Sequence[int] = (2, 3)
) -> list[FrequencyCorrelation]:
    """The correlation of frequency and effect, over all answers ("all") and by category."""
    from taketurns.evaluation.analysis.sequences import sequence_frequencies

    correlations = []
    for group in ("all", *subject.categories):
        some = subject if group == "all" else subject.in_category(group)
        share = {f.sequence: f.share.value for f in sequence_frequencies(some, lengths)}
        pairs = [
            (share[effect.sequence], effect.effect)
            for effect in observed_effects(some, lengths)
            if effect.effect is not None and effect.sequence in share
        ]
        r = pearson(pairs)
        correlations.append(
            FrequencyCorrelation(group, len(pairs))
            if r is None
            else FrequencyCorrelation(group, len(pairs), r.r, r.low, r.high, r.p)
        )
    adjusted = holm_known([correlation.p for correlation in correlations])
    return [replace(c, p_holm=p) for c, p in zip(correlations, adjusted, strict=True)]
