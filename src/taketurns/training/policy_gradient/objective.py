"""What moves a switcher: each answer's reward beside those of the other answers to its question.

The advantage is the reward less the mean of the others' (leave-one-out: unbiased, and without a
value model); every decision of an answer shares it. The loss is PPO's clipped one over the
speakers' probabilities alone, the text that they wrote being part of the world, with the exact
Kullback-Leibler divergence from the start, which costs nothing for a handful of speakers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taketurns.training.policy_gradient.sampling import RewardedAnswer

if TYPE_CHECKING:
    from torch import Tensor


KEPT = "; the best switcher so far is in checkpoints/best of the output"


def advantages(rewards: Sequence[float]) -> list[float]:
    """Of the answers of one group: each reward less the mean of the other rewards."""
    count, total = len(rewards), sum(rewards)
    return [reward - (total - reward) / (count - 1) for reward in rewards]


@dataclass(frozen=True, slots=True)
class Batch:
    """Decisions of one step, side by side: what the switcher observed, who was drawn, with which
    log-probability, and the advantage of the answer that the decision is of."""

    observations: tuple[Any, ...]
    speakers: Tensor
    before: Tensor
    advantages: Tensor

    @classmethod
    def of(cls, groups: Sequence[Sequence[RewardedAnswer]]) -> Batch:
        """The decisions of all answers; those of a group whose answers were worth the same, which
        say nothing but take time, are left out."""
        import torch

        rows = [
            (decision, advantage)
            for group in groups
            if len({answer.reward for answer in group}) > 1
            for answer, advantage in zip(
                group, advantages([answer.reward for answer in group]), strict=True
            )
            for decision in answer.decisions
        ]
        return cls(
            tuple(decision.observation for decision, _ in rows),
            torch.tensor([decision.speaker for decision, _ in rows], dtype=torch.long),
            torch.tensor([decision.logprob for decision, _ in rows]),
            torch.tensor([advantage for _, advantage in rows]),
        )

    def rows(self, first: int, last: int) -> Batch:
        """A part of it."""
        some = slice(first, last)
        return Batch(
            self.observations[some], self.speakers[some], self.before[some], self.advantages[some]
        )

    def __len__(self) -> int:
        return len(self.observations)


def loss(logits: Tensor, start: Tensor, batch: Batch, clip: float, kl: float) -> Tensor:
    """The mean loss of a batch's decisions, a scalar; `logits` and `start` are the learner's and
    the start's for them, `[decisions, candidates]`."""
    logprobs, origin = logits.log_softmax(-1), start.log_softmax(-1)
    drawn = logprobs.gather(-1, batch.speakers[:, None])[:, 0]
    ratio = (drawn - batch.before).exp()
    bounded = ratio.clamp(1 - clip, 1 + clip)
    gain = (ratio * batch.advantages).minimum(bounded * batch.advantages)
    divergence = (logprobs.exp() * (logprobs - origin)).sum(-1)
    return (kl * divergence - gain).mean()
