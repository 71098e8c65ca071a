"""The routing head, fitted to the states of a trained router: who predicts the next token best,
learned where the candidates differ.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taketurns.engines.local.loading import LoadedModel
from taketurns.errors import DataError
from taketurns.switchers.routing_head import RoutingHead
from taketurns.training.fusionroute.objective import (
    INPUTS,
    NOWHERE,
    FrozenCandidates,
    Likelihoods,
    collate,
    likelihoods,
)
from taketurns.training.fusionroute.rows import FusionRow
from taketurns.training.supervised.head import LEAST_DEVIATION, descend_linearly
from taketurns.training.supervised.settings import TrainingConfig

AT_ONCE = 4  # rows in one forward


@dataclass(frozen=True, slots=True)
class RoutedPlaces:
    """Places of texts: the router's `states` `[places, d]`, what is `known` of the next token, and
    where the candidates' most probable next tokens `differ`, bool `[places]`."""

    states: Tensor
    known: Likelihoods
    differ: Tensor


@dataclass(frozen=True, slots=True)
class FittedRouting:
    """The head of the best epoch, the metrics of every epoch on the validation texts, and the best
    epoch, from 1. Losses on these texts for comparison: `alone` of each candidate by name, and
    `best`, fused with the best candidate at every place."""

    head: RoutingHead
    history: Sequence[Mapping[str, float]]
    best_epoch: int
    alone: Mapping[str, float]
    best: float


@torch.no_grad()
def read_states(
    router: LoadedModel,
    candidates: FrozenCandidates,
    rows: Sequence[FusionRow],
    on_done: Callable[[], None] = lambda: None,
) -> RoutedPlaces:
    """What a trained router and the candidates say at the places of `rows`, on the CPU."""
    states, alone, fused, differ = [], [], [], []
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        batch = collate(some, candidates.outcomes, pad=0)  # masked
        learned = batch["targets"] != NOWHERE
        theirs = candidates.logprobs(batch, learned)
        if router.activate is not None:
            router.activate()
        at = router.model.get_input_embeddings().weight.device
        inputs = {name: batch[name].to(at) for name in INPUTS}
        said = router.model(**inputs, use_cache=False, output_hidden_states=True)
        width = learned.shape[1]
        logits = said.logits[:, -width:].cpu()[learned].float()
        own = candidates.outcomes.logprobs_of(theirs.shape[1], logits)
        known = likelihoods(theirs, own, batch["targets"][learned])
        tops = theirs.argmax(-1)
        states.append(said.hidden_states[-1][:, -width:].cpu()[learned].float())
        alone.append(known.alone)
        fused.append(known.fused)
        differ.append((tops != tops[:, :1]).any(1))
        for _ in some:
            on_done()
    known = Likelihoods(torch.cat(alone), torch.cat(fused))
    return RoutedPlaces(torch.cat(states), known, torch.cat(differ))


def fit(
    names: Sequence[str], train: RoutedPlaces, validation: RoutedPlaces, training: TrainingConfig
) -> FittedRouting:
    """Fit a head by the log-probability of the best candidate, at the places where the candidates
    differ. The epoch is that with the lowest fused loss on validation, where the head's most
    probable candidate writes. Raises DataError if they differ nowhere, NotANumberError if training
    diverges."""
    if not train.differ.any():
        raise DataError(
            f"at all {len(train.differ)} places of the texts the candidates have the same most "
            "probable next token, so there is nothing to route: give more texts with --texts, or "
            "use other candidates"
        )
    states = train.states[train.differ]
    best = train.known.alone[train.differ].argmax(1)
    mean, deviation = states.mean(0), states.std(0, correction=0) + LEAST_DEVIATION

    def features(rows: Tensor) -> Tensor:
        return torch.cat(((rows - mean) / deviation, torch.ones(len(rows), 1)), 1)

    def loss(rows: Tensor, logprobs: Tensor) -> Tensor:
        return -logprobs.gather(1, best[rows, None]).mean()

    def measure(logits: Tensor) -> tuple[Mapping[str, float], float]:
        picked = logits.argmax(1, keepdim=True)
        value = -float(validation.known.fused.gather(1, picked).mean())
        right = (picked.squeeze(1) == validation.known.alone.argmax(1))[validation.differ]
        known = {"right": float(right.float().mean())} if len(right) else {}
        return {"loss": value, **known}, -value

    weight, history, epoch = descend_linearly(
        len(names), features(states), loss, training, features(validation.states), measure
    )
    scaled = weight[:, :-1] / deviation
    head = RoutingHead(tuple(names), scaled, weight[:, -1] - scaled @ mean)
    known = validation.known
    alone = dict(zip(names, (-known.alone.mean(0)).tolist(), strict=True))
    top = known.fused.gather(1, known.alone.argmax(1, keepdim=True))
    return FittedRouting(head, history, epoch, alone, -float(top.mean()))
