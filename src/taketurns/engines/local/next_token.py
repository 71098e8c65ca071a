"""The next token of every row of a batch: which tokens may be drawn, and the draw."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from taketurns.engines.local.logits import shaped
from taketurns.engines.local.requests import GenerateRequest
from taketurns.engines.local.sampling import sample, without


def draw_tokens(
    logits: Tensor, jobs: Sequence[GenerateRequest], suppressed: Sequence[int]
) -> list[int]:
    """One token a job, drawn from its row of `logits` `[rows, vocabulary]`, which stay as they
    are. No job writes a token of `suppressed`."""
    draws = [job.draw() for job in jobs]
    logits = shaped(without(logits, suppressed), [job.shaper for job in jobs])
    tokens: list[int] = sample(logits, draws).tolist()
    return tokens
