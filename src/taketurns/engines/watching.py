"""Patches that end before their next token is drawn: what a batch's watches ask to see is computed
for all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taketurns.engines.jobs import Write


def follows(job: object) -> bool:
    """Does the job want to see hidden states at every token?"""
    return isinstance(job, Write) and job.watch is not None and bool(job.watch.layers)


def over(jobs: Sequence[Write], logits: Tensor, hidden: Sequence[Tensor] = ()) -> list[bool]:
    """Which of the jobs end their patch here. `logits` `[rows, vocabulary]` are for their next
    tokens, `hidden` a `[rows, d]` tensor a layer, or nothing before a patch's first token."""
    entropies = _entropies(jobs, logits)
    states = _states(jobs, hidden)
    return [
        job.watch is not None and job.cut(entropies.get(row), states.get(row))
        for row, job in enumerate(jobs)
    ]


def _entropies(jobs: Sequence[Write], logits: Tensor) -> dict[int, float]:
    """In nats, by row, for those who asked."""
    rows = [row for row, job in enumerate(jobs) if job.watch is not None and job.watch.entropy]
    if not rows:
        return {}
    probabilities = torch.softmax(logits[rows].float(), -1)
    entropies = torch.special.entr(probabilities).sum(-1).tolist()
    return dict(zip(rows, entropies, strict=True))


def _states(jobs: Sequence[Write], hidden: Sequence[Tensor]) -> dict[int, Tensor]:
    """`[layers, d]` by row, for those who asked."""
    wanted = {row: job.watch.layers for row, job in enumerate(jobs) if job.watch is not None}
    layers = sorted({layer for some in wanted.values() for layer in some}) if hidden else []
    if not layers:
        return {}
    at = {layer: place for place, layer in enumerate(layers)}
    stacked = torch.stack([hidden[layer] for layer in layers]).cpu()  # [layers, rows, d]
    return {
        row: stacked[[at[layer] for layer in some], row] for row, some in wanted.items() if some
    }
