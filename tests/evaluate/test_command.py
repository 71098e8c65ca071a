"""`taketurns evaluate` on the bundled team: whole, resumable, extendable, and clear about
mistakes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import taketurns
from taketurns.cli.app import app, main
from taketurns.config.loading import load_team_config
from taketurns.errors import UsageError
from taketurns.evaluation import report
from taketurns.evaluation.run import Evaluation, EvaluationJob
from taketurns.evaluation.session import EvaluationRequest, conduct
from taketurns.evaluation.store import Store
from taketurns.pocket.tasks import PocketTask
from taketurns.runs.runner import Failures
from taketurns.tasks.base import Split
from taketurns.types import Query

BASE = [
    "--tasks", "recall,arithmetic", "--limit", "3", "--seeds", "2", "--dev-limit", "3",
    "--set", "policy.max_tokens=24",
]  # fmt: skip
METHODS = "pretrained,sft,aligned,trained-router,fuse-probs,dare-ties,vote,oracle,random,switch"


def command(out: Path, *more: str) -> list[str]:
    return ["taketurns", "evaluate", "--out", str(out), *BASE, *more]


def evaluate(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """In this process: to import all that it needs takes another one longer than to evaluate."""
    said, told, asked = io.StringIO(), io.StringIO(), command(out, *more)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(told):
        patch.setattr(sys, "argv", asked)
        with pytest.raises(SystemExit) as ended:
            main()
    code = int(ended.value.code or 0)
    return subprocess.CompletedProcess(asked, code, said.getvalue(), told.getvalue())


def answers(out: Path) -> dict[str, list[dict[str, Any]]]:
    """By method, without what a clock says."""

    def timeless(record: dict[str, Any]) -> dict[str, Any]:
        patches = [{k: v for k, v in p.items() if k != "timing"} for p in record["patches"]]
        return {k: v for k, v in record.items() if k != "seconds"} | {"patches": patches}

    return {
        path.stem.partition("@")[0]: [
            timeless(json.loads(line)) for line in path.read_text().splitlines()
        ]
        for path in sorted((out / "answers").glob("*.jsonl"))
    }


def results(out: Path) -> dict[str, Any]:
    """Without what follows from seconds."""
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    for part in ("frontier", "worth"):
        found[part].pop("seconds")
    for method in found["methods"].values():
        method["cost"].pop("seconds")
    found["settings"].pop("commit")  # which a developer may change meanwhile
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("evaluation") / "out"
    ended = evaluate(out, "--methods", METHODS)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""
    yield out
    shutil.rmtree(out)


def test_two_that_end_together_write_one_after_the_other(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: results.json was one process's, and the report beside it another's."""
    out = tmp_path / "out"
    shutil.copytree(done, out)
    write_report, mixed = report.write_report, []

    def slow(found: dict[str, Any], folder: Path) -> None:
        write_report(found, folder)
        time.sleep(0.3)
        if list(results(folder)["methods"]) != list(found["methods"]):
            mixed.append(folder)

    def end(methods: str) -> Failures:
        config = load_team_config("pocket", {"policy.max_tokens": 24})
        tasks = ("recall", "arithmetic")
        request = EvaluationRequest(tasks, tuple(methods.split(",")), (), 2, 3, 3, None, 8)
        return asyncio.run(conduct(config, request, out, lambda sentence: None))

    monkeypatch.setattr(report, "write_report", slow)
    with ThreadPoolExecutor(2) as pool:
        assert not any(pool.map(end, [METHODS, "pretrained,sft,aligned,switch"]))
    assert not mixed
    assert not list(out.rglob(".*"))


def test_every_method_answers_every_question_under_every_seed(done: Path) -> None:
    found = results(done)
    assert list(found["methods"]) == METHODS.split(",")
    assert found["subject"] == "switch"
    for name, method in found["methods"].items():
        assert method["missing"] == 0, name
        assert method["tasks"]["recall"]["n"] == 3
        assert method["cost"]["written"] > 0
    kept = answers(done)
    assert all(len(records) == 2 * 3 * 2 for records in kept.values())
    assert set(kept) == set(METHODS.split(",")) - {"oracle"}


