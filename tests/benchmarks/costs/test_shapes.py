from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import Lfm2Config, LlamaConfig, MistralConfig, Olmo3Config

from benchmarks.costs.budget import Budget
from benchmarks.costs.by_shape import shape_rows
from benchmarks.costs.shapes import SHAPES, kind_of
from benchmarks.costs.units import Setting, Unit
from benchmarks.overhead.weights import count_parameters

TINY: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
LLAMA: Callable[[], Any] = lambda: LlamaConfig(**TINY)  # noqa: E731
OLMO3: Callable[[], Any] = lambda: Olmo3Config(  # noqa: E731
    **TINY, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
)
LFM2: Callable[[], Any] = lambda: Lfm2Config(  # noqa: E731
    **TINY, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False
)
ONE, TWO = Unit("shapes", 1, 12, 2, 1), Unit("shapes", 2, 12, 1, 1)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_has_about_the_llamas_size_and_no_end_token(name: str) -> None:
    config = SHAPES[name]()
    assert config.eos_token_id is None
    assert 25e6 < count_parameters(config) < 60e6


def test_kinds_are_read_from_the_layers() -> None:
    kinds = {name: kind_of(make()) for name, make in SHAPES.items()}
    windows = {"OLMo 3", "Gemma 3"}
    assert kinds["Llama"] == "full"
    assert {kinds[name] for name in windows} == {"windows"}
    assert {kinds[name] for name in ("Qwen 3.5", "Qwen3-Next", "LFM2", "Falcon-H1")} == {"hybrid"}
    assert kind_of(MistralConfig(sliding_window=64)) == "windows"
    assert kind_of(MistralConfig(sliding_window=None)) == "full"


def test_shapes_are_measured_beside_the_llama_in_the_same_rounds() -> None:
    units = (ONE, TWO)
    said: list[str] = []
    budget = Budget(600, {unit.name: unit.seconds for unit in units})
    shapes = {"OLMo 3": OLMO3, "Llama": LLAMA}
    rows = list(shape_rows(shapes, units, Setting(clock="wall"), budget, said.append))
    assert [(row.what, row.batch, row.rounds) for row in rows] == [
        ("OLMo 3: team / one", 1, 2),
        ("Llama: team / one", 1, 2),
        ("OLMo 3: team / one", 2, 1),
        ("Llama: team / one", 2, 1),
    ]
    for olmo3, llama in (rows[:2], rows[2:]):
        assert llama.beside is None
        assert llama.at_most is None
        assert olmo3.at_most == 1.1
        assert olmo3.value is not None
        assert llama.value is not None
        assert olmo3.beside is not None
        if olmo3.rounds == 1:
            ratio = olmo3.value.median / llama.value.median
            assert olmo3.beside.median == pytest.approx(ratio)
        assert olmo3.value.low <= olmo3.value.median <= olmo3.value.high
        measured = olmo3.measured
        assert measured["kept_seconds"] > 0
    assert rows[2].value is not None
    assert rows[2].value.median == pytest.approx(
        rows[2].measured["kept_seconds"] / rows[2].measured["single_seconds"]
    )
    assert "shapes: making Llama" in said


def test_what_the_engine_can_only_encode_again_is_left_out_of_batches_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for an engine that keeps no cache of this shape."""
    from taketurns.engines.local.worker import RunningModel

    monkeypatch.setattr(RunningModel, "keeps_cache", property(lambda self: False))
    units = (ONE, TWO)
    budget = Budget(600, {unit.name: unit.seconds for unit in units})
    rows = list(shape_rows({"LFM2": LFM2}, units, Setting(), budget, lambda _: None))
    alone, batch = rows
    assert alone.value is not None
    assert "the engine " in alone.note
    assert alone.beside is None, "there is no Llama beside it"
    assert batch.value is None
    assert batch.note.startswith("left out: the engine ")


def test_shapes_without_time_are_left_out() -> None:
    budget = Budget(0, {ONE.name: 1})
    (row,) = shape_rows({"Llama": LLAMA}, [ONE], Setting(), budget, lambda _: None)
    assert row.value is None
    assert row.note == "left out: no time was left for it"
