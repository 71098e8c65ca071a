"""What a language model is trained for: rows, their loss, and the metrics of an epoch.

There are two objectives: to name the next speaker (`supervised/objective.py`), and to write what a
team wrote (`distillation/objective.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Objective(Protocol):
    """Rows have numbers: first the training rows, then the held-out rows."""

    @property
    def lengths(self) -> tuple[Sequence[int], Sequence[int]]:
        """The number of tokens of each training row, and of each held-out row."""
        ...

    @property
    def best_by(self) -> str | None:
        """The metric that chooses the epoch, by its highest value; None keeps the last epoch."""
        ...

    @property
    def last_token(self) -> bool:
        """Whether the loss reads only the logits after a row's last token; then rows are padded on
        the left."""
        ...

    @property
    def by_length(self) -> bool:
        """Whether rows of similar lengths share a batch."""
        ...

    def collate(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """A batch: the model's inputs, and what `loss` needs besides the logits."""
        ...

    def loss(
        self, logits: Tensor, batch: Mapping[str, Tensor], items: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The loss, a scalar, and the predictions for `measure`, if any. `logits` are `[rows,
        tokens, vocabulary]`; `items` is the number of learned tokens of the whole step, if it is
        known."""
        ...

    def measure(self, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        """An epoch's metrics, from the predictions for all held-out rows."""
        ...

    def describe(self, metrics: Mapping[str, float]) -> str:
        """A line of text with the metrics of an epoch; their keys begin with "eval_"."""
        ...


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `position_ids` `[rows, longest]` of token ids; positions
    are counted from each row's first token."""
    import torch

    width = max(map(len, rows))
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {
        "input_ids": torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows]),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
    }
