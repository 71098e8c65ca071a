import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from benchmarks.overhead.__main__ import bench
from benchmarks.overhead.floor import ForwardWork, Rates
from benchmarks.overhead.overhead import Overhead
from benchmarks.overhead.questions import Questions
from benchmarks.overhead.suite import OverheadPlan, OverheadResults
from benchmarks.overhead.variants import VARIANTS
from taketurns.errors import PromptError, UsageError


def made_up(plan: OverheadPlan, say: Callable[[str], None]) -> OverheadResults:
    say("measuring")
    seconds = dict.fromkeys(VARIANTS, 1.5)
    work, rates = ForwardWork({1: 4}, {1: 10}), Rates({1: 1.0}, {1: 0.5})
    return OverheadResults(
        setup={"threads": 1},
        overheads=tuple(
            Overhead(
                "llama", workload, plan.repeats, 1, seconds, {**seconds, "kept": None}, 0.5,
                work, work, rates,
            )
            for workload in plan.workloads
        ),
        questions=(Questions("pocket", 1, plan.pocket_questions, 512, 2.0, 20.0, 9.0, 9, 99, 9),),
    )  # fmt: skip


def test_json_has_an_object_for_each_batch_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.overhead.suite.run", made_up)
    result = CliRunner().invoke(bench, ["overhead", "--json"])
    assert result.exit_code == 0, result.output
    assert "measuring" in result.stderr
    *measured, race = json.loads(result.stdout)
    found = [(record["batch"], record["tokens"]) for record in measured]
    assert found == [(1, 256), (1, 1024), (8, 256), (8, 1024)]
    wanted = {
        "kept_over_single",
        "kept_with_switcher_over_single",
        "kept_over_floor",
        "kept_with_switcher_over_floor",
        "reencode_over_single",
        "public_over_kept_with_switcher",
        "deterministic_over_fast",
        "seconds",
        "peak_bytes",
        "setup",
    }
    for record in measured:
        assert wanted < set(record)
        assert (record["prompt"], record["patch"]) == (128, 50)
    assert (race["public_over_team"], race["rounds_over_team"]) == (10.0, 4.5)
    assert race["questions"] == 24


def test_a_table_for_people() -> None:
    result = CliRunner().invoke(
        bench,
        ["overhead", "--quick", "--pocket-questions", "0", "--batch", "1", "--tokens", "20"],
    )
    assert result.exit_code == 0, result.output
    assert "floor with one" in result.stdout
    assert "deterministic over fast" in result.stdout
    assert "warming up" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["--shape", "70b"], UsageError), (["--quick", "--tokens", "4000"], PromptError)],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_at_once(
    arguments: list[str], error: type[Exception]
) -> None:
    result = CliRunner().invoke(bench, ["overhead", *arguments])
    assert isinstance(result.exception, error)


@pytest.mark.slow
def test_lengths_are_measured_side_by_side() -> None:
    command = "length --shape tiny --tokens 8 --tokens 24 --steps 2 --pocket-questions 2 --json"
    result = CliRunner().invoke(bench, command.split())
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    speeds = [one for one in records if one["what"] == "overhead"]
    assert [one["tokens"] for one in speeds] == [8, 24]
    assert all(one["kept_with_switcher_over_single"] > 0 for one in speeds)
    chains = [one for one in records if one["what"] == "chain"]
    assert [one["who"] for one in chains] == ["aligned alone", "random", "switcher"]
    for one in chains:
        assert sum(one["shares"][0].values()) == pytest.approx(1, abs=1e-3)
        assert one["low"] <= one["right"] <= one["high"]
