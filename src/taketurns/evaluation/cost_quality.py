"""Quality against cost: the Pareto frontier, and the break-even point of a more costly method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taketurns.evaluation.results import MethodResult

Point = tuple[float, float]
"""Cost and quality."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """A method compared with another, in one kind of cost.

    `cost` is the ratio of their costs per answer. If a wrong answer can be recognised and the
    question asked again, a right answer costs cost / quality, so the method `pays` if its relative
    gain is at least `needed`. `gain` is its actual gain (None over a method that is never right). A
    method that is never right does not pay. `each` is the cost of one further right answer, in
    answers of the other method; None if the method is not better.
    """

    cost: float
    needed: float
    gain: float | None
    pays: bool
    each: float | None


def frontier(points: Mapping[str, Point]) -> list[str]:
    """The methods on the Pareto frontier, by rising cost: no other method is as good for less, or
    better for as much."""

    def beaten(point: Point) -> bool:
        return any(
            cost <= point[0] and quality >= point[1] and (cost, quality) != point
            for cost, quality in points.values()
        )

    kept = [name for name, point in points.items() if not beaten(point)]
    return sorted(kept, key=lambda name: points[name])


def break_even(method: Point, other: Point) -> BreakEven:
    """The break-even point of `method` over `other`, whose cost must not be 0."""
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
    """The cost per answer ("tokens" or "seconds") and the mean score of every method that gave at
    least one answer: a method whose answers all failed is not cheap."""
    at = {method.name: (float(getattr(method.cost, cost)), method.average) for method in measured}
    return {name: point for name, point in at.items() if point[0]}


def alike(measured: Sequence[MethodResult]) -> dict[str, str]:
    """Each method that did exactly the same as an earlier one (such as a soup of one checkpoint),
    with that earlier one. Their seconds differ only by the error of measurement."""
    first: dict[str, str] = {}
    earlier = {}
    for method in measured:
        if method.work is not None and first.setdefault(method.work, method.name) != method.name:
            earlier[method.name] = first[method.work]
    return earlier
