"""The loss on one token: the next speaker's number after the tagged trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taketurns.training.objective import left_padded
from taketurns.training.supervised.choice_metrics import measure_choices
from taketurns.training.supervised.examples import Example

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class PromptRow:
    """An example as the model reads it."""

    example: Example
    input_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NextSpeaker:
    """Trains the next token's distribution over `digits`, the tokens of the candidates' numbers, to
    equal each example's target.

    The cross-entropy is over the whole vocabulary, so for a target of one candidate this is SFT on
    its number.
    """

    train: Sequence[PromptRow]
    validation: Sequence[PromptRow]
    digits: Sequence[int]

    best_by = "merit"
    last_token = True
    by_length = False

    @property
    def lengths(self) -> tuple[Sequence[int], Sequence[int]]:
        """The number of tokens of each row, by part."""
        train, validation = (
            [len(row.input_ids) for row in part] for part in (self.train, self.validation)
        )
        return train, validation

    def collate(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """Rows padded on the left, with `targets` `[rows, candidates]`."""
        import torch

        every = [*self.train, *self.validation]
        chosen = [every[row] for row in rows]
        targets = torch.tensor([row.example.target for row in chosen], dtype=torch.float32)
        return {**left_padded([row.input_ids for row in chosen], pad), "targets": targets}

    def loss(
        self, logits: Tensor, batch: Mapping[str, Tensor], items: Any
    ) -> tuple[Tensor, Tensor]:
        """The mean over rows, and the candidates' probabilities `[rows, candidates]`."""
        logprobs = logits[:, -1].float().log_softmax(-1)[:, list(self.digits)]
        return -(batch["targets"] * logprobs).sum(-1).mean(), logprobs.softmax(-1)

    def measure(self, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        """The metrics of the choices on the validation rows."""
        metrics = measure_choices(predictions, [row.example for row in self.validation])
        return {self.best_by: metrics.selection_metric, **metrics.to_json()}

    def describe(self, metrics: Mapping[str, float]) -> str:
        """A line of text with an epoch's metrics."""
        return (
            f"utility {metrics['eval_utility']:.4f}, regret {metrics['eval_regret']:.4f}, loss "
            f"{metrics['eval_loss']:.4f}"
        )
