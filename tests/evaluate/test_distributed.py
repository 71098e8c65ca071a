"""On Ray an evaluation comes to the same answers and results, and keeps whole shards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taketurns.config.loading import load_team_config
from taketurns.errors import UsageError
from taketurns.evaluation.distributed import EvaluationWorker
from taketurns.evaluation.run import Evaluation, EvaluationJob
from taketurns.evaluation.store import Store
from taketurns.evaluation.tasks import load

METHODS = "pretrained,sft,aligned,soup,oracle,switch"


def evaluate(out: Path, *more: str, code: int = 0) -> str:
    command = [
        sys.executable, "-m", "taketurns", "evaluate", "--out", str(out), "--methods", METHODS,
        "--tasks", "recall,arithmetic", "--limit", "3", "--seeds", "1", "--dev-limit", "2",
        "--set", "policy.max_tokens=24", *more,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    patches = [{k: v for k, v in patch.items() if k != "timing"} for patch in record["patches"]]
    return {k: v for k, v in record.items() if k != "seconds"} | {"patches": patches}


def answers(out: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.stem.partition("@")[0]: [
            timeless(json.loads(line)) for line in path.read_text().splitlines()
        ]
        for path in sorted((out / "answers").glob("*.jsonl"))
    }


def scores(out: Path) -> dict[str, Any]:
    methods = json.loads((out / "results.json").read_text())["methods"]
    return {name: method["tasks"] for name, method in methods.items()}


async def test_an_actor_answers_as_a_run_here_does_with_one_method_after_the_other(
    tmp_path: Path,
) -> None:
    config = load_team_config("pocket", {"policy.max_tokens": 16})
    plan = EvaluationJob(load(("recall",)), ("pretrained", "dare-ties"), 1, 2, 2, 4, helping=True)
    store = Store(tmp_path / "out", config)
    items = plan.items()
    async with Evaluation(config, plan, store, {}, print) as whole:
        assert not await whole.run()
    async with Evaluation(config, plan, store, {}, print) as asked:
        worker = EvaluationWorker(asked, items, 4)
        found = [
            timeless(await worker.work({"id": item.id, "method": name}))
            for name in ("dare-ties", "pretrained", "dare-ties")
            for item in items
        ]
        with pytest.raises(UsageError, match="this node has no question for the answer recall/x"):
            await worker.work({"id": "recall/x", "method": "pretrained"})
    here = answers(tmp_path / "out")
    merged = here["dare-ties"]
    assert found == [*merged, *here["pretrained"], *merged]


def test_workers_are_not_for_ray(tmp_path: Path) -> None:
    said = evaluate(tmp_path / "out", "--runner", "ray", "--workers", "2", code=2)
    assert "with --runner ray, use --actors" in said


@pytest.mark.slow
def test_ray_comes_to_the_same_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    here, there = tmp_path / "here", tmp_path / "there"
    ray = ("--runner", "ray", "--actors", "2", "--shard", "4")
    evaluate(here)
    evaluate(there, *ray)
    assert answers(there) == answers(here)
    assert scores(there) == scores(here)
    # The answers are lost, and one shard with them; the others are taken as they are.
    (there / "answers" / "switch.jsonl").unlink()
    next((there / "answers").glob("soup@*.jsonl")).unlink()
    shards = {path: path.stat().st_mtime_ns for path in (there / "shards").rglob("*.parquet")}
    assert len(shards) == 5 * 2
    lost = next(path for path in shards if path.parent.name == "soup")
    lost.unlink()
    evaluate(there, *ray)
    assert answers(there) == answers(here)
    again = {path: path.stat().st_mtime_ns for path in (there / "shards").rglob("*.parquet")}
    assert again.keys() == shards.keys()
    assert {path for path in shards if again[path] != shards[path]} == {lost}
    # What Ray answered is there for the local runner.
    evaluate(there)
    assert answers(there) == answers(here)
