"""`taketurns experiment` on the bundled team: whole, resumable, and clear about mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from taketurns.cli.app import app
from taketurns.evaluation.interventions.session import observed
from taketurns.evaluation.report.section import Section, read_sections, write_section

Invoke = Callable[..., tuple[int, str, str]]
SMALL = [
    "--task", "age", "--task", "arithmetic", "--limit", "3", "--trials", "3", "--prefixes", "2",
    "--k", "2", "--set", "policy.max_tokens=48", "--set", "engine.deterministic=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    done = CliRunner().invoke(
        app,
        ["rollout", "--output", str(path), "--task", "age", "--task", "arithmetic", "--k", "2",
         "--prefixes", "16", "--set", "policy.max_tokens=48"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, labels: Path) -> Path:
    out = tmp_path_factory.mktemp("experiment") / "out"
    model = Path(__file__).parents[2] / "src/taketurns/pocket/weights/pretrained"
    done = CliRunner().invoke(
        app,
        ["experiment", "--out", str(out), *SMALL, "--labels", str(labels), "--replace",
         f"sft={model}", "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return out


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "experiments").glob("*.jsonl"))}


def lines(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "experiments" / name).read_text().splitlines()]


def test_every_experiment_leaves_a_section(whole: Path) -> None:
    sections = read_sections(whole)
    assert [section.name for section in sections] == [
        "forced-sequences", "helpfulness", "switcher-decisions", "generalisation",
    ]  # fmt: skip
    assert all(section.finding and section.caveat for section in sections)
    _, helps, decisions, carries = (section.data for section in sections)
    assert set(helps) == {"renormalised", "retrained"}
    for study in helps.values():
        values = [one["shapley"]["value"] for one in study["whole"].values()]
        assert len(values) == 3
    assert decisions["regret"]["boundaries"] == 4
    verdicts = {one["how"]: one["verdict"] for one in carries["changes"]}
    assert len(verdicts) == 3
    # The head knows candidates by name.
    assert verdicts["candidates in the same order, other names"] == "refuses"


def test_shapley_values_sum_to_the_pools_score(whole: Path) -> None:
    (helps,) = (section.data for section in read_sections(whole) if section.name == "helpfulness")
    scores = [record["score"] for record in lines(whole, "answers-whole.jsonl")]
    values = [one["shapley"]["value"] for one in helps["renormalised"]["whole"].values()]
    assert sum(values) == pytest.approx(sum(scores) / len(scores))


def test_only_those_who_are_there_speak(whole: Path) -> None:
    for name, allowed in (
        ("part-0-2", {"pretrained", "aligned"}),
        ("retrained-1-2", {"sft", "aligned"}),
        ("alone-1", {"sft"}),
    ):
        spoke = {
            patch["name"]
            for record in lines(whole, f"answers-{name}.jsonl")
            for patch in record["patches"]
        }
        assert spoke
        assert spoke <= allowed


def test_the_same_command_asks_nothing_again_and_more_is_added(
    whole: Path, labels: Path, invoke: Invoke
) -> None:
    before = files(whole)
    more = [*SMALL, "--only", "sequences,decisions"]
    code, out, err = invoke("experiment", "--out", whole, *more)
    assert (code, err) == (0, "")
    assert "Forced sequences" in out
    assert files(whole) == before
    torn = whole / "experiments" / "sequences.jsonl"
    torn.write_bytes(before["sequences.jsonl"][:-30])  # killed while it wrote the last record
    assert invoke("experiment", "--out", whole, *more)[0] == 0
    assert files(whole) == before
    more[more.index("--trials") + 1] = "4"
    assert invoke("experiment", "--out", whole, *more)[0] == 0
    grown = files(whole)["sequences.jsonl"]
    assert grown.startswith(before["sequences.jsonl"])
    assert len(grown.splitlines()) == 8
    code, _, err = invoke("experiment", "--out", whole, *more, "--set", "policy.patch_size=8")
    assert code == 2
    assert "another run, whose policy differed" in err
    code, _, _ = invoke(
        "experiment", "--out", whole, *SMALL, "--only", "decisions", "--rollouts", labels
    )
    assert code == 0
    (found,) = (s.data for s in read_sections(whole) if s.name == "switcher-decisions")
    assert found["regret"]["boundaries"] == 16


def test_mistakes_are_said(tmp_path: Path, invoke: Invoke) -> None:
    for more, said in (
        (
            ["--only", "sequence"],
            "there is no experiment 'sequence'; the experiments are sequences",
        ),
        (
            ["--set", "switcher.kind=random", "--set", "switcher.path=null"],
            "team.yaml is random: name",
        ),
        (["--only", "generalisation", "--replace", "sfft=x"], "NAME one of pretrained"),
        (["--task", "sheep"], "sheep"),
    ):
        code, _, err = invoke("experiment", "--out", tmp_path / "out", *SMALL, *more)
        assert code == 2
        assert said in err


def test_what_was_observed_is_read_where_it_is_of_the_same_candidates(tmp_path: Path) -> None:
    data = {
        "pool": ["a", "b"],
        "effects": [
            {"sequence": [0, 1], "effect": 0.25},
            {"sequence": [1, 1], "effect": None},
        ],
    }
    assert observed(tmp_path, ["a", "b"]) == {}
    write_section(tmp_path, Section("effects", "Effects", "", (), data=data))
    assert observed(tmp_path, ["a", "b"]) == {(0, 1): 0.25}
    assert observed(tmp_path, ["b", "a"]) == {}
