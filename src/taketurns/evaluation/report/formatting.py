"""Numbers and lists as they are written in reports."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Protocol

from taketurns.evaluation.statistics import ALPHA

DASH = "\N{EN DASH}"
"""In place of a number that is not known."""


class IntervalEstimate(Protocol):
    """A number with its 95 % interval; None where there was too little to resample."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def interval(low: float | None, high: float | None, spec: str = ".3f", to: str = " to ") -> str:
    """From low to high."""
    if low is None or high is None:
        return DASH
    return f"{low:{spec}}{to}{high:{spec}}"


def with_interval(
    value: float | None,
    low: float | None,
    high: float | None,
    spec: str = ".3f",
    to: str = " to ",
) -> str:
    """A number with its interval, if it has one."""
    if value is None or not isfinite(value):
        return DASH
    if low is None or high is None:
        return format(value, spec)
    return f"{value:{spec}} ({interval(low, high, spec, to)})"


def estimated(estimate: IntervalEstimate, spec: str = ".3f") -> str:
    """An estimate with its interval, if it has one."""
    return with_interval(estimate.value, estimate.low, estimate.high, spec)


def ratio(estimate: IntervalEstimate) -> str:
    """A share or another quotient with its interval."""
    return with_interval(estimate.value, estimate.low, estimate.high, ".2f", DASH)


def percent(estimate: IntervalEstimate) -> str:
    """A share with its interval, in per cent, without the sign."""
    low, high = (None if end is None else 100 * end for end in (estimate.low, estimate.high))
    return with_interval(100 * estimate.value, low, high, ".0f", DASH)


def difference(value: float | None, low: float | None, high: float | None, places: int = 3) -> str:
    """A number whose sign matters, with its interval."""
    return with_interval(value, low, high, f"+.{places}f")


def p_value(p: float | None) -> str:
    """A p-value to three decimal places; "<0.001" if it is smaller."""
    if p is None:
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def significant(p: float | None) -> bool:
    """Is p below the significance level of the reports?"""
    return p is not None and p < ALPHA


def excludes_zero(estimate: IntervalEstimate) -> bool:
    """Is its interval on one side of 0?"""
    low, high = estimate.low, estimate.high
    return low is not None and high is not None and not low <= 0 <= high


def joined(names: Sequence[str], word: str = "and") -> str:
    """A list in words: "a, b and c"."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def counted(number: int, what: str) -> str:
    """A count with its noun in the singular or plural."""
    return f"{number} {what}" + ("s" if number != 1 else "")


def sequence_name(pool: Sequence[str], speakers: Sequence[int]) -> str:
    """A sequence as its speakers' names."""
    return " \N{RIGHTWARDS ARROW} ".join(pool[speaker] for speaker in speakers)
