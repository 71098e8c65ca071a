import pytest

from benchmarks.overhead.floor import ForwardWork, Rates
from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.overhead import Overhead, measure
from benchmarks.overhead.report import overhead_table
from benchmarks.overhead.variants import VARIANTS
from benchmarks.overhead.workload import Workload

SETTING = Workload(batch=2, tokens=9, prompt=16, patch=4)


def overhead(**seconds: float) -> Overhead:
    return Overhead(
        models="made up",
        workload=SETTING,
        repeats=1,
        threads=1,
        seconds=seconds,
        peak_bytes=dict.fromkeys(seconds, 2**20),
        rambling=6.0,
        team_work=ForwardWork({1: 4}, {1: 10}),
        switcher_work=ForwardWork({}, {2: 5}),
        rates=Rates({1: 1.0}, {1: 0.4, 2: 0.8}),
    )


def test_ratios_are_of_the_medians() -> None:
    result = overhead(
        single=5.0,
        kept=6.0,
        kept_with_switcher=9.0,
        reencode=10.0,
        public=24.0,
        deterministic=9.0,
    )
    assert result.floor == 8.0
    assert result.floor_with_switcher == 12.0
    assert result.ratios == pytest.approx(
        {
            "kept_over_single": 1.2,
            "kept_with_switcher_over_single": 1.8,
            "kept_over_floor": 0.75,
            "kept_with_switcher_over_floor": 0.75,
            "reencode_over_single": 2.0,
            "public_over_single": 4.8,
            "public_over_kept_with_switcher": 24 / 9,
            "public_brief_over_kept_with_switcher": 2.0,
            "deterministic_over_fast": 1.5,
        }
    )


def test_what_was_not_measured_is_none() -> None:
    ratios = overhead(single=5.0, kept=6.0).ratios
    assert ratios["public_over_kept_with_switcher"] is None
    assert ratios["deterministic_over_fast"] is None
    assert ratios["kept_over_single"] == pytest.approx(1.2)
    assert overhead_table(overhead(single=5.0, kept=6.0)).row_count == 4


@pytest.mark.slow
def test_every_variant_is_measured_as_often(tiny: ModelPool) -> None:
    said: list[str] = []
    result = measure(tiny, SETTING, 2, say=said.append)
    assert {name: said.count(name) for name in VARIANTS} == dict.fromkeys(VARIANTS, 2)
    attention = {tiny.model(name).config._attn_implementation for name in tiny.specs(True)}
    assert attention == {"sdpa"}, "a deterministic run leaves no traces"
    assert said[0] != said[len(VARIANTS) + 1], "the order rotates"
    record = result.to_json()
    assert set(record["seconds"]) == set(VARIANTS)
    assert record["batch"] == 2
    assert record["tokens"] == 9
    assert all(record["seconds"].values())
    assert record["floor_with_switcher_seconds"] > record["floor_seconds"] > 0
