"""Cells of an evaluation's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taketurns.evaluation.report.formatting import DASH, with_interval


def method_label(name: str, method: Mapping[str, Any]) -> str:
    """A method's name, with a star if it has hindsight."""
    return f"{name} *" if method["hindsight"] else name


def score_cell(score: Mapping[str, Any]) -> str:
    """A mean score with its interval."""
    return with_interval(score["mean"], score["low"], score["high"], ".3f", "-")


def gain_cells(gain: Mapping[str, Any]) -> list[str]:
    """A gain as the mean of ratios, as the ratio of means, and as a difference."""
    return [relative_gain(gain), percent_change(gain["of_average"]), signed(gain["absolute"])]


def relative_gain(gain: Mapping[str, Any]) -> str:
    """The mean relative gain, with the number of tasks that it leaves out."""
    left_out = f" ({gain['left_out']})" if gain["left_out"] else ""
    return percent_change(gain["relative"]) + left_out


def percent_change(value: float | None) -> str:
    """A relative change in per cent."""
    return DASH if value is None else f"{100 * value:+.1f} %"


def signed(value: float) -> str:
    """A difference of scores."""
    return f"{value:+.3f}"
