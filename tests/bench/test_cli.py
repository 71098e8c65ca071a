import json

import pytest
from typer.testing import CliRunner

from taketurns.bench.cli import bench
from taketurns.errors import PromptError, UsageError


def test_a_quick_run_prints_a_json_object_for_each_batch_and_length() -> None:
    result = CliRunner().invoke(
        bench,
        ["overhead", "--quick", "--json", "--pocket-questions", "0"]
        + ["--batch", "1", "--batch", "2", "--tokens", "60"],
    )
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    assert [(record["batch"], record["tokens"]) for record in records] == [(1, 60), (2, 60)]
    wanted = {
        "kept_over_single",
        "kept_with_switcher_over_single",
        "kept_over_floor",
        "kept_with_switcher_over_floor",
        "reencode_over_single",
        "public_over_kept_with_switcher",
        "deterministic_over_fast",
    }
    for record in records:
        assert all(record[key] > 0 for key in wanted)
        assert record["setup"]["threads"] >= 1
    assert "warming up" in result.stderr


def test_a_table_for_people() -> None:
    result = CliRunner().invoke(
        bench,
        ["overhead", "--quick", "--pocket-questions", "0", "--batch", "1", "--tokens", "20"],
    )
    assert result.exit_code == 0, result.output
    assert "floor with one" in result.stdout
    assert "deterministic over fast" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["--shape", "70b"], UsageError), (["--quick", "--tokens", "4000"], PromptError)],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_at_once(
    arguments: list[str], error: type[Exception]
) -> None:
    result = CliRunner().invoke(bench, ["overhead", *arguments])
    assert isinstance(result.exception, error)
