"""Two ways to count seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter, process_time
from typing import Literal

Clock = Literal["wall", "cpu"]
"""Time that passes, or what this process computes, on all its threads together: where it has one
thread and the machine other work, that is what it would take alone."""

CLOCKS: Mapping[Clock, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}
"""Functions that give seconds, of which only differences say something."""
