"""Numbers as models and servers give them: what is none is refused before anything is made of it.

Comparisons with NaN are false, so NaN gets past any of them: `max` and `min` keep it or drop it by
its place, and what is drawn by it is the last of the choices.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from math import exp, inf, isfinite
from typing import Any

from taketurns.errors import NotANumberError

DEEPEST = 100
"""Of JSON that is read."""


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


def real(number: float | None) -> float | None:
    """The number, None in place of NaN and infinity."""
    return None if number is None or not isfinite(number) else number


def parse_json(data: str | bytes, *, strict: bool = True) -> Any:
    """JSON, of at most `DEEPEST` lists and objects in one another, so that whatever walks it may
    call itself. `strict`: Python's own parser takes NaN and Infinity too, and makes infinity of
    numbers that are too large. Raises ValueError."""
    try:
        if strict:
            value = json.loads(data, parse_constant=_no_constant, parse_float=_finite)
        else:
            value = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    opened = ("[", "{") if isinstance(data, str) else (b"[", b"{")
    if sum(map(data.count, opened)) > DEEPEST and _too_deep(value):  # type: ignore[arg-type]
        raise ValueError(f"nested too deeply: more than {DEEPEST} lists and objects in one another")
    return value


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(one, list | dict) for one in level)


def _no_constant(word: str) -> None:
    raise ValueError(f"not JSON: {word} is no number")


def _finite(word: str) -> float:
    number = float(word)
    if not isfinite(number):
        raise ValueError(f"{word} is too large a number")
    return number
