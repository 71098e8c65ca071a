"""The small parts: time that is shared, fronts, break-even, locks, and reading results."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from taketurns.evaluation.cost_quality import break_even, frontier
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.utils.locks import lock_async


def test_seconds_add_up_to_the_time_that_passed() -> None:
    now = 0.0
    watch = Stopwatch(lambda: now)
    with watch.share() as first:
        now = 2.0
        with watch.share() as second:
            now = 8.0
            assert (first(), second()) == (5.0, 3.0)
        now = 9.0
        assert first() == 6.0
    now = 20.0  # nobody is under way
    with watch.share() as third:
        now = 21.0
        assert third() == 1.0


def test_the_frontier_leaves_out_what_another_beats() -> None:
    points = {
        "cheap": (1.0, 0.3),
        "worse": (1.0, 0.2),
        "middle": (2.0, 0.5),
        "dear": (3.0, 0.5),
        "best": (4.0, 0.9),
        "twin": (4.0, 0.9),
    }
    assert frontier(points) == ["cheap", "middle", "best", "twin"]


def test_a_team_that_costs_twice_must_be_right_twice_as_often() -> None:
    even = break_even((2.0, 0.6), (1.0, 0.3))
    assert (even.cost, even.needed, even.gain, even.pays) == (2.0, 1.0, 1.0, True)
    assert even.each == pytest.approx(1 / 0.3)  # 0.3 more right answers for one more answer's cost
    assert not break_even((2.0, 0.5), (1.0, 0.3)).pays
    assert break_even((2.0, 0.3), (1.0, 0.3)).each is None
    assert break_even((2.0, 0.3), (1.0, 0.0)).pays
    assert break_even((0.5, 0.2), (1.0, 0.2)).pays
    assert not break_even((4.1, 0.0), (1.0, 0.0)).pays  # neither is ever right


async def test_a_file_is_held_until_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from taketurns.utils.locks import lock_async\n"
        "async def hold():\n"
        "    async with lock_async(Path(sys.argv[1]), wait=False) as mine:\n"
        "        print(mine, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(hold())"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert (await asyncio.to_thread(other.stdout.readline)).strip() == "True"
    async with lock_async(path, wait=False) as mine:
        assert not mine

    async def later() -> bool:
        async with lock_async(path, wait=True) as mine:
            return mine

    waiting = asyncio.create_task(later())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    other.kill()
    assert await asyncio.wait_for(waiting, 10)
    other.wait()
    other.stdout.close()
