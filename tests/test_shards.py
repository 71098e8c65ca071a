"""Ray makes the records that the local runner makes, a shard at a time, and goes on where it was
stopped. On a local Ray of two cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taketurns.errors import DataError, UsageError
from taketurns.runs.shards import INDEX, RaySettings, _write, read_shards, split

QUESTIONS = ["what is 17 + 25 ?", "what does rebol fonul work as?", "how old is rebol fonul?"]


def run(*arguments: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "taketurns", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, env={**os.environ, "RAY_DEDUP": "0"}
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    for patch in record.get("patches", ()):
        patch.pop("timing")
    return record


def local(path: Path) -> list[dict[str, Any]]:
    return [untimed(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def test_items_are_split_in_order() -> None:
    items = [{"id": str(i)} for i in range(7)]
    shards = split(items, 3)
    assert list(shards) == ["00000", "00001", "00002"]
    assert [item for shard in shards.values() for item in shard] == items


@pytest.mark.parametrize("wrong", [{"actors": 0}, {"shard": 0}, {"gpus": -1}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        RaySettings(**wrong)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder of shards"):
        list(read_shards(tmp_path))


def test_a_shard_that_the_index_names_twice_is_read_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(tmp_path / f"{name}.parquet", [{"id": name}])
    lines = [json.dumps({"id": name, "file": f"{name}.parquet"}) for name in ("a", "b", "a")]
    (tmp_path / INDEX).write_text("\n".join(lines))
    assert list(read_shards(tmp_path)) == [{"id": "a"}, {"id": "b"}]
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "b.parquet", INDEX}


def test_shards_need_a_folder(tmp_path: Path) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"id": "a", "text": "what is 1 + 1 ?"}', encoding="utf-8")
    said = run("generate", "-t", "pocket", "-i", asked, "-o", "-", "--runner", "ray", code=2)
    assert said == "taketurns: --runner ray writes a folder, not -: set --output to a folder\n"


@pytest.mark.slow
def test_ray_answers_as_the_local_runner_does_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    asked, folder = tmp_path / "asked.jsonl", tmp_path / "shards"
    lines = [json.dumps({"id": f"{i}", "text": QUESTIONS[i % 3]}) for i in range(7)]
    asked.write_text("\n".join(lines), encoding="utf-8")
    common = ("generate", "--team", "pocket", "-i", asked)
    run(*common, "-o", tmp_path / "here.jsonl")
    run(*common, "-o", folder, "--runner", "ray", "--shard", 2, "--actors", 2)
    here = local(tmp_path / "here.jsonl")
    assert [untimed(record) for record in read_shards(folder)] == here
    # One shard is lost with its line in the index; the others are left as they are.
    index = (folder / INDEX).read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / INDEX).write_text("".join([index[0], *index[2:]]), encoding="utf-8")
    (folder / "00001.parquet").unlink()
    before = (folder / "00000.parquet").stat().st_mtime_ns
    run(*common, "-o", folder, "--runner", "ray", "--shard", 2)
    assert [untimed(record) for record in read_shards(folder)] == here
    assert (folder / "00000.parquet").stat().st_mtime_ns == before
    said = run(*common, "-o", folder, "--runner", "ray", "--shard", 3, code=2)
    assert "belongs to another run, whose shard differed" in said


@pytest.mark.slow
def test_ray_rolls_out_as_the_local_runner_does(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    common = ("rollout", "--team", "pocket", "--prefixes", 6, "--k", 2)
    run(*common, "-o", tmp_path / "here.jsonl")
    run(*common, "-o", tmp_path / "shards", "--runner", "ray", "--shard", 3)
    assert list(read_shards(tmp_path / "shards")) == local(tmp_path / "here.jsonl")
