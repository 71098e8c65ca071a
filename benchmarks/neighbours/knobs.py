"""The methods that have a knob, and the places along it that are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Knob:
    """A method and its knob. `switcher` is that of its team file, without the knob and without the
    folder of what was trained under the method's name (`trained`)."""

    method: str
    key: str
    values: tuple[float, ...]
    switcher: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = False

    def at(self, value: float, trained: Mapping[str, Path]) -> dict[str, Any]:
        """The switcher at a value of the knob."""
        path = {"path": str(trained[self.method])} if self.trained else {}
        return {**self.switcher, **path, self.key: value}


KNOBS = (
    Knob("nudging", "gamma", (0.2, 0.3, 0.4, 0.5), {"kind": "nudging"}),
    Knob("baco", "gamma", (0.1, 0.3, 0.5, 0.7, 0.9), {"kind": "baco"}),
    Knob("mentorcollab", "rate", (0.1, 0.25, 0.5), {"kind": "mentorcollab"}),
    Knob("mentor-mlp", "rate", (0.1, 0.25, 0.5), {"kind": "mentorcollab"}, trained=True),
    Knob("co-llm", "threshold", (0.1, 0.3, 0.5, 0.7, 0.9), {"kind": "deferral"}, trained=True),
    Knob("r2r", "threshold", (0.1, 0.3, 0.5, 0.7, 0.9), {"kind": "deferral"}, trained=True),
)
TEMPERATURES = (0.4, 0.7, 1.0, 1.3)  # the knob of methods that have no other
BY_TEMPERATURE = ("pretrained", "aligned", "switch")
