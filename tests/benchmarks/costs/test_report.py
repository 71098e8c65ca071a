from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.costs.report import main, put_into, rows_table, tables
from benchmarks.costs.rows import Row, Spread, left_out
from taketurns.errors import DataError

PAGE = Path(__file__).parents[3] / "docs" / "results" / "costs.md"
SETUP = {"commit": "abc+", "cpu": "a processor", "clock": "cpu"}
ROWS = (
    Row("u", "team / one", 8, 256, 2, Spread(1.234, 1.1, 1.3), note="2 s over 1 s"),
    Row("u", "OLMo 3", 8, 200, 1, Spread.of([2.0]), Spread.of([1.2]), 1.1),
    left_out("u", "LFM2", 8, 200, "no time"),
)


def overhead(tokens: int, kept: float, models: str = "llama-100m") -> dict[str, Any]:
    names = ("single", "kept", "kept_with_switcher", "reencode", "public", "deterministic")
    ratios = (
        "kept_with_switcher_over_single", "kept_over_floor", "kept_with_switcher_over_floor",
        "reencode_over_single", "public_over_single", "public_over_kept_with_switcher",
        "deterministic_over_fast",
    )  # fmt: skip
    return {
        "what": "overhead", "models": models, "batch": 1, "tokens": tokens, "repeats": 1,
        "clock": "cpu", "kept_over_single": kept, **dict.fromkeys(ratios, 1.5),
        "deterministic_over_fast": None,
        "seconds": dict.fromkeys(names, 2.0), "peak_bytes": dict.fromkeys(names, 3 * 2**20),
        "setup": {"commit": "abc", "cpu": "a processor"},
    }  # fmt: skip


def write(work: Path, name: str, *records: dict[str, Any]) -> None:
    (work / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))


def test_a_row_says_what_is_to_be_reached_and_whether_it_is() -> None:
    text = rows_table(ROWS, SETUP)
    head, _, *lines = text.splitlines()
    assert head == "Commit abc+; processor time of all threads; cpu a processor"
    assert lines[2:] == [
        "| team / one | 8 × 256 | 1.23 (1.10–1.30) |  |  |  | 2 | 2 s over 1 s |",
        "| OLMo 3 | 8 × 200 | 2.00 (2.00–2.00) | 1.20 (1.20–1.20) | ≤ 1.10 | no | 1 |  |",
        "| LFM2 | 8 × 200 |  |  |  |  |  | left out: no time |",
    ]


def test_rounds_that_were_steps_of_their_own_are_one_row(tmp_path: Path) -> None:
    for number, kept in enumerate((1.0, 1.4, 1.1)):
        write(tmp_path, f"overhead-{number}", overhead(256, kept))
    made = dict(tables(tmp_path))
    assert set(made) == {"ratios", "seconds", "memory"}
    (row,) = re.findall(r"^\| 1 \| 256 \|.*", made["ratios"], re.MULTILINE)
    assert row == "| 1 | 256 | 1.10 | 1.50 | 1.50 | 1.50 | 1.50 | 1.50 | 1.50 |  | 3 |"
    assert "| 1 | 256 | 3 | 3 | 3 | 3 | 3 | 3 | 3 |" in made["memory"]


def test_runs_of_two_commits_are_both_named(tmp_path: Path) -> None:
    other = {**overhead(1024, 1.0), "setup": {"commit": "def", "cpu": "a processor"}}
    write(tmp_path, "overhead", overhead(256, 1.0), other)
    assert re.findall(r"Commit (\w+);", dict(tables(tmp_path))["seconds"]) == ["abc", "def"]


def test_every_table_has_its_block_in_the_page(tmp_path: Path) -> None:
    """The blocks that are not measured stay as they are."""
    records = [{**row.to_json(), "setup": SETUP} for row in ROWS]
    write(tmp_path, "table", *records)
    write(tmp_path, "gpu", *records[:1])
    asked = {"batch": 1, "questions": 24, "team_seconds": 1.6, "public_seconds": 38.9}
    ratios = {"public_over_team": 24.7, "rounds_over_team": 7.0}
    questions = {"what": "questions", **asked, **ratios, "setup": SETUP}
    write(tmp_path, "overhead", overhead(256, 1.07), questions)
    copy = tmp_path / "costs.md"
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    main([str(tmp_path), "--into", str(copy)])
    page = copy.read_text(encoding="utf-8")
    for name, text in tables(tmp_path):
        assert f"<!-- {name} -->\n{text}<!-- end {name} -->\n" in page
    blocks = re.findall(r"<!-- (\w+) -->\n(.*?)<!-- end \1 -->", page, re.DOTALL)
    assert {name for name, _ in blocks} == {
        "bench", "gpu", "ratios", "seconds", "memory", "questions", "lengths",
    }  # fmt: skip
    (lengths,) = (text for name, text in blocks if name == "lengths")
    assert lengths in PAGE.read_text(encoding="utf-8")
    assert page.count("\n## ") == PAGE.read_text(encoding="utf-8").count("\n## ")


def test_lengths_are_in_order(tmp_path: Path) -> None:
    for tokens in (4096, 512):
        write(tmp_path, f"length-{tokens}", overhead(tokens, 0.9, "llama-13m"))
    text = dict(tables(tmp_path))["lengths"]
    assert re.findall(r"^\| ([\d,]+) \|", text, re.MULTILINE) == ["512", "4,096"]


def test_a_page_without_the_block_is_refused() -> None:
    with pytest.raises(DataError, match="no block <!-- bench -->"):
        put_into("# A page\n", "bench", "| a |\n")


def test_a_folder_without_measurements_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "has no measurement: run make bench" in capsys.readouterr().err


def test_without_a_page_the_tables_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "table", {**ROWS[0].to_json(), "setup": SETUP})
    main([str(tmp_path)])
    assert capsys.readouterr().out.startswith("## bench\n\nCommit abc+;")
