"""Nucleus sampling draws from the nucleus, and with its probabilities."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from taketurns.engines.local.sampling import TokenDraw, sample
from taketurns.utils.seeds import generator

PROBABILITIES = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05])


def draws(count: int, temperature: float, top_p: float) -> list[TokenDraw]:
    uniform = generator(3).random((count, 2))
    return [TokenDraw(temperature, top_p, first, second) for first, second in uniform]


def frequencies(top_p: float, temperature: float = 1.0) -> torch.Tensor:
    count = 20_000
    logits = PROBABILITIES.log().expand(count, -1)
    chosen = sample(logits, draws(count, temperature, top_p))
    return torch.bincount(chosen, minlength=5) / count


def test_frequencies_are_those_of_the_renormalised_nucleus() -> None:
    # 0.4 + 0.25 < 0.7 <= 0.4 + 0.25 + 0.2: the third is in, the fourth is not.
    expected = torch.tensor([0.4, 0.25, 0.2, 0, 0]) / 0.85
    torch.testing.assert_close(frequencies(0.7), expected, atol=0.012, rtol=0)
    torch.testing.assert_close(frequencies(1.0), PROBABILITIES, atol=0.012, rtol=0)


def test_temperature_sharpens() -> None:
    sharp = torch.softmax(PROBABILITIES.log() / 0.5, -1)
    torch.testing.assert_close(frequencies(1.0, 0.5), sharp, atol=0.012, rtol=0)


def test_temperature_zero_is_greedy_beside_rows_that_are_not() -> None:
    logits = PROBABILITIES.log().expand(3, -1)
    rows = [
        TokenDraw(0, 0.9, 0.99, 0.99),
        TokenDraw(1, 1.0, 0.999, 0.5),
        TokenDraw(0, 0.1, 0.5, 0.5),
    ]
    assert sample(logits, rows).tolist() == [0, 4, 0]
    assert sample(logits, [TokenDraw(0, 1, 0.5, 0.5)] * 3).tolist() == [0, 0, 0]


@given(
    st.lists(st.floats(-8, 8), min_size=1, max_size=30),
    st.floats(0.01, 1),
    st.floats(0, 0.9999),
    st.floats(0, 0.9999),
)
def test_a_draw_is_always_inside_the_nucleus(
    logits: list[float], top_p: float, first: float, second: float
) -> None:
    row = torch.tensor([logits])
    chosen = int(sample(row, [TokenDraw(1.0, top_p, first, second)])[0])
    probabilities = torch.softmax(row[0], -1)
    above = float(probabilities[probabilities > probabilities[chosen]].sum())
    assert above < top_p + 1e-5


def test_equals_enter_the_nucleus_together() -> None:
    uniform = torch.zeros(4000, 4)
    chosen = sample(uniform, draws(4000, 1.0, 0.5))
    assert torch.bincount(chosen, minlength=4).min() > 850


def test_what_is_impossible_is_never_drawn() -> None:
    """Fault: a uniform number that is 1 in float32, or a temperature that turns logits into
    infinities, draws the last token, suppressed or not."""
    logits = torch.tensor([[2.0, 1.0, -torch.inf, -torch.inf]])
    for uniform in (0.0, 0.5, 1 - 2**-24, 1 - 2**-25, 1 - 2**-53):
        for top_p in (1.0, 0.99, 0.5):
            draw = TokenDraw(1.0, top_p, uniform, uniform)
            assert int(sample(logits, [draw])[0]) in (0, 1)
    for temperature in (1e-29, 1e-31, 1e-40, 1e-300):
        assert int(sample(logits, [TokenDraw(temperature, 1.0, 0.5, 0.5)])[0]) == 0
        beside = sample(
            logits.expand(2, -1), [TokenDraw(temperature, 1, 0.5, 0.5), TokenDraw(1, 1, 0.9, 0)]
        )
        assert beside.tolist() == [0, 1]
