"""Patches that end before their next token is drawn: what the stopping criteria of a
batch ask to see is computed for all of them at once, and constraints say whether any may follow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taketurns.engines.local.requests import GenerateRequest
from taketurns.engines.local.sampling import drawable


def follows(job: object) -> bool:
    """Does the job want to see hidden states at every token?"""
    return (
        isinstance(job, GenerateRequest)
        and job.criterion is not None
        and bool(job.criterion.layers)
    )


def over(
    jobs: Sequence[GenerateRequest], logits: Tensor, hidden: Sequence[Tensor] = ()
) -> list[bool]:
    """Which of the jobs end their patch here, or have failed: there is no next token to draw from
    NaN. `logits` `[rows, vocabulary]` are for their next tokens, `hidden` a `[rows, d]` tensor a
    layer, or nothing before a patch's first token."""
    sound = drawable(logits).tolist()
    entropies = _entropies(jobs, logits)
    states = _states(jobs, hidden)
    return [
        _cut(job, entropies.get(row), states.get(row)) if sound[row] else _broken(job)
        for row, job in enumerate(jobs)
    ]


def _broken(job: GenerateRequest) -> bool:
    job.fail_at("the next token")
    return True


def _cut(job: GenerateRequest, entropy: float | None, states: Tensor | None) -> bool:
    if states is not None and not states.isfinite().all():
        job.fail_at("its hidden states")
        return True
    try:
        if job.criterion is not None and job.cut(entropy, states):
            return True
        return job.constraint is not None and job.constrain()
    except Exception as error:  # whatever a criterion or a constraint raises is its job's failure
        job.failure = error
        return True


def _entropies(jobs: Sequence[GenerateRequest], logits: Tensor) -> dict[int, float]:
    """In nats, by row, for those who asked."""
    rows = [
        row for row, job in enumerate(jobs) if job.criterion is not None and job.criterion.entropy
    ]
    if not rows:
        return {}
    probabilities = torch.softmax(logits[rows].float(), -1)
    entropies = torch.special.entr(probabilities).sum(-1).tolist()
    return dict(zip(rows, entropies, strict=True))


def _states(jobs: Sequence[GenerateRequest], hidden: Sequence[Tensor]) -> dict[int, Tensor]:
    """`[layers, d]` by row, for those who asked."""
    wanted = {
        row: job.criterion.layers for row, job in enumerate(jobs) if job.criterion is not None
    }
    layers = sorted({layer for some in wanted.values() for layer in some}) if hidden else []
    if not layers:
        return {}
    at = {layer: place for place, layer in enumerate(layers)}
    stacked = torch.stack([hidden[layer] for layer in layers]).cpu()  # [layers, rows, d]
    return {
        row: stacked[[at[layer] for layer in some], row] for row, some in wanted.items() if some
    }
