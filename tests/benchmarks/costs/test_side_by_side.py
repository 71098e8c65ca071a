from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.costs.side_by_side import deal
from benchmarks.costs.table import main
from benchmarks.costs.units import Unit


def test_processes_have_about_as_much_to_do() -> None:
    seconds = {"a": 10, "b": 40, "c": 30, "d": 25}
    units = [Unit(group, 1, 1, 1, its) for group, its in seconds.items()]
    parts = [[unit.group for unit in part] for part in deal(units, 2)]
    assert parts == [["a", "b"], ["c", "d"]]
    assert [len(part) for part in deal(units[:1], 2)] == [1]


@pytest.mark.slow
def test_two_processes_measure_the_table_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.jsonl"
    units = ("large-1x24", "shapes-1x24")
    two = ("--processes", "2", "--shapes", "Llama", "--out", str(out))
    main(["--quick", "--only", *units, *two])
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["row"]["unit"] for record in records] == [units[0]] * 5 + [units[1]]
    assert all(record["row"]["rounds"] for record in records)
    assert re.search(r"threads \d+, .*processes 2", capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == [out], "nothing is left beside it"
