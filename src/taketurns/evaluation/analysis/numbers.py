"""Numbers as a report says them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from taketurns.evaluation.analysis.clusters import Ratio
from taketurns.evaluation.statistics import ALPHA

NONE = "\N{EN DASH}"


def percent(one: Ratio) -> str:
    """A share with its interval, in per cent."""
    if not isfinite(one.value):
        return NONE
    return f"{100 * one.value:.0f} ({100 * one.low:.0f}\N{EN DASH}{100 * one.high:.0f})"


def plain(one: Ratio, places: int = 2) -> str:
    """A value with its interval."""
    if not isfinite(one.value):
        return NONE
    return f"{one.value:.{places}f} ({one.low:.{places}f}\N{EN DASH}{one.high:.{places}f})"


def signed(value: float | None, low: float | None, high: float | None, places: int = 3) -> str:
    """A difference with its interval."""
    if value is None or low is None or high is None:
        return NONE
    return f"{value:+.{places}f} ({low:+.{places}f} to {high:+.{places}f})"


def p_value(p: float | None) -> str:
    """As one that is small enough, or to three places."""
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """a, b and c."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number} {what}" + ("s" if number != 1 else "")


def named(pool: Sequence[str], sequence: Sequence[int]) -> str:
    """A sequence by its speakers' names."""
    return " \N{RIGHTWARDS ARROW} ".join(pool[speaker] for speaker in sequence)


def sure(p: float | None) -> bool:
    """Is it significant?"""
    return p is not None and p < ALPHA
