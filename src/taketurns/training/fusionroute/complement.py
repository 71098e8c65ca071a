"""The preference stage's loss: the preferred answer of two under the product of the router's
distribution and that of the candidate which its head picks (DPO, arXiv 2305.18290; CDPO, arXiv
2601.05106).

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from taketurns.engines.local.loading import LoadedModel
from taketurns.switchers.routing_head import RoutingHead
from taketurns.training.fusionroute.objective import NOWHERE, FrozenCandidates, collate, fused
from taketurns.training.fusionroute.routing import read_states
from taketurns.training.fusionroute.rows import FusionRow


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """An answer, what the head of the router before this stage `picks` at each of its places, int64
    `[places]`, and the answer's natural-log probability then."""

    row: FusionRow
    picks: Tensor
    logprob: float


@dataclass(frozen=True, slots=True)
class ReadPair:
    """Two answers to one question."""

    chosen: ReadAnswer
    rejected: ReadAnswer

    @property
    def length(self) -> int:
        """The tokens that the router reads of the longer one."""
        return max(self.chosen.row.length, self.rejected.row.length)


def answers_read_by(
    router: LoadedModel,
    head: RoutingHead,
    candidates: FrozenCandidates,
    rows: Sequence[FusionRow],
    on_done: Callable[[], None] = lambda: None,
) -> list[ReadAnswer]:
    """What a router, with a head for the candidates in their order, says of answers."""
    read = read_states(router, candidates, rows, on_done)
    picks = (read.states @ head.weight.T + head.bias).argmax(1)
    logprobs = read.known.fused.gather(1, picks[:, None]).squeeze(1)
    sizes = [row.places for row in rows]
    return [
        ReadAnswer(row, picked, float(known.sum()))
        for row, picked, known in zip(
            rows, torch.split(picks, sizes), torch.split(logprobs, sizes), strict=True
        )
    ]


@dataclass(frozen=True, slots=True)
class FusedPreference:
    """Trains the router alone, which the picks stay as they were. An epoch is as good as the
    preferences are likely, in nats a pair; log(1/2) is what no training gives. `beta` weighs the
    distance from the router before this stage."""

    train: Sequence[ReadPair]
    validation: Sequence[ReadPair]
    candidates: FrozenCandidates
    beta: float

    best_by = "likelihood"
    last_token = False
    by_length = True

    @property
    def lengths(self) -> tuple[Sequence[int], Sequence[int]]:
        """The tokens that the router reads of each pair's longer answer, by part."""
        return [pair.length for pair in self.train], [pair.length for pair in self.validation]

    def collate(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """The answers of the pairs with these numbers: all chosen ones, then all rejected ones. As
        `collate`, with `picks` `[answers, places]` and `before` `[answers]`, their log-probability
        before this stage."""
        every = [*self.train, *self.validation]
        pairs = [every[row] for row in rows]
        answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        batch = collate([answer.row for answer in answers], self.candidates.outcomes, pad)
        width = batch["targets"].shape[1]
        padded = [
            functional.pad(answer.picks, (width - len(answer.picks), 0)) for answer in answers
        ]
        before = torch.tensor([answer.logprob for answer in answers])
        return {**batch, "picks": torch.stack(padded), "before": before}

    def loss(
        self, logits: Tensor, batch: Mapping[str, Tensor], items: Any
    ) -> tuple[Tensor, Tensor]:
        """The mean over pairs, and each pair's log-likelihood and whether the chosen answer gained
        more than the rejected one, `[pairs, 2]`."""
        targets = batch["targets"]
        learned = targets != NOWHERE
        theirs = self.candidates.logprobs(batch, learned)
        picks = batch["picks"][learned][:, None, None].expand(-1, 1, theirs.shape[2])
        own = self.candidates.outcomes.logprobs_of(
            theirs.shape[1], logits[:, -targets.shape[1] :][learned].float()
        )
        known = fused(theirs.gather(1, picks), own, targets[learned]).squeeze(1)
        rows = learned.nonzero()[:, 0]
        gained = known.new_zeros(len(targets)).index_add(0, rows, known) - batch["before"]
        margin = self.beta * (gained[: len(gained) // 2] - gained[len(gained) // 2 :])
        likely = functional.logsigmoid(margin)
        return -likely.mean(), torch.stack((likely, (margin > 0).to(likely)), 1).detach()

    def measure(self, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        """The mean log-likelihood of the held-out preferences, and the share that is `right`."""
        likely, right = map(sum, zip(*predictions, strict=True))
        return {self.best_by: likely / len(predictions), "right": right / len(predictions)}

    def describe(self, metrics: Mapping[str, float]) -> str:
        """A line of text with an epoch's loss."""
        return (
            f"loss {-metrics['eval_likelihood']:.4f} on held-out pairs, "
            f"{metrics['eval_right']:.0%} of them the right way round"
        )
