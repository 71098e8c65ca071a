"""The loss on what speakers wrote, on what they would have written, or on both.

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
    """Learns the tokens of `train` that speakers wrote, and with `targets`, which are of the rows
    in `train` and then those in `held_out`, the distributions beside them. Every token of a step
    counts the same."""

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
        """The tokens of each row, by part."""
        train, held_out = ([row.length for row in part] for part in (self.train, self.held_out))
        return train, held_out

    def collate(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """Rows padded on the right; labels cover what speakers wrote and the end they gave it."""
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
        """The mean over the learned tokens of the step."""
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
        """Nothing: answers are judged by their scores, later."""
        return {}

    def describe(self, metrics: Mapping[str, float]) -> str:
        """An epoch's loss, for a person."""
        return f"loss {metrics['eval_loss']:.4f} on held-out questions"


def divergence(logits: Tensor, ids: Tensor, logprobs: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's next token from the speaker's, `[tokens]`, both
    at `temperature` and times its square, so that gradients are of one size at all of them (Hinton
    et al., arXiv 1503.02531).

    `logits` `[tokens, vocabulary]` are the student's; `ids` and `logprobs` `[tokens, top]` the
    speaker's most probable tokens. All other tokens are one outcome to both, which makes the
    divergence a lower bound of the whole one.
    """
    student = (logits / temperature).log_softmax(-1).gather(-1, ids)
    told_apart = (logprobs.exp() * (logprobs - student)).sum(-1)
    rest, student_rest = (_remainder(part) for part in (logprobs, student))
    return (told_apart + rest * (rest.log() - student_rest.log())) * temperature**2


def _remainder(logprobs: Tensor) -> Tensor:
    """What is left to all other tokens; never nothing, so that its logarithm is finite."""
    return (1 - logprobs.exp().sum(-1)).clamp(min=1e-6)


def labels_of(row: StudentRow) -> list[int]:
    """A row's tokens where they are learned, and what the loss ignores elsewhere."""
    written = zip(row.answer, row.speakers, strict=True)
    return [
        *[IGNORED] * len(row.prompt),
        *(token if speaker is not None else IGNORED for token, speaker in written),
    ]


def _padded(values: Sequence[int], width: int, filler: int) -> list[int]:
    return [*values, *[filler] * (width - len(values))]
