"""Which sequences of speakers are more frequent than the shares of the speakers predict?

A sequence is the speakers of two or three consecutive patches. Its frequency is compared with two
predictions: from the shares overall, as if all speakers were drawn independently; and from the
shares within each task and position, so that only the effect of the *order* of speakers is left.
The second is tested: if one candidate writes a task alone, its repetition is frequent there without
any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from taketurns.evaluation.analysis.answers import MethodAnswers
from taketurns.evaluation.bootstrap import Ratio, bootstrap_weights, percentile_interval
from taketurns.evaluation.statistics import PERCENT_TAIL, holm_known

if TYPE_CHECKING:
    from taketurns.evaluation.statistics import Floats

LEAST = 5.0
"""A sequence is tested if at least this number of independent windows with it is expected."""


@dataclass(frozen=True, slots=True)
class SequenceFrequency:
    """How often a sequence occurs among the windows of its length, and how often it is expected.

    `over_shares` and `over_places` are observed over expected counts, from the shares overall and
    from those within task and position. `p` tests that the second is 1 (clustered by question,
    two-sided normal), `p_holm` is adjusted for all sequences of all lengths; both are None if too
    few are expected.
    """

    sequence: tuple[int, ...]
    count: int
    share: Ratio
    over_shares: Ratio
    over_places: Ratio
    p: float | None
    p_holm: float | None


def sequence_frequencies(
    subject: MethodAnswers, lengths: Sequence[int] = (2, 3)
) -> list[SequenceFrequency]:
    """All possible sequences of these lengths, longer ones last; none of a length that no answer
    reaches."""
    frequencies = [f for length in lengths for f in _of_length(subject, length)]
    adjusted = holm_known([frequency.p for frequency in frequencies])
    return [replace(f, p_holm=p) for f, p in zip(frequencies, adjusted, strict=True)]


def _of_length(subject: MethodAnswers, length: int) -> list[SequenceFrequency]:
    import numpy as np
    from scipy.stats import norm

    width, questions = len(subject.pool), list(subject.questions.values())
    observed, slots, places = _count(subject, length)
    if not observed.sum():
        return []
    windows = observed.sum(1)
    # The first row is the original sample.
    drawn = np.vstack([np.ones(len(questions)), bootstrap_weights(subject.strata)])
    everywhere = slots.sum(1)  # [question, slot, speaker], over all places
    of_shares = _expected(drawn, everywhere, width, length)
    of_places = np.zeros_like(of_shares)
    alone = np.zeros(of_shares.shape[1])
    for place in range(places):
        of_places += _expected(drawn, slots[:, place], width, length)
        alone += _variance(slots[:, place].sum(0))
    counts, total = drawn @ observed, drawn @ windows
    clustered = (counts - of_places)[1:].var(0)
    # A sequence that never occurs hardly varies between resamples. So its variance is at least that
    # of independent speakers, times the mean inflation by clusters.
    inflation = max(1.0, float(clustered.sum() / alone.sum())) if alone.any() else 1.0
    spread = np.sqrt(np.maximum(clustered, alone * inflation))
    testable = (of_places[0] >= LEAST * inflation) & (spread > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share, beside, within = counts / total[:, None], counts / of_shares, counts / of_places
        z = (counts - of_places)[0] / spread
    sequences = list(product(range(width), repeat=length))
    having = (observed > 0).sum(0)
    return [
        SequenceFrequency(
            sequence=sequence,
            count=int(observed[:, at].sum()),
            share=_ratio(share[:, at], having[at]),
            over_shares=_ratio(beside[:, at], having[at]),
            over_places=_ratio(within[:, at], having[at]),
            p=float(2 * norm.sf(abs(z[at]))) if testable[at] else None,
            p_holm=None,
        )
        for at, sequence in enumerate(sequences)
    ]


def _ratio(values: Floats, n: int) -> Ratio:
    """The first of the values, with the percentiles of the others."""
    low, high = percentile_interval(values[1:, None], PERCENT_TAIL)
    return Ratio(float(values[0]), float(low[0]), float(high[0]), int(n))


def _count(subject: MethodAnswers, length: int) -> tuple[Floats, Floats, int]:
    """Counts by question: of each sequence, `[question, sequence]`, and of each speaker in each
    slot of the windows at each place, `[question, place, slot, speaker]`; and the number of places.
    A place is a task and a position."""
    import numpy as np

    width, questions = len(subject.pool), list(subject.questions.values())
    place: dict[tuple[str, int], int] = {}
    rows: list[tuple[int, int, tuple[int, ...]]] = []
    for number, answers in enumerate(questions):
        for answer in answers:
            speakers = answer.speakers
            for at in range(len(speakers) - length + 1):
                where = place.setdefault((answer.task, at), len(place))
                rows.append((number, where, speakers[at : at + length]))
    observed = np.zeros((len(questions), width**length))
    slots = np.zeros((len(questions), max(len(place), 1), length, width))
    for number, where, window in rows:
        code = 0
        for slot, speaker in enumerate(window):
            code = code * width + speaker
            slots[number, where, slot, speaker] += 1
        observed[number, code] += 1
    return observed, slots, len(place)


def _expected(drawn: Floats, slots: Floats, width: int, length: int) -> Floats:
    """The expected count of each sequence at a place if its slots were independent, by resample."""
    import numpy as np

    flat = slots.reshape(len(slots), length * width)  # of [question, slot, speaker]
    counts = (drawn @ flat).reshape(len(drawn), length, width)
    total = counts[:, 0].sum(1)
    expected: Floats = total[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        for slot in range(length):
            share = np.nan_to_num(counts[:, slot] / total[:, None])
            expected = (expected[:, :, None] * share[:, None, :]).reshape(len(drawn), -1)
    return expected


def _variance(slots: Floats) -> Floats:
    """The variance of observed minus expected counts at a place for independent speakers, with
    estimated shares. `slots` are counts, `[slot, speaker]`."""
    import numpy as np

    total, width = slots[0].sum(), slots.shape[1]
    share = slots / total
    variances = []
    for sequence in product(range(width), repeat=len(share)):
        p = np.array([share[slot, speaker] for slot, speaker in enumerate(sequence)])
        of_slots = sum(q * (1 - q) * np.prod(np.delete(p, at)) ** 2 for at, q in enumerate(p))
        variances.append(p.prod() - p.prod() ** 2 - of_slots)
    least: Floats = np.maximum(0.0, total * np.array(variances))
    return least
