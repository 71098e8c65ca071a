"""Checks of numbers from models and servers: NaN and infinity are refused before they are used.

Comparisons with NaN are false, so NaN passes ordinary checks unnoticed: `max` and `min` keep or
drop it by its position, and a draw by it gives the last choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, inf, isfinite

from taketurns.errors import NotANumberError


def check_logprobs(logprobs: Iterable[float], what: str) -> None:
    """Raise NotANumberError, which names `what` as the source, for a value that is not a
    log-probability. Minus infinity is one: of an impossible token."""
    for logprob in logprobs:
        if not logprob < inf:
            raise NotANumberError(f"{what} gave {logprob} as a log-probability")


def check_choice(logprobs: Sequence[float], what: str) -> None:
    """`check_logprobs` for a choice among them: also raises if all are impossible."""
    check_logprobs(logprobs, what)
    if max(logprobs) == -inf:
        raise NotANumberError(f"{what} gave each of its {len(logprobs)} choices a probability of 0")


def probabilities(logprobs: Sequence[float], what: str) -> tuple[float, ...]:
    """Natural-log probabilities of choices as probabilities that sum to 1. Raises as
    `check_choice`."""
    check_choice(logprobs, what)
    top = max(logprobs)
    weights = [exp(logprob - top) for logprob in logprobs]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def check_distribution(weights: Sequence[float], what: str) -> None:
    """Raise NotANumberError, which names `what` as the source, for weights that no draw can use: a
    weight is negative, NaN or infinite, or their sum is 0."""
    wrong = next((weight for weight in weights if not 0 <= weight < inf), None)
    if wrong is not None:
        raise NotANumberError(f"{what} gave {wrong} as a probability")
    if not 0 < sum(weights) < inf:
        raise NotANumberError(f"{what} gave probabilities that sum to {sum(weights)}")


def finite_or_none(number: float | None) -> float | None:
    """The number, or None for NaN and infinity."""
    return None if number is None or not isfinite(number) else number
