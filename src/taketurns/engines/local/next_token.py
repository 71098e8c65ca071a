"""The next token of every row of a batch: which tokens may be drawn, and the draw."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
import torch
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
    shapers = [job.shaper for job in jobs]
    allowed = _constrained(without(logits, suppressed), jobs)
    tokens: list[int] = sample(shaped(allowed, shapers), draws).tolist()
    for row, job in enumerate(jobs):
        # A vocabulary without single characters may begin what it cannot finish.
        while job.allowed is not None and not _leads_on(job, tokens[row]):
            allowed[row, tokens[row]] = -inf
            if allowed[row].isneginf().all():
                break
            one = slice(row, row + 1)
            tokens[row] = int(sample(shaped(allowed[one], shapers[one]), draws[one])[0])
    return tokens


def _leads_on(job: GenerateRequest, token: int) -> bool:
    assert job.constraint is not None, "only an answer with a format is constrained"
    return token in job.ends or job.constraint.leads_on(token)


def _constrained(logits: Tensor, jobs: Sequence[GenerateRequest]) -> Tensor:
    """The same logits, without the tokens that a job's constraint does not allow."""
    rows = [row for row, job in enumerate(jobs) if job.allowed is not None]
    if not rows:
        return logits
    barred = np.stack([barred_tokens(jobs[row], logits.shape[-1]) for row in rows])
    mask = torch.from_numpy(barred).to(logits.device)
    if len(rows) == len(jobs):
        return logits.masked_fill(mask, -inf)
    logits = logits.clone()
    logits[rows] = logits[rows].masked_fill(mask, -inf)
    return logits


def barred_tokens(job: GenerateRequest, vocabulary: int) -> np.ndarray:
    """Which tokens the job, which has a constraint, may not write next: bool `[vocabulary]`."""
    assert job.allowed is not None, "constrain() before this"
    assert job.constraint is not None, "only an answer with a format is constrained"
    bits = np.unpackbits(job.allowed, bitorder="little")[:vocabulary]
    barred = np.ones(vocabulary, dtype=bool)
    barred[: len(bits)] = bits == 0
    barred[[token for token in job.ends if token < vocabulary]] = not job.constraint.may_end()
    return barred
