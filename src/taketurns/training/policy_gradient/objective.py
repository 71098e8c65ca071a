"""The loss of a switcher that is trained on reward.

The advantage of an answer is its reward minus the mean reward of the other answers to its question
(leave-one-out: unbiased, without a value model); all its decisions share it. The loss is PPO's
clipped loss on the speakers' probabilities only, since the text is part of the environment, plus
the exact Kullback-Leibler divergence from the start, which is cheap for a few speakers.
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
    """Of each answer of a group: its reward minus the mean of the other rewards. A group needs two
    answers."""
    count, total = len(rewards), sum(rewards)
    return [reward - (total - reward) / (count - 1) for reward in rewards]


@dataclass(frozen=True, slots=True)
class Batch:
    """The decisions of one step: the switcher's observations, the drawn speakers, their
    log-probabilities when they were drawn, and the advantages of their answers; each
    `[decisions]`."""

    observations: tuple[Any, ...]
    speakers: Tensor
    before: Tensor
    advantages: Tensor

    @classmethod
    def of(cls, groups: Sequence[Sequence[RewardedAnswer]]) -> Batch:
        """The decisions of all answers, without groups of equal rewards, whose advantages are 0."""
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
        """The decisions from `first` to before `last`."""
        some = slice(first, last)
        return Batch(
            self.observations[some], self.speakers[some], self.before[some], self.advantages[some]
        )

    def __len__(self) -> int:
        return len(self.observations)


def loss(logits: Tensor, start: Tensor, batch: Batch, clip: float, kl: float) -> Tensor:
    """The mean loss of a batch's decisions, a scalar. `logits` are the learner's and `start` the
    start's logits, `[decisions, candidates]`."""
    logprobs, origin = logits.log_softmax(-1), start.log_softmax(-1)
    drawn = logprobs.gather(-1, batch.speakers[:, None])[:, 0]
    ratio = (drawn - batch.before).exp()
    bounded = ratio.clamp(1 - clip, 1 + clip)
    gain = (ratio * batch.advantages).minimum(bounded * batch.advantages)
    divergence = (logprobs.exp() * (logprobs - origin)).sum(-1)
    return (kl * divergence - gain).mean()
