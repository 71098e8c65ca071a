"""`taketurns rollout` as a person uses it: resumed after any stop, and honest about failures."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from taketurns.cli import app
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import EngineError
from taketurns.generation.team import Team
from taketurns.pocket.tasks import PocketTask
from taketurns.runs.manifest import path_for
from taketurns.switchers.simple import RandomSwitcher
from taketurns.training.labels.labels import read_labels
from taketurns.types import Query, Score

Invoke = Callable[..., tuple[int, str, str]]
NAMES = ["pretrained", "sft", "aligned"]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run `taketurns rollout` here; its exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["taketurns", "rollout", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            app.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return int(caught.value.code or 0), out, err

    return run


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Makes a team file whose models are scripted; arguments are those of ScriptedEngine."""

    def use(**settings: object) -> None:
        def load(config: object) -> Team:
            scripts = {n: lambda p, s, n=n: n[0] * min(s.max_tokens, 3) for n in NAMES}
            engine = ScriptedEngine(scripts, **settings)  # type: ignore[arg-type]
            return Team(config.candidates, engine, RandomSwitcher(), config.policy)  # type: ignore[attr-defined]

        monkeypatch.setattr(Team, "load", load)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "team.yaml").write_text(TEAM)

    return use


TEAM = "candidates:\n" + "".join(f"  - {{name: {name}, model: org/{name}}}\n" for name in NAMES)
SMALL = (
    *("-t", "team.yaml", "--world", 0, "--prefixes", 6, "--k", 3),
    *("--set", "patch_size=3", "--set", "max_tokens=12"),
)


def test_where_prefixes_are_cut_is_part_of_the_run(
    invoke: Invoke, scripted, tmp_path: Path
) -> None:
    """The same command goes on after a stop, another is another run."""
    scripted()
    path = tmp_path / "r.jsonl"
    rule = ("--set", "policy.patch.until=switcher", "--set", "policy.patch.min=2")
    asked = ("-o", path, "--task", "recall", *SMALL, *rule, "--cuts", "anywhere")
    assert invoke(*asked)[0] == 0
    whole = path.read_bytes()
    assert {record["cuts"] for record in records(path)} == {"anywhere"}
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    assert invoke(*asked)[0] == 0
    assert path.read_bytes() == whole
    code, _, err = invoke(*asked[:-2])
    assert code
    assert "belongs to another run, whose cuts differed" in err


def test_a_record_a_prefix(invoke: Invoke, scripted, tmp_path: Path) -> None:
    scripted()
    path = tmp_path / "r.jsonl"
    code, out, err = invoke("-o", path, "--task", "recall", "--task", "total", *SMALL)
    assert (code, out) == (0, "")
    assert err == (
        f"taketurns: wrote 6 prefixes to {path}; next, train a switcher on them: taketurns train "
        f"--team team.yaml --labels {path} --output switcher\n"
    )
    found = records(path)
    assert [record["id"] for record in found] == [
        f"pocket/{task}/train/{i}#0" for i in range(3) for task in ("recall", "total")
    ]
    assert {record["schema"] for record in found} == {"taketurns.rollouts/1"}
    assert found[0]["candidates"] == NAMES
    assert found[0]["patch_size"] == 3
    assert [branch["speaker"] for branch in found[0]["branches"]] == [0, 1, 2]
    assert [label.task for label in read_labels(path, NAMES)] == ["recall", "total"] * 3
    determined = json.loads(path_for(path).read_text())["determined"]
    assert determined["allocation"] == {"k": 3, "name": "uniform"}
    assert determined["traces"] == "random"


def test_more_prefixes_go_on_where_fewer_stopped(invoke: Invoke, scripted, tmp_path: Path) -> None:
    scripted()
    path, whole = tmp_path / "r.jsonl", tmp_path / "whole.jsonl"
    assert invoke("-o", path, *SMALL)[0] == 0
    before = path.read_bytes()
    assert invoke("-o", path, *SMALL, "--prefixes", 30, "--concurrency", 2)[0] == 0
    assert invoke("-o", whole, *SMALL, "--prefixes", 30)[0] == 0
    assert path.read_bytes() == whole.read_bytes()
    assert whole.read_bytes().startswith(before)


