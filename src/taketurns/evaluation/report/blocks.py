"""What a report is made of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from taketurns.evaluation.report.formatting import IntervalEstimate

ChartKind = Literal["shares", "intervals", "grid", "scatter", "lines", "frontier"]


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text, after a few words to be seen first, if any."""

    text: str
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header. The first column names the row, the others hold figures; `bold` are
    rows to be seen first, by number."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class DataPoint:
    """One datum of a chart, and one line of its CSV.

    `label` and `series` are what the kind of chart makes of them, `low` and `high` its interval,
    `x` its place across where that is a number. `sure` fills a point that is otherwise open.
    """

    label: str
    value: float
    series: str = ""
    low: float | None = None
    high: float | None = None
    x: float | None = None
    sure: bool = True

    @classmethod
    def of(
        cls,
        label: str,
        estimate: IntervalEstimate,
        series: str = "",
        x: float | None = None,
        *,
        sure: bool = True,
    ) -> DataPoint:
        """An estimate with its interval."""
        return cls(label, estimate.value, series, estimate.low, estimate.high, x, sure)


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing as data. `name`, a word that no other chart of its section or page has, is that of
    its file. `caption` says what it shows, in words that do without it. `across` and `up` name the
    axes; `reference` is a line to compare with, at that value or along the diagonal.

    Kinds:
    - shares: a bar a label, divided by series (of speakers, in the team's order); values add to 1.
    - intervals: a row a label, coloured by series, with low and high; reference is upright.
    - grid: a cell for each label (row) and series (column), with its value in it, framed if sure.
    - scatter: value over x, labelled, coloured by series, with low and high; reference is level.
    - lines: value over x, a line a series, with low and high as a band; reference is level.
    - frontier: value over x, a cost; a line joins the labelled points that no other such beats.
    """

    name: str
    kind: ChartKind
    caption: str
    marks: tuple[DataPoint, ...]
    across: str = ""
    up: str = ""
    reference: float | Literal["diagonal"] | None = None


Block = Heading | Paragraph | Table | Chart
