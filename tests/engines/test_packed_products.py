"""Products with packed weights: a row has the same bits in every batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GPT2Config
from transformers.pytorch_utils import Conv1D

from taketurns.engines.local import packed_products
from taketurns.engines.local.engine import LocalEngine
from taketurns.types import ModelSpec, Sampling

pytestmark = pytest.mark.skipif(
    not packed_products.pack(torch.nn.Sequential(torch.nn.Linear(256, 384))),
    reason="no product with packed weights agrees here",
)


def _packed(layer: Any) -> Any:
    model = torch.nn.Sequential(layer)
    assert packed_products.pack(model)
    return model


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_packed_weights_give_the_same_product(kind: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer: Any = torch.nn.Linear(256, 384, bias=bias) if kind == "linear" else Conv1D(384, 256)
    x = torch.randn(2, 5, 256)
    plain = layer(x)
    model = _packed(layer)
    assert torch.equal(model(x), plain)  # not used yet
    with torch.inference_mode(), packed_products.used():
        torch.testing.assert_close(model(x), plain, atol=1e-4, rtol=1e-4)
        assert model(x[:, :0]).shape == (2, 0, 384)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.integers(0, 99), min_size=1, max_size=70),
    shape=st.sampled_from([(256, 384), (32, 16), (576, 192), (48, 259), (1536, 64)]),
)
def test_a_row_has_the_same_bits_in_every_batch(rows: list[int], shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model, inputs = _packed(torch.nn.Linear(*shape)), torch.randn(100, shape[0])
    with torch.inference_mode(), packed_products.used():
        together = model(inputs[rows])
        assert all(torch.equal(together[i], model(inputs[[row]])[0]) for i, row in enumerate(rows))


def test_weights_that_have_changed_are_multiplied_as_they_are() -> None:
    layer = torch.nn.Linear(256, 384)
    model, x = _packed(layer), torch.randn(3, 256)
    with torch.no_grad():
        layer.weight.mul_(2)
    with torch.inference_mode(), packed_products.used():
        assert torch.equal(model(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_what_is_packed_stays_so_until_weights_or_threads_change() -> None:
    layer: Any = torch.nn.Linear(256, 384)
    model = _packed(layer)
    packed, threads = layer.forward, torch.get_num_threads()
    model.append(torch.nn.Linear(384, 64))  # as an adapter's matrices are added to its base
    assert packed_products.pack(model)
    assert layer.forward is packed
    assert packed_products.is_packed(model[1:])
    torch.set_num_threads(threads + 1)
    try:
        assert packed_products.pack(model)
        assert layer.forward is not packed
    finally:
        torch.set_num_threads(threads)
    assert packed_products.pack(model)
    packed = layer.forward
    with torch.no_grad():
        layer.weight.mul_(2)
    assert packed_products.pack(model)
    assert layer.forward is not packed


def test_what_cannot_be_packed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    half = torch.nn.Sequential(torch.nn.Linear(64, 64, dtype=torch.bfloat16))
    assert not packed_products.pack(half)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64))
    with monkeypatch.context() as patch:
        patch.setattr(packed_products, "_memory", lambda: 64 * 64 * 4 * 8 - 1)
        assert not packed_products.pack(model)
    assert packed_products.pack(model)
    assert packed_products.is_packed(model)
    packed_products.unpack(model)
    assert not packed_products.is_packed(model)


async def test_an_exact_engine_multiplies_single_rows_and_says_what_the_model_says(
    make_model: Callable[..., Path],
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "llama": {},
        "gpt": {"config_class": GPT2Config, "n_embd": 128, "n_layer": 2, "n_head": 4},
    }
    for kind, options in kinds.items():
        path = make_model(1, **options)
        model: Any = AutoModelForCausalLM.from_pretrained(path)
        engine = LocalEngine({kind: ModelSpec(str(path))}, deterministic=True)
        async with engine.session(0, 60) as session:
            ids = [5, 6, 7, 8, 9]
            written = (await session.generate(kind, ids, Sampling(20, temperature=0))).token_ids
            runner: Any = engine._threads._threads[kind]._runners[kind]
            assert (runner.exact.rows, runner.forward.packed) == (1, True)
            with torch.inference_mode():
                logits = model(torch.tensor([[*ids, *written]])).logits[0]
            assert written == tuple(logits[len(ids) - 1 : -1].argmax(-1).tolist())
        await engine.close()
