"""What a server reports is shown to a criterion as far as it goes."""

from __future__ import annotations

from math import log
from typing import Any

import pytest

from taketurns.engines.patch_tokens import PatchTokens, weighs
from taketurns.engines.scripted import ScriptedEngine
from taketurns.types import NextToken, NextTokenCriterion, Sampling, Token


class Unsure:
    """Ends a patch where the most probable token has less than half."""

    finish, entropy, layers = "switcher", False, ()

    def __init__(self) -> None:
        self.seen: list[NextToken] = []

    def on_token(self, token: Token) -> bool:
        return False

    def should_stop(self, entropy: float | None, states: Any) -> bool:
        raise AssertionError("it asked for no entropy")

    def should_stop_before(self, next_token: NextToken) -> bool:
        self.seen.append(next_token)
        return next_token.probability < 0.5


def listed(token: int, **chances: float) -> Token:
    top = tuple((int(name[1:]), log(chance)) for name, chance in chances.items())
    return Token(token, logprob=dict(top).get(token), top=top)


@pytest.mark.parametrize("first", [True, False])
async def test_a_patch_ends_before_the_token_that_the_criterion_refuses(first: bool) -> None:
    """The token that the server wrote there is dropped, at the patch's beginning too."""
    info = await ScriptedEngine({"m": [""]}).info("m")
    criterion = Unsure()
    assert isinstance(criterion, NextTokenCriterion)
    assert weighs(criterion)  # type: ignore[arg-type]
    sampling = Sampling(9, stopping=criterion)  # type: ignore[arg-type]
    patch = PatchTokens(info, [1], sampling, None, 20)
    if not first:
        patch.take(listed(65, t65=0.7, t66=0.2))
    patch.take(listed(66, t66=0.25, t67=0.45, t68=0.1))
    patch.take(listed(69, t69=0.9))
    assert patch.finish == "switcher"
    assert patch.ids == ([] if first else [65])
    last = criterion.seen[-1]
    assert (last.id, last.probability) == (67, pytest.approx(0.45))
    expected = -sum(p * log(p) for p in (0.25, 0.45, 0.1, 0.2))
    assert last.entropy == pytest.approx(expected)
    assert last.probabilities is None
    assert len(criterion.seen) == (1 if first else 2)
