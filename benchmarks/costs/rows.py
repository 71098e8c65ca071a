"""A row of the table: a value of several rounds, and what it is to reach."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TextIO

WHAT = "row"
NO_TIME = "no time was left for it"


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
