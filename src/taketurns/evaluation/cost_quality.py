"""Quality against cost, and where a dearer method begins to pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taketurns.evaluation.results import MethodResult

Point = tuple[float, float]
"""Cost and quality."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """A method beside another, in one kind of cost.

    `cost` is how many times as much an answer costs. If a wrong answer can be seen and asked for
    again, a right one costs cost / quality, so the method pays from a relative gain of `needed` on;
    `gain` is what it has (None over a method that is never right). What is never right itself does
    not pay. `each` is what one further right answer costs, in answers of the other method; None
    where there is none.
    """

    cost: float
    needed: float
    gain: float | None
    pays: bool
    each: float | None


def frontier(points: Mapping[str, Point]) -> list[str]:
    """The methods that none beats: no other is as good for less, or better for as much; by rising
    cost."""

    def beaten(point: Point) -> bool:
        return any(
            cost <= point[0] and quality >= point[1] and (cost, quality) != point
            for cost, quality in points.values()
        )

    kept = [name for name, point in points.items() if not beaten(point)]
    return sorted(kept, key=lambda name: points[name])


def break_even(method: Point, other: Point) -> BreakEven:
    """Where `method` begins to pay beside `other`, which costs something."""
    (cost, quality), (less, lower) = method, other
    ratio = cost / less
    gain = quality / lower - 1 if lower else None
    return BreakEven(
        cost=ratio,
        needed=ratio - 1,
        gain=gain,
        pays=quality > 0 and (gain is None or gain >= ratio - 1),
        each=max(0.0, ratio - 1) / (quality - lower) if quality > lower else None,
    )


def points(measured: Sequence[MethodResult], cost: str) -> dict[str, Point]:
    """The cost an answer ("tokens" or "seconds") and the mean score of every method that gave
    any answer: one that failed at all of them is not cheap."""
    at = {method.name: (float(getattr(method.cost, cost)), method.average) for method in measured}
    return {name: point for name, point in at.items() if point[0]}


def alike(measured: Sequence[MethodResult]) -> dict[str, str]:
    """The methods that did exactly what an earlier one did, such as a soup of one checkpoint, and
    that one: they differ in seconds, and only as two measurements of the same do."""
    first: dict[str, str] = {}
    earlier = {}
    for method in measured:
        if method.work is not None and first.setdefault(method.work, method.name) != method.name:
            earlier[method.name] = first[method.work]
    return earlier
