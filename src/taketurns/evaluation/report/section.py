"""The sections of a report: text, tables and charts, one JSON file for each section.

`write_section(folder, section)` puts `sections/NAME.json` into an analysis folder, and
`read_sections(folder)` gives all that are there: a further measurement adds a file and the report
shows it. A chart is its data: it is drawn, and written as CSV, by the report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from taketurns.errors import DataError
from taketurns.evaluation.report.blocks import (
    Block,
    Chart,
    ChartKind,
    DataPoint,
    Heading,
    Paragraph,
    Table,
)
from taketurns.utils.json_files import write_json

SCHEMA = "taketurns.section/1"


@dataclass(frozen=True, slots=True)
class Section:
    """One question that was asked of the answers.

    `name` is the file's, `title` the heading, `finding` the answer in a plain sentence or two for
    the top of the report (empty: nothing to say). `parts` follow in order; a Heading among them has
    level 3. `caveat` says what the figures cannot say. Sections stand by `place`, then name: those
    of stored traces have 10 to 90, experiments 100 and more. `data` is the result as plain JSON.
    """

    name: str
    title: str
    finding: str
    parts: tuple[Block, ...]
    caveat: str = ""
    place: int = 100
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        charts = [part.name for part in self.parts if isinstance(part, Chart)]
        for name in (self.name, *charts):
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
                raise ValueError(f"a section's or chart's name is a word in lower case: {name!r}")
        if len(set(charts)) != len(charts):
            raise ValueError(f"two charts of section {self.name!r} have one name")


def write_section(folder: Path, section: Section) -> None:
    """Put a section into an analysis folder, in place of an older one of its name."""
    (folder / "sections").mkdir(parents=True, exist_ok=True)
    record = asdict(section)
    record["parts"] = [
        {"type": type(part).__name__.lower(), **values}
        for part, values in zip(section.parts, record["parts"], strict=True)
    ]
    for part in record["parts"]:
        if "bold" in part:
            part["bold"] = sorted(part["bold"])
    record["data"] = _finite(record["data"])
    write_json(folder / "sections" / f"{section.name}.json", {"schema": SCHEMA, **record})


def read_sections(folder: Path) -> list[Section]:
    """Every section of an analysis folder, in the report's order. Raises DataError for a file that
    is none."""
    sections = (_read(path) for path in (folder / "sections").glob("*.json"))
    return sorted(sections, key=lambda section: (section.place, section.name))


def _finite(value: Any) -> Any:
    """The same with None for what is no number, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _read(path: Path) -> Section:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        record["parts"] = tuple(_part(part) for part in record["parts"])
        return Section(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a {SCHEMA} record: {error}") from error


def _part(record: dict[str, Any]) -> Block:
    kind = record.pop("type")
    if kind == "paragraph":
        return Paragraph(**record)
    if kind == "heading":
        return Heading(**record)
    if kind == "table":
        return Table(
            tuple(record["header"]), tuple(map(tuple, record["rows"])), frozenset(record["bold"])
        )
    if kind == "chart" and record["kind"] in get_args(ChartKind):
        return Chart(**{**record, "marks": tuple(DataPoint(**mark) for mark in record["marks"])})
    raise ValueError(f"there is no part of type {kind!r}")
