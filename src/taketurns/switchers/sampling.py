"""From weights to a speaker: normalise, top-p, one draw."""

from __future__ import annotations

from collections.abc import Sequence

from taketurns.utils.finite import check_distribution


def normalise(weights: Sequence[float]) -> tuple[float, ...]:
    """Non-negative weights as probabilities. Raises NotANumberError for other weights."""
    check_distribution(weights, "the switcher")
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def nucleus(probabilities: Sequence[float], top_p: float) -> tuple[float, ...]:
    """The weights that top-p draws from: the probabilities of the nucleus, unchanged, and else 0.

    An index is in the nucleus if the probabilities greater than its own sum to less than `top_p`.
    Equal probabilities are in it together, so a uniform distribution stays uniform.
    """
    return tuple(
        p if sum(q for q in probabilities if q > p) < top_p else 0.0 for p in probabilities
    )


def pick(probabilities: Sequence[float], top_p: float, uniform: float) -> int:
    """Draw an index by top-p with one uniform number in [0, 1)."""
    drawn = nucleus(probabilities, top_p)
    at = uniform * sum(drawn)
    for index, mass in enumerate(drawn):
        at -= mass
        if at < 0 and mass > 0:
            return index
    return max(range(len(drawn)), key=drawn.__getitem__)
