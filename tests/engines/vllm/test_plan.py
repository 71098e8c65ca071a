"""Memory for engines that share a machine or a GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.engines.vllm.plan import EngineNeed, cpu_caches, gpu_shares
from taketurns.errors import CapacityError

GIB = 1 << 30


def need(
    weights: int = GIB, token: int = 1 << 17, device: int | str = "cpu", bounded: bool = False
) -> EngineNeed:
    return EngineNeed("a", weights, token, 2048, device, bounded)


sizes = st.lists(
    st.tuples(st.integers(0, 4 * GIB), st.integers(1 << 10, 1 << 18)), min_size=1, max_size=5
)


@given(sizes, st.integers(64, 512))
def test_caches_and_weights_fit_the_memory(models: list[tuple[int, int]], free: int) -> None:
    needs = [need(weights, token) for weights, token in models]
    caches = cpu_caches(needs, free * GIB, None)
    assert sum(caches) + sum(each.weights or 0 for each in needs) < free * GIB
    for each, size in zip(needs, caches, strict=True):
        assert each.token * each.context <= size <= each.token * each.context * 64


@given(sizes)
def test_a_wanted_size_is_divided_into_equal_numbers_of_tokens(
    models: list[tuple[int, int]],
) -> None:
    needs = [need(weights, token) for weights, token in models]
    caches = cpu_caches(needs, 512 * GIB, 64 * GIB)
    tokens = [size // each.token for each, size in zip(needs, caches, strict=True)]
    assert max(tokens) - min(tokens) <= 1
    assert sum(caches) <= 64 * GIB


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(CapacityError, match=r"2 vLLM engines need 4\.0 GiB, and 3\.0 GiB are free"):
        cpu_caches([need(), need()], 3 * GIB, None)
    with pytest.raises(CapacityError, match="an answer of 2048 tokens, the context of a"):
        cpu_caches([need()], 4 * GIB, 1 << 20)
    assert cpu_caches([need(bounded=True)], 4 * GIB, 1 << 20)


def test_a_gpu_is_divided_by_weights() -> None:
    needs = [need(16 * GIB, device=0), need(2 * GIB, device=0), need(2 * GIB, device=1)]
    first, second, alone = gpu_shares(needs, {0: 80 * GIB, 1: 80 * GIB})
    assert first + second == pytest.approx(0.9, abs=1e-6)
    assert first - second == pytest.approx(14 / 80, abs=1e-6)
    assert alone == pytest.approx(0.9, abs=1e-6)


def test_weights_that_do_not_fit_a_gpu_are_refused() -> None:
    with pytest.raises(CapacityError, match=r"the weights of a, a do not fit .* of GPU 0"):
        gpu_shares([need(40 * GIB, device=0), need(40 * GIB, device=0)], {0: 80 * GIB})
    with pytest.raises(CapacityError, match="set max_model_len in vllm"):
        gpu_shares([need(72 * GIB - 1024, device=0)], {0: 80 * GIB})
