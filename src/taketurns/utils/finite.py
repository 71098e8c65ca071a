"""Numbers as models and servers give them: what is none is refused before anything is made of it.

Comparisons with NaN are false, so NaN gets past any of them: `max` and `min` keep it or drop it by
its place, and what is drawn by it is the last of the choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, inf, isfinite

from taketurns.errors import NotANumberError


def check_logprobs(logprobs: Iterable[float], what: str) -> None:
    """Raise NotANumberError, naming `what` gave them, for a log-probability that is none. Minus
    infinity is one: that of what cannot be."""
    for logprob in logprobs:
        if not logprob < inf:
            raise NotANumberError(f"{what} gave {logprob} for a log-probability")


def check_choice(logprobs: Sequence[float], what: str) -> None:
    """The same where one of them is to be chosen, so that not all may be impossible."""
    check_logprobs(logprobs, what)
    if max(logprobs) == -inf:
        raise NotANumberError(f"{what} gave each of its {len(logprobs)} choices a probability of 0")


def probabilities(logprobs: Sequence[float], what: str) -> tuple[float, ...]:
    """Of choices, from their natural-log probabilities: they sum to 1. Raises as `check_choice`."""
    check_choice(logprobs, what)
    top = max(logprobs)
    weights = [exp(logprob - top) for logprob in logprobs]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def check_distribution(weights: Sequence[float], what: str) -> None:
    """Raise NotANumberError, naming `what` gave them, for weights that nothing can be drawn by: one
    that is below 0 or no number, or a sum of 0."""
    wrong = next((weight for weight in weights if not 0 <= weight < inf), None)
    if wrong is not None:
        raise NotANumberError(f"{what} gave {wrong} for a probability")
    if not 0 < sum(weights) < inf:
        raise NotANumberError(f"{what} gave every choice a probability of {sum(weights)}")


def finite_or_none(number: float | None) -> float | None:
    """The number, None in place of NaN and infinity."""
    return None if number is None or not isfinite(number) else number
