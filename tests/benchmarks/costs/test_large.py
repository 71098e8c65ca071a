from __future__ import annotations

import pytest

from benchmarks.costs.budget import Budget
from benchmarks.costs.large import RATIOS, large_rows
from benchmarks.costs.units import Setting, Unit

UNIT = Unit("large", 2, 12, 2, 1)


def test_every_ratio_is_of_the_same_rounds() -> None:
    budget = Budget(600, {UNIT.name: 1})
    rows = list(large_rows([UNIT], Setting("tiny", "wall"), budget, lambda _: None))
    assert [row.what for row in rows] == list(RATIOS)
    for row in rows:
        above, below, _ = RATIOS[row.what]
        assert set(row.measured) == {f"{above}_seconds", f"{below}_seconds"}
        assert row.rounds == 2
        assert row.value is not None
        assert 0 < row.value.low <= row.value.median <= row.value.high
    team, floor = rows[0], rows[2]
    assert team.measured["kept_seconds"] == floor.measured["kept_seconds"]
    assert rows[3].measured["floor_with_switcher_seconds"] > floor.measured["floor_seconds"]


def test_without_time_there_is_a_reason_and_no_value() -> None:
    rows = list(large_rows([UNIT], Setting("tiny"), Budget(0, {UNIT.name: 1}), lambda _: None))
    assert len(rows) == len(RATIOS)
    assert {row.note for row in rows} == {"left out: no time was left for it"}


def test_the_clock_is_that_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: set[str] = set()
    from benchmarks.costs import large
    from benchmarks.overhead.variants import VARIANTS, VariantRun

    def timed(pool: object, workload: object) -> VariantRun:
        clocks.add(workload.clock)  # type: ignore[attr-defined]
        return VariantRun(1.0, None)

    monkeypatch.setattr(large, "VARIANTS", dict.fromkeys(VARIANTS, timed))
    monkeypatch.setattr(large, "_floors", lambda *_: {"floor": 0.5, "floor_with_switcher": 1.0})
    budget = Budget(600, {UNIT.name: 1})
    rows = list(large_rows([UNIT], Setting("tiny", "cpu"), budget, lambda _: None))
    assert clocks == {"cpu"}
    assert [row.value.median for row in rows if row.value] == [1.0, 1.0, 2.0, 1.0, 1.0]
