"""A model is handed its cache by the name that its own forward has for it, and a result is asked
for it by a name that it holds. transformers 5.24 warns of the older names, which 5.40 drops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from taketurns.engines.local.forward import Forward
from taketurns.engines.local.kv import probe
from taketurns.engines.local.lanes import LanePool
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.plain_forward import PlainForward, cache_arguments, kv_argument

IDS = [5, 9, 2, 7, 1]
CONFIG = LlamaConfig(
    vocab_size=16,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
)
HERE = kv_argument(LlamaForCausalLM(CONFIG))  # the name in this transformers
OLDER = ("past_key_values", "cache_params")


class Result(SimpleNamespace):
    """What a model returns by transformers 5.24: the older names are properties."""

    @property
    def past_key_values(self) -> Any:
        raise FutureWarning("`past_key_values` is deprecated")


class Newest(LlamaForCausalLM):
    """Names its cache as transformers 5.40 will."""

    def forward(self, input_ids: Any, cache: Any = None, **more: Any) -> Any:
        assert not set(OLDER) & set(more)
        result = super().forward(input_ids, **{HERE: cache}, **more)
        return Result(
            logits=result.logits, cache=getattr(result, HERE), hidden_states=result.hidden_states
        )


class Older(LlamaForCausalLM):
    """Comes with its own code, of before 5.24."""

    def forward(self, input_ids: Any, past_key_values: Any = None, **more: Any) -> Any:
        assert "cache" not in more
        return super().forward(input_ids, **{HERE: past_key_values}, **more)


class PassesOn(Newest):
    def forward(self, *given: Any, **more: Any) -> Any:
        return super().forward(*given, **more)


MODELS = (Newest, Older, PassesOn)


@pytest.fixture(params=MODELS, ids=lambda kind: kind.__name__)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return request.param(CONFIG).eval()


def whole(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([IDS]), use_cache=False).logits[0, -1]
    return logits


def test_a_lane_is_handed_by_the_models_own_name(model: Any) -> None:
    shape, masks = probe(model)
    pool = LanePool(shape)
    pool.enter([(answer := Parked(), 0)], 16, 16)
    forward = Forward(model, masks)
    for start, stop in ((0, 3), (3, 5)):
        positions = np.arange(start, stop)[None]
        pool.plan(0, [stop], positions, np.array([stop]), stop)
        seen = forward(np.array([IDS[start:stop]]), positions, pool)
    assert answer.lane == 0
    torch.testing.assert_close(seen.logits[0], whole(model), atol=1e-5, rtol=1e-5)


def test_a_models_own_cache_is_found_and_handed_back(model: Any) -> None:
    plain = PlainForward(model)
    begun = plain(IDS[:3], carries=True)
    assert begun.carried is not None
    assert begun.carried.name == ("past_key_values" if isinstance(model, Older) else "cache")
    ended = plain(IDS[3:], carried=begun.carried, carries=True)
    torch.testing.assert_close(ended.logits[0, -1], whole(model), atol=1e-5, rtol=1e-5)


def test_the_names_are_those_of_the_forward_or_of_the_one_above_it() -> None:
    assert [cache_arguments(kind(CONFIG)) for kind in MODELS] == [
        ("cache",),
        ("past_key_values",),
        ("cache",),
    ]