@pytest.mark.parametrize(
    ("changes", "differed"),
    [
        (("--k", 4), "allocation"),
        (("--allocate", "racing"), "allocation"),
        (("--seed", 3), "policy"),
        (("--task", "recall"), "input"),
    ],
)
def test_another_run_does_not_go_on_in_the_same_file(
    invoke: Invoke, scripted, tmp_path: Path, changes: tuple[object, ...], differed: str
) -> None:
    scripted()
    path = tmp_path / "r.jsonl"
    invoke("-o", path, *SMALL)
    code, _, err = invoke("-o", path, *SMALL, *changes)
    assert code == 2
    assert f"belongs to another run, whose {differed} differed" in err


def test_failures_are_counted_and_tried_again(invoke: Invoke, scripted, tmp_path: Path) -> None:
    path, whole = tmp_path / "r.jsonl", tmp_path / "whole.jsonl"
    command = (*SMALL, "--task", "recall", "--concurrency", 1)
    scripted(failures={0: EngineError("the server is gone")})
    code, _, err = invoke("-o", path, *command)
    assert code == 1
    said = "1 of 6 prefixes failed, first: the server is gone; the same command tries them again"
    assert said in err
    failed = [record for record in records(path) if record["error"]]
    assert failed == [{"id": failed[0]["id"], "error": "the server is gone"}]
    assert len(list(read_labels(path, NAMES))) == 5

    scripted()
    assert invoke("-o", path, *command)[0] == 0
    assert invoke("-o", whole, *command)[0] == 0
    assert path.read_bytes() == whole.read_bytes()


def test_single_rollouts_that_fail_are_said(
    invoke: Invoke, scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted()

    def sometimes(self: PocketTask, query: Query, answer: str) -> Score:
        """By the answer, so that it does not matter which rollout ends first."""
        return Score(None, why="no answer") if crc32(answer.encode()) % 7 == 0 else Score(1.0)

    monkeypatch.setattr(PocketTask, "score", sometimes)
    path = tmp_path / "r.jsonl"
    code, _, err = invoke("-o", path, *SMALL)
    assert code == 0, err
    lost = sum(branch["failures"] for record in records(path) for branch in record["branches"])
    assert lost > 0
    assert f"{lost} rollouts failed; their records have the number" in err
    reasons = {b["failure"] for record in records(path) for b in record["branches"]}
    assert reasons == {None, "no answer"}


def test_a_dry_run_writes_nothing(invoke: Invoke, scripted, tmp_path: Path) -> None:
    scripted()
    path = tmp_path / "r.jsonl"
    code, out, _ = invoke("-o", path, *SMALL, "--prefixes", 1000, "--dry-run")
    assert code == 0
    assert out.startswith("1,000 prefixes, about ")
    assert out.endswith("(from 26 prefixes rolled out here)\n")
    assert [found.name for found in tmp_path.iterdir()] == ["team.yaml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "algebra"), "there is no task 'algebra'; the tasks are recall, choice,"),
        (
            ("--traces", "on-policy"),
            "--traces on-policy uses the team's switcher, and this team's switcher is random",
        ),
        (
            ("--traces", "mixed"),
            "--traces mixed uses the team's switcher, and this team's switcher is random",
        ),
        (("-o", "no/such/folder/r.jsonl"), "cannot write no/such/folder/r.jsonl"),
    ],
)
def test_mistakes_are_a_sentence(
    invoke: Invoke, scripted, tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    scripted()
    code, out, err = invoke("-o", tmp_path / "r.jsonl", *SMALL, *arguments)
    assert (code, out) == (2, "")
    assert said in err


# With real models, in processes of their own.


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taketurns", "rollout", *map(str, arguments)]
    return subprocess.Popen(command, text=True)


@pytest.mark.slow  # tests/test_runner.py kills what writes the records
def test_a_killed_run_goes_on_to_the_same_file(invoke: Invoke, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    command = ("--allocate", "racing", "--k", 10, "--set", "max_tokens=48")
    command = (*command, "--task", "total", "--task", "chain", "--prefixes", 8)
    for lines, concurrency in ((1, 3), (4, 9)):
        process = start("-o", killed, *command, "--concurrency", concurrency)
        while not killed.exists() or killed.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, "it finished before it could be killed"
            time.sleep(0.01)
        process.kill()
        process.wait()
        killed.write_bytes(killed.read_bytes()[:-9])
    assert invoke("-o", killed, *command, "--concurrency", 50)[0] == 0
    assert invoke("-o", whole, *command)[0] == 0
    assert killed.read_bytes() == whole.read_bytes()
    labels = list(read_labels(whole, NAMES))
    assert len(labels) == 8
    for label in labels:
        assert all(0 < count <= 10 for count in label.counts)
        assert label.reported_best
