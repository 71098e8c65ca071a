"""The parts of a report, before they are written as HTML or Markdown."""

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
    """Plain text; `lead` is printed in bold before it."""

    text: str
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header. The first column names the row, the others hold figures. `bold` are the
    indices of the rows that are printed in bold."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class DataPoint:
    """One point of a chart, and one line of its CSV.

    The kind of chart decides what `label` and `series` mean. `low` and `high` are the interval,
    `x` is the position on a numeric axis. A point is filled where `sure`, otherwise open.
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
    """A chart as data. `name` is the name of its file, unique in its section and on its page.
    `caption` describes the chart for a reader who does not see it. `across` and `up` label the
    axes; `reference` draws a line at that value or along the diagonal.

    Kinds:
    - shares: a bar per label, divided by series (speakers, in the team's order); values add to 1.
    - intervals: a row per label, coloured by series, with low and high; vertical reference.
    - grid: a cell for each label (row) and series (column), with its value, framed if sure.
    - scatter: value over x, labelled, coloured by series, with low and high; level reference.
    - lines: value over x, a line per series, with low and high as a band; level reference.
    - frontier: value over x, a cost; a line joins the labelled points that no other one beats.
    """

    name: str
    kind: ChartKind
    caption: str
    marks: tuple[DataPoint, ...]
    across: str = ""
    up: str = ""
    reference: float | Literal["diagonal"] | None = None


Block = Heading | Paragraph | Table | Chart
