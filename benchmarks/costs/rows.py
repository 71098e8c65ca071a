"""A row of the table: a value of several rounds, and what it is to reach."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from benchmarks.costs.units import Unit

WHAT = "row"
NO_TIME = "no time was left for it"

Ratios = Mapping[str, tuple[str, str, float | None]]
"""Of each row the names above and below the line, and what is to be reached, if anything is."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, the lowest and the highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Row:
    """`value` is a ratio; None for a row that was left out, whose `note` is the reason. `beside` is
    the same ratio divided by that of the Llama in the same round. `at_most` is what is to be
    reached, by `beside` where there is one, else by `value`. `measured` has the medians behind the
    value, with the unit in each name."""

    unit: str
    what: str
    batch: int
    tokens: int
    rounds: int
    value: Spread | None
    beside: Spread | None = None
    at_most: float | None = None
    note: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the median is at most what is to be reached; None if nothing is, or if the row
        was left out."""
        reaching = self.beside or self.value
        if reaching is None or self.at_most is None:
            return None
        return reaching.median <= self.at_most

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"what": WHAT, "row": asdict(self), "reached": self.reached}


def row_from_json(record: Mapping[str, Any]) -> Row:
    """A row as `to_json` wrote it."""
    values = dict(record["row"])
    for key in ("value", "beside"):
        values[key] = None if values[key] is None else Spread(**values[key])
    return Row(**values)


def left_out(unit: str, what: str, batch: int, tokens: int, why: str) -> Row:
    """A row without a value."""
    return Row(unit, what, batch, tokens, 0, None, note=f"left out: {why}")


def ratio_rows(
    unit: Unit, ratios: Ratios, rounds: Sequence[Mapping[str, float]], floors: Mapping[str, float]
) -> Iterator[Row]:
    """A row for each ratio of seconds: those of each round, and of `floors`, which are the same in
    all rounds. Without rounds the rows are left out for want of time."""
    timed = [{**floors, **round_} for round_ in rounds]
    for what, (above, below, at_most) in ratios.items():
        if not timed:
            yield left_out(unit.name, what, unit.batch, unit.tokens, NO_TIME)
            continue
        seconds_of = {name: median(round_[name] for round_ in timed) for name in (above, below)}
        yield Row(
            unit.name,
            what,
            unit.batch,
            unit.tokens,
            len(timed),
            Spread.of([round_[above] / round_[below] for round_ in timed]),
            at_most=at_most,
            note=of_seconds(seconds_of[above], seconds_of[below]),
            measured={f"{name}_seconds": took for name, took in seconds_of.items()},
        )


def of_seconds(above: float, below: float) -> str:
    """A note: the seconds of which the value is the ratio."""
    return f"{above:.3g} s over {below:.3g} s"


def of_bytes(above: float, below: float) -> str:
    """A note: the bytes of which the value is the ratio, in MiB."""
    return f"{above / 2**20:.0f} MiB over {below / 2**20:.0f} MiB"


def write_rows(rows: Iterable[Row], setup: Mapping[str, Any], file: TextIO) -> list[Row]:
    """Write each row as a JSON line as soon as it is measured, so that a run that is stopped keeps
    what it has; returns them all."""
    written = []
    for row in rows:
        print(json.dumps({**row.to_json(), "setup": setup}), file=file, flush=True)
        written.append(row)
    return written


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none if there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
