"""The router's loss: the next token under the product of its own distribution and that of the
candidate which predicts the token best.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taketurns.engines.local.ensembles import Shared
from taketurns.engines.local.loading import LoadedModel
from taketurns.training.fusionroute.rows import FusionRow
from taketurns.training.objective import left_padded

NOWHERE = -1  # a target beside a text's places


@dataclass(frozen=True, slots=True)
class FrozenCandidates:
    """The candidates' weights, which are not trained, and the `outcomes` that they and, last, the
    router share."""

    models: Sequence[LoadedModel]
    outcomes: Shared

    def logprobs(self, batch: Mapping[str, Tensor], learned: Tensor) -> Tensor:
        """Each candidate's log-probabilities at the `learned` places of a batch, bool `[rows,
        tokens]`: `[places, candidates, outcomes]`, on the device of `learned`."""
        return torch.stack(
            [self._of(index, batch, learned) for index in range(len(self.models))], 1
        )

    @torch.no_grad()
    def _of(self, index: int, batch: Mapping[str, Tensor], learned: Tensor) -> Tensor:
        loaded = self.models[index]
        if loaded.activate is not None:
            loaded.activate()
        at = loaded.model.get_input_embeddings().weight.device
        inputs = {name: batch[f"{name}.{index}"].to(at) for name in INPUTS}
        logits = loaded.model(**inputs, use_cache=False).logits[:, -learned.shape[1] :]
        return self.outcomes.logprobs_of(index, logits.to(learned.device)[learned].float())


INPUTS = ("input_ids", "attention_mask", "position_ids")


def collate(rows: Sequence[FusionRow], outcomes: Shared, pad: int) -> dict[str, Tensor]:
    """A batch, padded on the left: the router's inputs, those of each candidate under names that
    end in its index, and `targets` `[rows, places]`, the outcome that follows at each place."""
    inputs = dict(left_padded([row.ids(-1) for row in rows], pad))
    for index in range(len(rows[0].prompts) - 1):
        own = left_padded([row.ids(index) for row in rows], pad)
        inputs |= {f"{name}.{index}": own[name] for name in INPUTS}
    width = max(len(row.answer) for row in rows) + 1
    targets = torch.full((len(rows), width), NOWHERE)
    for place, row in enumerate(rows):
        ids = [*row.answer, outcomes.end]
        targets[place, width - len(ids) :] = torch.from_numpy(outcomes.columns[ids])
    return {**inputs, "targets": targets}


@dataclass(frozen=True, slots=True)
class FusedNextToken:
    """Trains the router alone; all places of a step have equal weights. An epoch is as good as the
    text is likely under the fused distributions, in nats a place."""

    train: Sequence[FusionRow]
    validation: Sequence[FusionRow]
    candidates: FrozenCandidates

    best_by = "likelihood"
    last_token = False
    by_length = True

    @property
    def lengths(self) -> tuple[Sequence[int], Sequence[int]]:
        """The tokens that the router reads of each row, by part."""
        return [row.length for row in self.train], [row.length for row in self.validation]

    def collate(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """As `collate` of the rows with these numbers."""
        every = [*self.train, *self.validation]
        return collate([every[row] for row in rows], self.candidates.outcomes, pad)

    def loss(
        self, logits: Tensor, batch: Mapping[str, Tensor], items: Any
    ) -> tuple[Tensor, Tensor]:
        """The mean over places, and each row's log-likelihood and number of places, `[rows, 2]`."""
        targets = batch["targets"]
        learned = targets != NOWHERE
        theirs = self.candidates.logprobs(batch, learned)
        own = self.candidates.outcomes.logprobs_of(
            theirs.shape[1], logits[:, -targets.shape[1] :][learned].float()
        )
        known = likelihoods(theirs, own, targets[learned])
        found = known.fused.gather(1, known.alone.argmax(1, keepdim=True)).squeeze(1)
        rows = learned.nonzero()[:, 0]
        sums = found.new_zeros(len(targets)).index_add(0, rows, found.detach())
        return -found.mean(), torch.stack((sums, learned.sum(1).to(sums)), 1)

    def measure(self, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        """The mean log-likelihood of the held-out places."""
        likelihood, places = map(sum, zip(*predictions, strict=True))
        return {self.best_by: likelihood / places}

    def describe(self, metrics: Mapping[str, float]) -> str:
        """A line of text with an epoch's loss."""
        return f"loss {-metrics['eval_likelihood']:.4f} on held-out texts"


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """The natural-log probabilities `[places, candidates]` of what follows: under each candidate
    `alone`, and `fused` with the router."""

    alone: Tensor
    fused: Tensor


def likelihoods(theirs: Tensor, own: Tensor, wanted: Tensor) -> Likelihoods:
    """From log-probabilities `[places, candidates, outcomes]` of the candidates and `[places,
    outcomes]` of the router, for the outcome that follows at each place, int64 `[places]`."""
    at = wanted[:, None, None].expand(-1, theirs.shape[1], 1)
    return Likelihoods(theirs.gather(2, at).squeeze(2), fused(theirs, own, wanted))


def fused(theirs: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """The part of `likelihoods` of the same name, `[places, candidates]`."""
    at = wanted[:, None, None].expand(-1, theirs.shape[1], 1)
    return (theirs + own[:, None]).log_softmax(-1).gather(2, at).squeeze(2)
