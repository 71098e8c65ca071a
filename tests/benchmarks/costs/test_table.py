from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.costs import adapters, table
from benchmarks.costs.rows import Row, Spread
from benchmarks.costs.side_by_side import deal
from benchmarks.costs.table import QUICK, UNITS, main, measure
from benchmarks.costs.units import Setting, progress, select


def test_the_plan_fits_into_its_limit() -> None:
    assert len({unit.name for unit in UNITS}) == len(UNITS)
    for part in deal(UNITS, 2):  # as `make bench` measures them
        assert sum(unit.seconds for unit in part) < 20 * 60
    assert {unit.group for unit in UNITS} == {"large", "adapters", "shapes", "memory"}


def test_a_group_or_a_unit_can_be_measured_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert {unit.group for unit in select(UNITS, ["memory"])} == {"memory"}
    of_one_size = [unit.name for unit in select(UNITS, ["*-8x256"])]
    assert of_one_size == ["large-8x256", "memory-8x256"]
    main(["--list", "--only", "memory-8x1024"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("memory-8x1024\t")


def test_a_unit_that_there_is_not_is_refused() -> None:
    with pytest.raises(SystemExit, match="no unit fits memroy; --list shows them"):
        main(["--only", "memroy"])


def test_the_table_has_the_commit_the_machine_and_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "table.jsonl"
    main(["--quick", "--only", "large", "--clock", "wall", "--out", str(out)])
    printed = capsys.readouterr()
    assert re.match(r"Commit ([0-9a-f]{40}\+?|unknown); wall-clock time; device cpu", printed.out)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["row"]["what"] for record in records] == re.findall(
        r"^\| ([^|]+) \| 1 × 24 \|", printed.out, re.MULTILINE
    )
    assert len(records) == 5
    assert "large-1x24: kept_with_switcher" in printed.err
    assert not list(out.parent.glob("*.part"))


@pytest.mark.slow
def test_adapters_are_measured_beside_their_base(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    out = tmp_path / "table.jsonl"
    main(["--quick", "--only", "adapters", "--clock", "wall", "--out", str(out)])
    rows = [json.loads(line)["row"] for line in out.read_text().splitlines()]
    assert [row["what"] for row in rows] == list(adapters.RATIOS)
    assert [row["at_most"] for row in rows] == [1.1, 1.1, None, None]
    assert all(row["value"]["median"] > 0 for row in rows)
    shared, *_, apart = (row["measured"] for row in rows)
    assert shared["shared_seconds"] != apart["apart_seconds"]
    assert set(shared) == {"shared_seconds", "floor_seconds"}


def test_a_run_that_is_stopped_leaves_the_table_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> Iterator[Row]:
        yield Row("unit", "a / b", 1, 2, 1, Spread.of([1.0]))
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "measure", stopped)
    out = tmp_path / "table.jsonl"
    out.write_text("before\n")
    with pytest.raises(KeyboardInterrupt):
        main(["--out", str(out)])
    assert out.read_text() == "before\n"
    (line,) = (tmp_path / "table.jsonl.part").read_text().splitlines()
    assert json.loads(line)["row"]["what"] == "a / b"


def test_once_the_limit_is_reached_every_row_has_the_reason() -> None:
    units = select(QUICK, ["large", "adapters", "shapes"])
    rows = list(measure(units, Setting("tiny"), {}, 0, progress(0)))
    assert rows
    assert {row.note for row in rows} == {"left out: no time was left for it"}
