"""Fitting a deferral head by the marginal likelihood of texts.

At each place the base writes on with probability 1 - d and defers with probability d, so what
follows has the probability (1 - d) p_base + d p_other. Who should have written it is not observed:
only the sum is made more probable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taketurns.switchers.head import Head, HeadConfig, Scale
from taketurns.training.deferral.places import Places
from taketurns.training.supervised.head import LEAST_DEVIATION, descend_linearly
from taketurns.training.supervised.settings import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class FittedDeferral:
    """The head of the best epoch, the metrics of every epoch on validation, and the best epoch,
    from 1. `standards` are the losses on validation of the base alone, the other one alone, and
    both with probability one half."""

    head: Head
    history: Sequence[Mapping[str, float]]
    best_epoch: int
    standards: Mapping[str, float]


def fit(
    config: HeadConfig,
    train: Sequence[Places],
    validation: Sequence[Places],
    training: TrainingConfig,
) -> FittedDeferral:
    """Fit a head that reads the states of `config.reader` alone. Raises NotANumberError if training
    diverges."""
    import torch

    base = config.candidates.index(config.reader)
    states = torch.cat([places.states for places in train])
    mean, deviation = states.mean(0), states.std(0, correction=0) + LEAST_DEVIATION
    known = torch.cat([places.logprobs for places in train])
    held_out = torch.cat([places.logprobs for places in validation])

    def features(places: Sequence[Places]) -> Tensor:
        rows = (torch.cat([one.states for one in places]) - mean) / deviation
        return torch.cat((rows, torch.ones(len(rows), 1)), 1)

    def loss(rows: Tensor, logprobs: Tensor) -> Tensor:
        return marginal_loss(logprobs, known[rows])

    def measure(logits: Tensor) -> tuple[Mapping[str, float], float]:
        logprobs = logits.log_softmax(-1)
        value = float(marginal_loss(logprobs, held_out))
        deferred = float((logprobs[:, 1 - base].exp() > 0.5).float().mean())
        return {"loss": value, "deferred": deferred}, -value

    weight, history, best = descend_linearly(
        2, features(train), loss, training, features(validation), measure
    )
    alone = torch.tensor([float(index == base) for index in range(2)]).log()
    standards = {
        "base": float(marginal_loss(alone, held_out)),
        "other": float(marginal_loss(alone.flip(0), held_out)),
        "half": float(marginal_loss(torch.full((2,), 0.5).log(), held_out)),
    }
    scale = Scale(mean, deviation, weight[:, :-1].clone())
    head = Head(config, {config.reader: scale}, weight[:, -1].repeat(3, 1))
    return FittedDeferral(head, history, best, standards)


def marginal_loss(logprobs: Tensor, known: Tensor) -> Tensor:
    """The mean negative log-likelihood of places, in nats: `logprobs` are the candidates' natural-
    log probabilities of writing there, `known` those of what follows under each, both
    `[places, 2]`."""
    return -(logprobs + known).logsumexp(-1).mean()
