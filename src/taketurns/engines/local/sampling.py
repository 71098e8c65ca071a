"""Temperature and nucleus sampling of one token for each row of a batch.

A nucleus (top-p) sample needs no sort in the common case. A token drawn from the full softmax is a
nucleus sample if the tokens more probable than it hold less than `top_p` together; nine of ten
draws pass at `top_p` 0.9. Rows whose draw fails are drawn again from their sorted nucleus. Given
acceptance the first draw has the nucleus' distribution, so the mixture has it too. Tokens of equal
probability enter the nucleus together, so the result does not depend on how a sort breaks ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

COLDEST = 1e-30  # a lower temperature is 0: logits divided by it are beyond float32
_LARGEST = 1e8  # of a row's highest logit, so that it is not


@dataclass(frozen=True, slots=True)
class TokenDraw:
    """How one row is sampled, and its two uniform numbers in [0, 1)."""

    temperature: float
    top_p: float
    first: float
    second: float


def sample(logits: Tensor, draws: Sequence[TokenDraw]) -> Tensor:
    """Sample one token a row. `logits` is `[rows, vocabulary]`; returns int64 `[rows]` on its
    device."""
    greedy = [row for row, draw in enumerate(draws) if draw.temperature < COLDEST]
    if len(greedy) == len(draws):
        return logits.argmax(-1)
    logits = logits.float()
    columns = torch.tensor(
        [
            (d.temperature if d.temperature >= COLDEST else 1.0, d.top_p, d.first, d.second)
            for d in draws
        ],
        dtype=torch.float32,
        device=logits.device,
    )
    temperature, top_p, first, second = columns.unbind(1)
    probabilities = torch.softmax(logits / temperature[:, None], -1)
    chosen = _invert(probabilities, first)
    outside = _mass_above(probabilities, chosen) >= top_p
    if bool(outside.any()):
        rows = outside.nonzero().squeeze(1)
        chosen[rows] = _from_nucleus(probabilities[rows], top_p[rows], second[rows])
    if greedy:
        chosen[greedy] = logits[greedy].argmax(-1)
    return chosen


def drawable(logits: Tensor) -> Tensor:
    """Which rows of `[rows, outcomes]` a token can be drawn from: bool `[rows]`. None can where a
    logit is NaN or infinite, or all of them are minus infinity; single ones may be. The maximum
    of a row is NaN if anything in it is, so this reads the logits once and no more."""
    return logits.amax(-1).abs() < _LARGEST


def without(logits: Tensor, suppressed: Sequence[int]) -> Tensor:
    """The same logits with tokens that cannot be sampled."""
    return (
        logits.index_fill(-1, torch.tensor(suppressed, device=logits.device), -inf)
        if suppressed
        else logits
    )


def _invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draw from each row by inverting its cumulative sum at `uniform`."""
    cumulative = probabilities.cumsum(-1)
    whole = cumulative[:, -1]
    # A uniform number next to 1 is 1 in float32; drawing at the whole sum would be beyond all that
    # is probable.
    at = torch.minimum(uniform * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    last = probabilities.shape[-1] - 1
    return torch.searchsorted(cumulative, at[:, None], right=True).squeeze(1).clamp_(max=last)


def _mass_above(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """Probability mass of the tokens strictly more probable than the chosen one, a row each."""
    probability = probabilities.gather(1, chosen[:, None])
    return (probabilities * (probabilities > probability)).sum(-1)


def _from_nucleus(probabilities: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    ordered, index = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    # The last token that starts below top_p, and all tokens as probable as it, are inside.
    start = ordered.cumsum(-1) - ordered
    inside = (start < top_p[:, None]).sum(-1, keepdim=True).clamp_(min=1)
    floor = ordered.gather(1, inside - 1)
    kept = torch.where(ordered >= floor, ordered, torch.zeros_like(ordered))
    return index.gather(1, _invert(kept, uniform)[:, None]).squeeze(1)