def test_the_oracle_is_the_best_checkpoint_of_each_question(done: Path) -> None:
    kept = answers(done)
    alone = [
        [record["score"] for record in kept[name]] for name in ("pretrained", "sft", "aligned")
    ]
    best = [max(scores) for scores in zip(*alone, strict=True)]
    oracle = results(done)["methods"]["oracle"]
    assert oracle["hindsight"]
    assert oracle["average"]["mean"] == pytest.approx(sum(best) / len(best))


def test_checkpoints_answer_alike_wherever_they_are_asked_alone(done: Path) -> None:
    """A router's answer is the chosen checkpoint's own under the same seed, so that methods are
    compared on the same draws."""
    kept = answers(done)
    for routed in kept["trained-router"]:
        speakers = {patch["name"] for patch in routed["patches"]}
        (chosen,) = speakers
        own = next(one for one in kept[chosen] if one["id"] == routed["id"])
        assert routed["text"] == own["text"]
        assert routed["read"] > own["read"]


def test_comparisons_are_whole(done: Path) -> None:
    found = results(done)
    others = [name for name in found["methods"] if name != "switch"]
    assert list(found["comparisons"]) == others
    for name in others:
        one = found["comparisons"][name]
        assert one["low"] <= one["difference"] <= one["high"]
        assert ("p_holm" in one) == (name not in ("oracle",))
        assert set(one["tasks"]) == {"recall", "arithmetic"}
    assert {"each", "mean", "best", "best by task"} == set(found["gains"]["singles"])
    assert "oracle" not in found["frontier"]["tokens"]


