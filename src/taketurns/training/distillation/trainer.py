"""TRL's SFTTrainer with the loss on what speakers wrote, on what they would have written, or both.

Importing this module imports torch and TRL, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from taketurns.training.distillation.rows import Row
from taketurns.training.distillation.settings import Loss
from taketurns.training.distillation.targets import Targets
from taketurns.training.trl import QuietTrainer

IGNORED = -100


class SpeakerTrainer(QuietTrainer):
    """Learns the tokens of `labels`, and the distributions beside them where a batch has any
    (`collate`). Every token of a step counts the same."""

    def __init__(self, loss: Loss, temperature: float, **arguments: Any) -> None:
        self._kind = loss
        self._temperature = temperature
        super().__init__(**arguments)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        ).logits
        labels = inputs["labels"][:, 1:]
        learned = labels != IGNORED
        foretold = logits[:, :-1][learned].float()
        losses = []
        if self._kind != "kl":
            losses.append(cross_entropy(foretold, labels[learned], reduction="sum"))
        if self._kind != "sft":
            ids, logprobs = inputs["target_ids"], inputs["target_logprobs"]
            losses.append(divergence(foretold, ids, logprobs, self._temperature).sum())
        items = learned.sum() if num_items_in_batch is None else num_items_in_batch
        loss = sum(losses) / len(losses) / items
        return (loss, foretold) if return_outputs else loss

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        """The loss, and no predictions: answers are judged by their scores, later."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs), None, None

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row", "length"]


def divergence(logits: Tensor, ids: Tensor, logprobs: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's next token from the speaker's, `[tokens]`, both
    at `temperature` and times its square, so that gradients are of one size at all of them (Hinton
    et al., arXiv 1503.02531).

    `logits` `[tokens, vocabulary]` are the student's; `ids` and `logprobs` `[tokens, top]` the
    speaker's most probable tokens. All other tokens are one outcome to both, which makes the
    divergence a lower bound of the whole one.
    """
    own = (logits / temperature).log_softmax(-1).gather(-1, ids)
    told_apart = (logprobs.exp() * (logprobs - own)).sum(-1)
    rest, own_rest = (_remainder(part) for part in (logprobs, own))
    return (told_apart + rest * (rest.log() - own_rest.log())) * temperature**2


def _remainder(logprobs: Tensor) -> Tensor:
    """What is left to all other tokens; never nothing, so that its logarithm is finite."""
    return (1 - logprobs.exp().sum(-1)).clamp(min=1e-6)


def collate(
    rows: Sequence[Row], targets: Targets | None, pad: int
) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
    """Batches of `rows` by their numbers, padded on the right; labels cover what speakers wrote and
    the end they gave it."""

    def batch(items: list[dict[str, Any]]) -> dict[str, Tensor]:
        numbers = [int(item["row"]) for item in items]
        chosen = [rows[number] for number in numbers]
        width = max(row.length for row in chosen)
        found = {
            "input_ids": torch.tensor(
                [_padded(row.prompt + row.answer, width, pad) for row in chosen]
            ),
            "attention_mask": torch.tensor([_padded([1] * r.length, width, 0) for r in chosen]),
            "labels": torch.tensor([_padded(labels(row), width, IGNORED) for row in chosen]),
        }
        if targets is not None:
            ids, logprobs = zip(*map(targets.of, numbers), strict=True)
            found |= {"target_ids": torch.cat(ids), "target_logprobs": torch.cat(logprobs)}
        return found

    return batch


def labels(row: Row) -> list[int]:
    """A row's tokens where they are learned, and what the loss ignores elsewhere."""
    written = zip(row.answer, row.speakers, strict=True)
    return [
        *[IGNORED] * len(row.prompt),
        *(token if speaker is not None else IGNORED for token, speaker in written),
    ]


def _padded(values: Sequence[int], width: int, filler: int) -> list[int]:
    return [*values, *[filler] * (width - len(values))]


def told(metrics: Mapping[str, float]) -> str:
    """An epoch's loss, for a person."""
    return f"loss {metrics['eval_loss']:.4f} on held-out questions"
