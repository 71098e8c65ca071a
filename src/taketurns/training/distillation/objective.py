"""The distillation loss: on the written tokens, on the speakers' distributions, or on both.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from taketurns.training.distillation.rows import StudentRow
from taketurns.training.distillation.settings import Loss
from taketurns.training.distillation.targets import Targets

IGNORED = -100


@dataclass(frozen=True, slots=True)
class SpeakerImitation:
    """Trains on the tokens of `train` that speakers wrote, and, with `targets`, on the speakers'
    distributions at these tokens. `targets` are those of the rows in `train`, then of `held_out`.
    All tokens of a step have equal weights."""

    train: Sequence[StudentRow]
    held_out: Sequence[StudentRow]
    targets: Targets | None
    kind: Loss
    temperature: float

    best_by = None
    last_token = False
    by_length = True

    @property
    def lengths(self) -> tuple[Sequence[int], Sequence[int]]:
        """The number of tokens of each row, by part."""
        train, held_out = ([row.length for row in part] for part in (self.train, self.held_out))
        return train, held_out

    def collate(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """Rows padded on the right; labels cover the tokens that speakers wrote, with the end
        token."""
        every = [*self.train, *self.held_out]
        chosen = [every[row] for row in rows]
        width = max(row.length for row in chosen)
        batch = {
            "input_ids": torch.tensor(
                [_padded(row.prompt + row.answer, width, pad) for row in chosen]
            ),
            "attention_mask": torch.tensor([_padded([1] * r.length, width, 0) for r in chosen]),
            "labels": torch.tensor([_padded(labels_of(row), width, IGNORED) for row in chosen]),
        }
        if self.targets is not None:
            ids, logprobs = zip(*map(self.targets.of, rows), strict=True)
            batch |= {"target_ids": torch.cat(ids), "target_logprobs": torch.cat(logprobs)}
        return batch

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor], items: Any) -> tuple[Tensor, None]:
        """The mean loss over the learned tokens of the step."""
        wanted = batch["labels"][:, 1:]
        learned = wanted != IGNORED
        foretold = logits[:, :-1][learned].float()
        losses = []
        if self.kind != "kl":
            losses.append(cross_entropy(foretold, wanted[learned], reduction="sum"))
        if self.kind != "sft":
            ids, logprobs = batch["target_ids"], batch["target_logprobs"]
            losses.append(divergence(foretold, ids, logprobs, self.temperature).sum())
        count = learned.sum() if items is None else items
        return torch.stack(losses).sum() / len(losses) / count, None

    def measure(self, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        """No metrics: the student's answers are scored later."""
        return {}

    def describe(self, metrics: Mapping[str, float]) -> str:
        """A line of text with an epoch's loss."""
        return f"loss {metrics['eval_loss']:.4f} on held-out questions"


def divergence(logits: Tensor, ids: Tensor, logprobs: Tensor, temperature: float) -> Tensor:
    """The Kullback-Leibler divergence of the student's distribution over the next token from the
    speaker's, `[tokens]`, both at `temperature`; multiplied by the square of `temperature`, so that
    gradients have comparable sizes at all temperatures (Hinton et al., arXiv 1503.02531).

    `logits` `[tokens, vocabulary]` are the student's; `ids` and `logprobs` `[tokens, top]` are the
    speaker's most probable tokens. All other tokens count as one outcome, so the result is a lower
    bound of the full divergence.
    """
    student = (logits / temperature).log_softmax(-1).gather(-1, ids)
    told_apart = (logprobs.exp() * (logprobs - student)).sum(-1)
    rest, student_rest = (_remainder(part) for part in (logprobs, student))
    return (told_apart + rest * (rest.log() - student_rest.log())) * temperature**2


def _remainder(logprobs: Tensor) -> Tensor:
    """The probability of all other tokens; at least 1e-6, so that its logarithm is finite."""
    return (1 - logprobs.exp().sum(-1)).clamp(min=1e-6)


def labels_of(row: StudentRow) -> list[int]:
    """A row's learned tokens, and `IGNORED` for the others."""
    written = zip(row.answer, row.speakers, strict=True)
    return [
        *[IGNORED] * len(row.prompt),
        *(token if speaker is not None else IGNORED for token, speaker in written),
    ]


def _padded(values: Sequence[int], width: int, filler: int) -> list[int]:
    return [*values, *[filler] * (width - len(values))]
