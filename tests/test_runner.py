"""A run that was stopped anyhow and run again equals one that was never stopped."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taketurns.errors import DataError, EngineError
from taketurns.runs.manifest import Manifest
from taketurns.runs.output import JsonlOutput, open_run
from taketurns.runs.runner import Failures, describe_error, map_ordered, run

ITEMS = [str(number) for number in range(20)]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def double(item: str) -> dict:
    await asyncio.sleep(0)
    return {"id": item, "value": 2 * int(item)}


async def finish(path: Path, work=double, items=ITEMS, **settings: int) -> tuple[int, Failures]:
    """How many items were asked, and those that failed."""
    with JsonlOutput(path) as output:
        asked = len(output.missing(items, str))
        return asked, await run(items, work, output, key=str, **settings)


EXPECTED = [{"id": item, "value": 2 * int(item)} for item in ITEMS]


@given(st.lists(st.floats(0, 0.003), max_size=30), st.integers(1, 8))
@settings(deadline=None, max_examples=20)
def test_results_come_in_the_order_of_the_items(delays: list[float], concurrency: int) -> None:
    running, most = 0, 0

    async def work(item: tuple[int, float]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(item[1])
        running -= 1
        return item[0]

    async def everything() -> list[int]:
        return [result async for result in map_ordered(enumerate(delays), work, concurrency)]

    assert asyncio.run(everything()) == list(range(len(delays)))
    assert most <= concurrency


async def test_work_runs_ahead_of_a_slow_item_only_so_far() -> None:
    begun: list[int] = []
    release = asyncio.Event()

    async def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            await release.wait()
        return item

    results = map_ordered(range(1000), work, 4)
    first = asyncio.ensure_future(anext(results))
    await asyncio.sleep(0.05)
    assert len(begun) <= 16
    release.set()
    assert await first == 0
    await results.aclose()


async def test_stopping_cancels_what_is_under_way() -> None:
    cancelled: list[int] = []

    async def work(item: int) -> int:
        try:
            await asyncio.sleep(60 if item else 0)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    async for _ in (results := map_ordered(range(3), work, 3)):
        break
    await results.aclose()
    assert cancelled == [1, 2]


async def test_a_failed_record_does_not_stop_the_others(tmp_path: Path) -> None:
    async def work(item: str) -> dict:
        if item == "3":
            raise EngineError("the model\nfell over")
        if item == "5":
            raise RuntimeError("a bug")
        return await double(item)

    path = tmp_path / "out.jsonl"
    assert await finish(path, work) == (20, Failures(2, "the model fell over"))
    assert [record["id"] for record in lines(path)] == ITEMS
    assert lines(path)[3] == {"id": "3", "error": "the model fell over"}
    assert lines(path)[5] == {"id": "5", "error": "RuntimeError: a bug"}

    assert await finish(path) == (2, Failures())
    assert lines(path) == EXPECTED


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
async def test_a_record_that_cannot_be_written_does_not_stop_the_others(
    tmp_path: Path, value: object
) -> None:
    async def work(item: str) -> dict:
        return {"id": item, "value": value} if item == "3" else await double(item)

    path = tmp_path / "out.jsonl"
    asked, failures = await finish(path, work)
    assert (asked, failures.count) == (20, 1)
    assert [record["id"] for record in lines(path)] == ITEMS
    assert lines(path)[3]["error"] == failures.first
    assert await finish(path) == (1, Failures())
    assert lines(path) == EXPECTED


async def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    await finish(path)
    before = path.stat()
    assert await finish(path) == (0, Failures())
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@given(st.integers(0, 600), st.sets(st.integers(0, 19)))
@settings(deadline=None, max_examples=50)
def test_any_torn_file_is_taken_up(tmp_path_factory, torn_at: int, failed: set[int]) -> None:
    path = tmp_path_factory.mktemp("torn") / "out.jsonl"
    whole = [
        {"id": item, "error": "gone"} if int(item) in failed else record
        for item, record in zip(ITEMS, EXPECTED, strict=True)
    ]
    path.write_bytes("".join(json.dumps(record) + "\n" for record in whole).encode()[:torn_at])
    asyncio.run(finish(path))
    assert lines(path) == EXPECTED


async def test_a_larger_limit_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    await finish(path, items=ITEMS[:5])
    assert await finish(path) == (15, Failures())
    assert lines(path) == EXPECTED


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    with pytest.raises(DataError, match=r"notes.txt:1: not a record"):
        JsonlOutput(path)
    assert path.read_text() == "dear diary\n"
    with pytest.raises(DataError, match="cannot write"):
        JsonlOutput(tmp_path / "no" / "such" / "folder")


KILLED = """
import asyncio, sys
from pathlib import Path
from taketurns.runs.output import JsonlOutput
from taketurns.runs.runner import run

async def work(item):
    await asyncio.sleep(0.01 * (int(item) % 3))
    return {"id": item, "value": 2 * int(item), "filler": "x" * 5000}

async def main():
    with JsonlOutput(Path(sys.argv[1])) as output:
        await run([str(n) for n in range(200)], work, output, key=str, concurrency=2)

asyncio.run(main())
"""


def test_kill_and_run_again_equals_an_uninterrupted_run(tmp_path: Path) -> None:
    def start(path: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", KILLED, str(path)])

    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert start(whole).wait(60) == 0
    for size in (50_000, 400_000):
        process = start(killed)
        while not killed.exists() or killed.stat().st_size < size:
            assert process.poll() is None, "it finished before it could be killed"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert killed.stat().st_size < whole.stat().st_size
    assert start(killed).wait(60) == 0
    assert killed.read_bytes() == whole.read_bytes()


CLAIMING = KILLED.replace(
    "with JsonlOutput(Path(sys.argv[1])) as output:",
    "with open_run(Path(sys.argv[1]), Manifest('test', {}, {}, 'now')) as output:",
).replace(
    "from taketurns.runs.output import JsonlOutput",
    "from taketurns.runs.manifest import Manifest; from taketurns.runs.output import open_run",
)


def test_of_several_runs_on_one_output_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", CLAIMING, str(path)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [run.communicate(timeout=60)[1] for run in runs]
    assert 0 in [run.returncode for run in runs]
    refused = [text for run, text in zip(runs, said, strict=True) if run.returncode]
    assert all("is being written by another process" in text for text in refused)
    assert [line["id"] for line in lines(path)] == [str(number) for number in range(200)]


def test_a_run_that_stops_before_its_first_record_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    manifest = Manifest("test", {}, {}, "now")
    with pytest.raises(KeyboardInterrupt), open_run(path, manifest):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())

    def write_one() -> None:
        with open_run(path, manifest) as output:
            output.write({"id": "0"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_one()
    assert {file.name for file in tmp_path.iterdir()} == {"out.jsonl", "out.jsonl.manifest.json"}


def test_an_exception_is_one_line() -> None:
    assert describe_error(EngineError("out of\n memory")) == "out of memory"
    assert describe_error(KeyError("x")) == "KeyError: 'x'"
