"""Patches that end before their next token is drawn: the inputs of all stopping criteria of a
batch are computed together, and constraints say whether any token may follow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taketurns.engines.local.requests import GenerateRequest
from taketurns.engines.local.sampling import drawable
from taketurns.types import NextToken


def follows(job: object, *, first: bool = False) -> bool:
    """Whether the job's criterion needs hidden states at every token, or before the `first`."""
    return (
        isinstance(job, GenerateRequest)
        and job.criterion is not None
        and bool(job.criterion.layers)
        and (job.looks_ahead or not first)
    )


def over(
    jobs: Sequence[GenerateRequest], logits: Tensor, hidden: Sequence[Tensor] = ()
) -> list[bool]:
    """For each job, whether its patch ends here or has failed, because no token can be drawn from
    NaN. `logits` `[rows, vocabulary]` are for the next tokens; `hidden` is a `[rows, d]` tensor per
    layer, empty before a patch's first token where no criterion looks at that."""
    sound = drawable(logits).tolist()
    entropies = _entropies(jobs, logits)
    states = _states(jobs, hidden)
    ahead = _next_tokens(jobs, logits)
    return [
        _cut(job, entropies.get(row), states.get(row), ahead.get(row))
        if sound[row]
        else _broken(job)
        for row, job in enumerate(jobs)
    ]


def _broken(job: GenerateRequest) -> bool:
    job.fail_at("the next token")
    return True


def _cut(
    job: GenerateRequest,
    entropy: float | None,
    states: Tensor | None,
    next_token: NextToken | None,
) -> bool:
    if states is not None and not states.isfinite().all():
        job.fail_at("its hidden states")
        return True
    try:
        if job.criterion is not None and job.cut(entropy, states, next_token):
            return True
        return job.constraint is not None and job.constrain()
    except Exception as error:  # an error of a criterion or constraint fails only its own job
        job.failure = error
        return True


def _entropies(jobs: Sequence[GenerateRequest], logits: Tensor) -> dict[int, float]:
    """Entropies in nats by row, for the criteria that need them."""
    rows = [
        row for row, job in enumerate(jobs) if job.criterion is not None and job.criterion.entropy
    ]
    if not rows:
        return {}
    probabilities = torch.softmax(logits[rows].float(), -1)
    entropies = torch.special.entr(probabilities).sum(-1).tolist()
    return dict(zip(rows, entropies, strict=True))


def _next_tokens(jobs: Sequence[GenerateRequest], logits: Tensor) -> dict[int, NextToken]:
    """The distributions of the next tokens by row, for the criteria that look at them. They are
    computed together and leave the device in one copy, but for the probabilities themselves."""
    rows = [row for row, job in enumerate(jobs) if job.looks_ahead]
    if not rows:
        return {}
    probabilities = torch.softmax(logits[rows].float(), -1)
    highest, ids = probabilities.max(-1)
    entropies = torch.special.entr(probabilities).sum(-1)
    facts = torch.stack((highest.double(), ids.double(), entropies.double())).tolist()
    return {
        row: NextToken(int(token), highest, entropy, probabilities[place])
        for place, (row, highest, token, entropy) in enumerate(zip(rows, *facts, strict=True))
    }


def _states(jobs: Sequence[GenerateRequest], hidden: Sequence[Tensor]) -> dict[int, Tensor]:
    """Hidden states `[layers, d]` by row, for the criteria that need them."""
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
