"""What a language model is trained for: rows, their loss, and what an epoch is worth.

There are two objectives: to name the next speaker (`supervised/objective.py`), and to write what a
team wrote (`distillation/objective.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Objective(Protocol):
    """Rows are named by their numbers: first those that are learned, then those held out."""

    @property
    def lengths(self) -> tuple[Sequence[int], Sequence[int]]:
        """The tokens of each row that is learned, and of each that is held out."""
        ...

    @property
    def best_by(self) -> str | None:
        """The metric whose highest value chooses the epoch; None keeps the last epoch."""
        ...

    @property
    def last_token(self) -> bool:
        """Whether only the logits after a row's last token are read; rows are padded on the
        left."""
        ...

    @property
    def by_length(self) -> bool:
        """Whether rows of like lengths share a batch."""
        ...

    def collate(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """A batch: what the model reads and what `loss` needs beside its logits."""
        ...

    def loss(
        self, logits: Tensor, batch: Mapping[str, Tensor], items: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The loss, a scalar, and the predictions to measure, if any. `logits` are `[rows, tokens,
        vocabulary]`; `items` counts the learned tokens of the whole step where it is known."""
        ...

    def measure(self, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        """An epoch's metrics, from the predictions for all rows held out."""
        ...

    def describe(self, metrics: Mapping[str, float]) -> str:
        """The metrics of an epoch for a person; their keys begin with "eval_"."""
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
