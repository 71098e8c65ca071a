from __future__ import annotations

from subprocess import TimeoutExpired

import pytest

from benchmarks.costs import memory
from benchmarks.costs.budget import Budget
from benchmarks.costs.memory import memory_rows
from benchmarks.costs.units import Setting, Unit
from benchmarks.processes import PROC

UNITS = (Unit("memory", 1, 24, 1, 1), Unit("memory", 8, 24, 1, 1))
needs_proc = pytest.mark.skipif(not PROC.exists(), reason="needs Linux' /proc")


def budget() -> Budget:
    return Budget(600, {unit.name: unit.seconds for unit in UNITS})


@pytest.mark.slow
@needs_proc
def test_a_process_of_its_own_says_what_it_took() -> None:
    peak = memory._peak("kept", "tiny", UNITS[0], 600)
    assert 100_000 < peak < 2**30


@needs_proc
def test_a_process_that_exceeds_the_limit_is_stopped() -> None:
    with pytest.raises(TimeoutExpired):
        memory._peak("kept", "tiny", UNITS[0], 0)


@needs_proc
def test_the_team_is_divided_by_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"single": 100 * 2**20, "kept": 250 * 2**20, "kept_with_switcher": 450 * 2**20}
    monkeypatch.setattr(memory, "_peak", lambda variant, *_: peaks[variant])
    team, switcher, *_ = memory_rows(UNITS, Setting(), budget(), lambda _: None)
    assert team.value is not None
    assert switcher.value is not None
    assert (team.value.median, team.reached) == (2.5, True)
    assert (switcher.value.median, switcher.reached) == (4.5, False)
    assert team.note == "250 MiB over 100 MiB"
    assert switcher.measured == {
        "kept_with_switcher_bytes": peaks["kept_with_switcher"],
        "single_bytes": peaks["single"],
    }


@needs_proc
def test_a_unit_that_is_stopped_leaves_the_others_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(variant: str, size: str, unit: Unit, seconds: float) -> int:
        if unit.batch == 8 and variant == "kept":
            raise TimeoutExpired("peak", seconds)
        return 2**20

    monkeypatch.setattr(memory, "_peak", peak)
    rows = list(memory_rows(UNITS, Setting(), budget(), lambda _: None))
    assert [row.value is None for row in rows] == [False, False, True, True]
    assert rows[-1].note == "left out: no time was left for it"


def test_without_proc_the_rows_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROC", PROC / "none")
    rows = list(memory_rows(UNITS, Setting(), budget(), lambda _: None))
    assert len(rows) == 4
    assert {row.note for row in rows} == {"left out: the resident set is read from Linux' /proc"}
