"""Sections are kept as files and read back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from taketurns.errors import DataError
from taketurns.evaluation.report.blocks import Chart, DataPoint, Heading, Paragraph, Table
from taketurns.evaluation.report.section import Section, read_sections, write_section

CHART = Chart(
    "effects",
    "intervals",
    "What each sequence does.",
    (
        DataPoint("a b", 0.25, series="knowledge", low=-0.5, high=1.0, sure=False),
        DataPoint("b a", 0.0),
    ),
    across="effect",
    reference=0.0,
)


def section(name: str, place: int) -> Section:
    table = Table(("who", "share"), (("a", "0.5"), ("b", "0.5")), frozenset({1}))
    parts = (Paragraph("<b>words</b>"), Heading("more", 3), table, CHART)
    return Section(name, "Who?", "Both.", parts, "Not much.", place, {"shares": [0.5, 0.5]})


def test_sections_come_back_equal_and_in_order(tmp_path: Path) -> None:
    written = [section("later", 20), section("first", 10), section("also-later", 20)]
    for one in written:
        write_section(tmp_path, one)
    assert read_sections(tmp_path) == [written[1], written[2], written[0]]


def test_a_section_written_again_takes_the_olders_place(tmp_path: Path) -> None:
    write_section(tmp_path, section("one", 10))
    write_section(tmp_path, section("one", 30))
    assert [one.place for one in read_sections(tmp_path)] == [30]


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"schema": "other"}', '{"schema": "taketurns.section/1"}']
)
def test_a_file_that_is_no_section_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "odd.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"odd\.json is not a taketurns\.section/1 record"):
        read_sections(tmp_path)


def test_names_are_fit_for_files() -> None:
    with pytest.raises(ValueError, match=r"the name '\.\./up' .* only lower-case letters"):
        Section("../up", "", "", ())
    with pytest.raises(ValueError, match="two charts called"):
        Section("twice", "", "", (CHART, CHART))
