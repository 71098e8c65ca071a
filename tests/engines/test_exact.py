"""Exact rounds: which products agree is measured on the model's own weights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from taketurns.engines.local import batch_invariant
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.model_threads import ModelThreads
from taketurns.errors import ConfigError
from taketurns.types import Completion, ModelSpec, Sampling


class _Uneven(torch.nn.Linear):
    """The last bits depend on how many rows are multiplied, up to `limit` of them."""

    limit = 1 << 30

    def forward(self, inputs: Any) -> Any:
        rows = inputs.reshape(-1, inputs.shape[-1]).shape[0]
        return super().forward(inputs) * (1 + min(rows, self.limit) * 1e-3)


def _spoil(model: Any, limit: int) -> Any:
    layer = model.model.layers[0].mlp.down_proj
    layer.__class__ = type("Uneven", (_Uneven,), {"limit": limit})
    return model


@pytest.fixture(autouse=True)
def _measured_anew(agreements: dict[Any, Any]) -> None:
    agreements.clear()


@pytest.fixture
def model(make_model: Callable[..., Path]) -> Any:
    return AutoModelForCausalLM.from_pretrained(make_model(0)).eval()


def test_shapes_hold_for_the_models_own_products(model: Any) -> None:
    shapes = batch_invariant.measure(model, 64)
    assert shapes is not None
    layer = model.model.layers[0].mlp.down_proj
    tokens = torch.randn(shapes.most, layer.in_features)
    alone = torch.cat([layer(part) for part in tokens.split(shapes.rows)])
    for rows in range(shapes.rows, shapes.most + 1, shapes.rows):
        assert torch.equal(layer(tokens[:rows]), alone[:rows])


def test_a_layer_is_measured_once_until_it_changes(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: every adapter that was loaded on a base measured all of the base again."""
    shapes = batch_invariant.measure(model, 64)
    measured = list[Any]()
    agrees = batch_invariant._Product._agrees

    def noted(product: Any, *asked: Any) -> int:
        measured.append(product.layer)
        return agrees(product, *asked)

    monkeypatch.setattr(batch_invariant._Product, "_agrees", noted)
    assert batch_invariant.measure(model, 64) == shapes
    assert measured == []
    layer = model.model.layers[0].mlp.down_proj
    with torch.no_grad():
        layer.weight.mul_(2)
    assert batch_invariant.measure(model, 64) == shapes
    assert set(measured) == {layer}


def test_more_rows_are_taken_where_few_do_not_agree(model: Any) -> None:
    """Fault: on some processors products of sixteen rows and more agree, and none of fewer; four
    rows were taken everywhere, so answers depended on their batch."""
    shapes = batch_invariant.measure(_spoil(model, limit=16), 64)
    assert shapes is not None
    assert shapes.rows == 16


async def test_a_model_whose_products_cannot_be_measured_is_not_called_exact(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_invariant, "measure", lambda model, lanes: None)
    spec = ModelSpec(str(make_model(0)))
    engine = LocalEngine({"m": spec})
    await engine.load("m")
    assert not engine.running("m").exact
    await engine.close()
    strict = LocalEngine({"m": spec}, deterministic=True)
    with pytest.raises(
        ConfigError,
        match=r"m cannot be run with engine.deterministic: true, because it has no layer",
    ):
        await strict.load("m")
    await strict.close()


def test_where_no_two_sizes_agree_every_forward_has_one_size(model: Any) -> None:
    shapes = batch_invariant.measure(_spoil(model, limit=1 << 30), 64)
    assert shapes is not None
    assert shapes.rows == shapes.most
    assert not shapes.together


async def test_products_are_measured_again_when_the_number_of_threads_changes(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first model is loaded for one thread, the second is large and brings two."""
    threads: dict[int, int] = {}

    def measure(model: Any, lanes: int) -> batch_invariant.Shapes:
        threads[model.config.num_hidden_layers] = torch.get_num_threads()
        return batch_invariant.Shapes(4, 64, True)

    monkeypatch.setattr(batch_invariant, "measure", measure)
    monkeypatch.setattr("taketurns.engines.local.worker.SMALL_MODEL", 200_000)
    small = ModelSpec(str(make_model(0, num_hidden_layers=1)))
    large = ModelSpec(str(make_model(1, num_hidden_layers=6)))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    engine = ModelThreads(
        {"small": small, "large": large}, deterministic=True, max_batch=8, threads=None
    )
    try:
        await engine.load("small", ())
        assert threads[1] == 1
        await engine.load("large", ())
    finally:
        await engine.close()
        torch.set_num_threads(before)
    assert threads[1] == threads[6] == 2


async def test_who_goes_on_after_one_foreign_token_needs_no_forward_to_read_it(
    three_models: dict[str, str],
) -> None:
    """Fault: each was read in a forward of its own beside that of the answers being written."""
    spec = ModelSpec(three_models["m0"])
    prompt, foreign = list(range(40, 80)), list(range(50, 60))

    async def turns(engine: LocalEngine) -> list[Completion]:
        async with engine.session(1, 200) as session:
            return [
                await session.generate("m", prompt + foreign[:count], Sampling(1, temperature=1.0))
                for count in range(len(foreign) + 1)
            ]

    engine = LocalEngine({"m": spec}, deterministic=True)
    alone = await turns(engine)
    before = engine.counters("m").forwards
    async with engine.session(0, 200) as session:
        writing = asyncio.create_task(session.generate("m", prompt, Sampling(80, temperature=0.0)))
        beside = await turns(engine)
        written = await writing
    took = engine.counters("m").forwards - before
    await engine.close()
    assert beside == alone
    assert took < len(written.token_ids) + len(foreign)
