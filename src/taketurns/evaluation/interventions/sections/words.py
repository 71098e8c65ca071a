"""Numbers in words, as these sections say them."""

from __future__ import annotations

from taketurns.evaluation.analysis.numbers import NONE
from taketurns.evaluation.interventions.shapley import BootstrapEstimate


def interval(low: float | None, high: float | None, spec: str = ".3f") -> str:
    """From low to high."""
    if low is None or high is None:
        return NONE
    return f"{low:{spec}} to {high:{spec}}"


def figure(one: BootstrapEstimate, spec: str = ".3f") -> str:
    """A number with its interval, if it has one."""
    if one.low is None or one.high is None:
        return format(one.value, spec)
    return f"{one.value:{spec}} ({interval(one.low, one.high, spec)})"


def excludes_zero(one: BootstrapEstimate) -> bool:
    """Is its interval on one side of 0?"""
    return one.low is not None and one.high is not None and not one.low <= 0 <= one.high
