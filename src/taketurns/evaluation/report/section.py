"""The sections of a report: text, tables and charts, one JSON file for each section.

`write_section(folder, section)` writes `sections/NAME.json` into an analysis folder, and
`read_sections(folder)` reads all of them: a further measurement adds a file and appears in the
report. A chart is stored as data; the report draws it and writes it as CSV.
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
    """One measurement on the answers.

    `name` is the name of its file, `title` the heading, `finding` the result in one or two
    sentences for the top of the report (empty: none). `parts` follow in order; a Heading among them
    has level 3. `caveat` names the limits of the figures. Sections are sorted by `place`, then
    name: those of stored traces have 10 to 90, experiments 100 and more. `data` is the result as
    plain JSON values.
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
                raise ValueError(
                    f"section {self.name!r}: the name {name!r} of a section or chart may have only "
                    "lower-case letters, digits and hyphens, and begins with a letter or digit"
                )
        if len(set(charts)) != len(charts):
            twice = next(name for name in charts if charts.count(name) > 1)
            raise ValueError(
                f"section {self.name!r} has two charts called {twice!r}; rename one of them"
            )


def write_section(folder: Path, section: Section) -> None:
    """Write a section into an analysis folder; it replaces an older one of the same name."""
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
    is not a section."""
    sections = (_read(path) for path in (folder / "sections").glob("*.json"))
    return sorted(sections, key=lambda section: (section.place, section.name))


def _finite(value: Any) -> Any:
    """The same values with None for NaN and infinity, which JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _read(path: Path) -> Section:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.pop("schema") != SCHEMA:
            raise ValueError("its schema is another one")
        record["parts"] = tuple(_part(part) for part in record["parts"])
        return Section(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a {SCHEMA} record ({error}): remove it, or write it anew"
        ) from error


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
    raise ValueError(f"unknown part of type {kind!r}")