@pytest.mark.slow
def test_killed_anywhere_and_begun_again_it_comes_to_the_same(done: Path, tmp_path: Path) -> None:
    """kill -9 at several moments, the last time with two processes at work."""
    out = tmp_path / "out"
    for wait, more in ((0, ()), (6, ()), (25, ("--workers", "2"))):
        process = subprocess.Popen(
            [sys.executable, "-m", *command(out, "--methods", METHODS, *more)],
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while len(list(out.glob("answers/*.jsonl"))) * 4 < wait and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (out / "results.json").exists()
    ended = evaluate(out, "--methods", METHODS)
    assert ended.returncode == 0, ended.stderr
    assert answers(out) == answers(done)
    assert results(out) == results(done)


def test_more_seeds_questions_and_methods_go_into_the_same_folder(
    done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    few = ("--methods", "sft", "--seeds", "1", "--limit", "2")
    first = evaluate(out, *few)
    assert first.returncode == 0, first.stderr
    assert len(answers(out)["sft"]) == 4
    ended = evaluate(out, "--methods", "sft,random", "--workers", "2")
    assert ended.returncode == 0, ended.stderr
    assert answers(out) == {name: answers(done)[name] for name in ("random", "sft")}


MISTAKES = {
    "--methods sft,telepathy": "there is no method 'telepathy'; the methods are pretrained, sft",
    "--methods sft --tasks recall,cooking": "there is no task 'cooking'; the tasks are recall",
    "--methods sft,oracle": "add pretrained, aligned to --methods",
    "--methods sft --subject oracle": "the subject 'oracle' is not one of the methods sft",
    "--methods best-of-n": "method with --methods that does not use the scores themselves",
    "--methods ,": "nothing to compare: name a method",
    "--methods mine --switcher mine=nowhere": "nowhere: train it with",
    "--methods sft --switcher mine": "--switcher takes NAME=DIR",
    "--methods sft --switcher sft={folder}/head": "two methods are called 'sft'",
    "--methods sft --out {folder}/head": "holds other files already",
    "--methods soup --team {folder}/shapes": "pretrained and aligned cannot be merged: ",
    "--methods fuse-probs --team {folder}/shapes": "of pretrained, sft, aligned differ, so",
    "--methods sft --team {folder}/broken/team.yaml": "cannot load the model ",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_model: Any) -> Path:
    """With a folder that is no evaluation and a team whose members do not fit each other."""
    home = tmp_path_factory.mktemp("mistakes")
    (home / "head").mkdir()
    (home / "head" / "head.json").write_text("{}")
    (home / "shapes").mkdir()
    weights = Path(taketurns.__file__).parent / "pocket" / "weights"
    (home / "shapes" / "team.yaml").write_text(
        "candidates:\n"
        f"  - {{name: pretrained, model: {weights}/pretrained, prompt: '{{text}}'}}\n"
        f"  - {{name: sft, model: {weights}/sft}}\n"
        f"  - {{name: aligned, model: {make_model(0)}, prompt: '{{text}}'}}\n"
    )
    (home / "broken").mkdir()
    shutil.copytree(weights / "sft", home / "broken" / "sft")
    (home / "broken" / "sft" / "model.safetensors").write_bytes(b"not these")
    (home / "broken" / "team.yaml").write_text(
        f"candidates: [{{name: sft, model: ./sft}}, {{name: aligned, model: {weights}/aligned}}]\n"
    )
    return home


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence_before_anything_runs(
    mistake: str, folder: Path, tmp_path: Path
) -> None:
    more = mistake.format(folder=folder).split()
    ended = CliRunner().invoke(app, ["evaluate", "--out", str(tmp_path / "out"), *BASE, *more])
    assert isinstance(ended.exception, UsageError), ended.exception
    assert MISTAKES[mistake] in str(ended.exception)
    assert not any(path.stat().st_size for path in (tmp_path / "out").glob("answers/*.jsonl"))


def test_what_is_not_installed_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taketurns.utils.extras.find_spec", lambda name: name != "scipy" or None)
    ended = CliRunner().invoke(app, ["evaluate", "--out", str(tmp_path / "out"), *BASE])
    assert "needs scipy: pip install 'taketurns[eval]'" in str(ended.exception)
    assert not (tmp_path / "out").exists()


async def test_a_method_that_chooses_needs_dev_questions(tmp_path: Path) -> None:
    """Said before anything runs when it is named, and left out aloud when it is not."""

    class NoDev(PocketTask):
        def queries(self, split: Split) -> tuple[Query, ...]:
            return () if split == "dev" else super().queries(split)

    config = load_team_config("pocket", {"max_tokens": 8})
    task: Any = NoDev("recall", "knowledge")
    said: list[str] = []
    for names in (["sft", "cascade"], None):
        plan = EvaluationJob({"recall": task}, names, 1, 1, 5, 8)
        store = Store(tmp_path / str(names), config)
        async with Evaluation(config, plan, store, {}, said.append) as evaluation:
            if names:
                with pytest.raises(UsageError, match="'recall' has no dev questions"):
                    await evaluation.check()
            else:
                await evaluation.check()
                left = [entry.name for entry in evaluation.entries]
    assert {"sft", "refine", "fuse-probs", "switch"} < set(left)
    assert {"cascade", "soup", "fixed", "vote"}.isdisjoint(left)
    assert any(sentence.startswith("cascade is left out: ") for sentence in said)


def test_results_say_what_they_were_made_with(done: Path) -> None:
    settings = results(done)["settings"]
    assert [one["name"] for one in settings["team"]["candidates"]] == list(settings["fingerprints"])
    assert settings["team"]["policy"]["max_tokens"] == 24
    counts = {"test": 3, "dev": 3}
    assert settings["tasks"] == {"recall": counts, "arithmetic": counts}
    assert (settings["seeds"], settings["clock"], settings["workers"]) == (2, "wall", 1)
    foot = (done / "report.html").read_text().partition("<h2>Settings</h2>")[2]
    for words in (
        "max_tokens 24", "temperature 0.7", "patch_size 16", "team.yaml", "kind head",
        "recall, arithmetic: 3 test and 3 dev questions; 2 seeds.", "the wall clock, up to 96",
        f"taketurns {taketurns.__version__}", settings["fingerprints"]["sft"][:12],
    ):  # fmt: skip
        assert words in foot, words


def test_seconds_by_two_clocks_are_not_mixed(done: Path) -> None:
    ended = evaluate(done, "--methods", "sft", "--clock", "cpu")
    assert ended.returncode == 2
    said = "has seconds measured with the wall clock: continue with --clock wall, or choose"
    assert said in ended.stderr


def test_results_of_another_team_are_left_alone(done: Path) -> None:
    before = (done / "results.json").read_text()
    ended = evaluate(done, "--methods", "sft", "--set", "policy.temperature=0.9")
    assert ended.returncode == 2
    assert "belongs to another run, whose policy differed" in ended.stderr
    assert (done / "results.json").read_text() == before
