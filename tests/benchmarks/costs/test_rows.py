from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.costs.rows import Row, Spread, left_out, read_lines, row_from_json, write_rows


def row(value: float, beside: float | None = None, at_most: float | None = None) -> Row:
    return Row(
        "unit", "a / b", 8, 256, 2,
        Spread(value, value - 0.1, value + 0.1),
        None if beside is None else Spread.of([beside]),
        at_most,
        measured={"a_seconds": 2.0},
    )  # fmt: skip


def test_a_spread_is_the_median_and_the_range() -> None:
    assert Spread.of([3.0, 1.0, 2.5]) == Spread(2.5, 1.0, 3.0)


def test_reached_is_by_the_llamas_ratio_where_there_is_one() -> None:
    assert row(3.2, at_most=3.2).reached is True
    assert row(3.3, at_most=3.2).reached is False
    assert row(3.3, beside=1.05, at_most=1.1).reached is True
    assert row(1.0, beside=1.15, at_most=1.1).reached is False
    assert row(1.0).reached is None
    assert left_out("unit", "a / b", 1, 2, "no time").reached is None


def test_a_row_comes_back_from_its_json() -> None:
    for written in (row(1.5), row(1.5, 1.1, 1.3), left_out("unit", "a / b", 1, 2, "no time")):
        assert row_from_json(json.loads(json.dumps(written.to_json()))) == written


def test_a_run_that_is_stopped_keeps_its_rows(tmp_path: Path) -> None:
    def measuring() -> Iterator[Row]:
        yield row(1.0)
        yield row(2.0)
        raise KeyboardInterrupt

    path = tmp_path / "rows.jsonl"
    with path.open("w") as file, pytest.raises(KeyboardInterrupt):
        write_rows(measuring(), {"commit": "abc"}, file)
    lines = read_lines(path)
    assert [row_from_json(line) for line in lines] == [row(1.0), row(2.0)]
    assert [line["setup"] for line in lines] == [{"commit": "abc"}] * 2
    assert read_lines(tmp_path / "none.jsonl") == []
