"""How good a switcher's choices are, by the utilities in the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean
from typing import Any

from taketurns.training.supervised.examples import Example

_LEAST = 1e-9  # stands for a probability of 0, whose logarithm is infinite


@dataclass(frozen=True, slots=True)
class ChoiceMetrics:
    """Means over `rows` examples: the `utility` of the most probable choice; its `regret`, the best
    utility minus its own; its `agreement`, the share of best choices where utilities differ; and
    the `loss`, the cross-entropy of the probabilities with the targets, in nats."""

    rows: int
    utility: float
    regret: float
    agreement: float
    loss: float

    @property
    def selection_metric(self) -> float:
        """The metric that chooses the epoch: the utility, and at equal utilities the loss, because
        speakers are drawn from the probabilities."""
        return self.utility - 1e-7 * self.loss

    def to_json(self) -> dict[str, float]:
        return {
            "rows": self.rows,
            "utility": round(self.utility, 6),
            "regret": round(self.regret, 6),
            "agreement": round(self.agreement, 6),
            "loss": round(self.loss, 6),
        }


def measure_choices(
    probabilities: Sequence[Sequence[float]], examples: Sequence[Example]
) -> ChoiceMetrics:
    """The metrics of one distribution per example. Raises ValueError for different lengths."""
    pairs = list(zip(probabilities, examples, strict=True))
    top = [max(range(len(p)), key=p.__getitem__) for p, _ in pairs]
    worth = [x.utilities[choice] for (_, x), choice in zip(pairs, top, strict=True)]
    right = [c in x.label.best for (_, x), c in zip(pairs, top, strict=True) if x.label.margin > 0]
    return ChoiceMetrics(
        rows=len(pairs),
        utility=fmean(worth),
        regret=fmean(max(x.utilities) - got for (_, x), got in zip(pairs, worth, strict=True)),
        agreement=fmean(right) if right else 1.0,
        loss=fmean(
            -sum(t * log(max(q, _LEAST)) for t, q in zip(x.target, p, strict=True) if t > 0)
            for p, x in pairs
        ),
    )


def reference_utilities(examples: Sequence[Example], names: Sequence[str]) -> Mapping[str, Any]:
    """The utilities to compare a switcher with: a random choice, always the same candidate, and
    the best choice for each example."""
    return {
        "random": round(fmean(fmean(x.utilities) for x in examples), 6),
        "always": {
            name: round(fmean(x.utilities[index] for x in examples), 6)
            for index, name in enumerate(names)
        },
        "best": round(fmean(max(x.utilities) for x in examples), 6),
    }


def by_task(
    probabilities: Sequence[Sequence[float]], examples: Sequence[Example]
) -> dict[str, dict[str, float]]:
    """The metrics of each task."""
    pairs = list(zip(probabilities, examples, strict=True))
    tasks = sorted({example.label.task for example in examples})
    return {
        task: measure_choices(
            [p for p, x in pairs if x.label.task == task],
            [x for _, x in pairs if x.label.task == task],
        ).to_json()
        for task in tasks
    }
