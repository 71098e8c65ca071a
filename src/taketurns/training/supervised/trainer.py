"""TRL's SFTTrainer with the loss on one token: the candidate's number after the tagged trace.

Importing this module imports torch and TRL, which takes seconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import EvalPrediction, TrainerCallback

from taketurns.training.supervised.examples import Example
from taketurns.training.supervised.verdict import judge
from taketurns.training.trl import QuietTrainer


class DigitTrainer(QuietTrainer):
    """Learns `targets` `[rows, candidates]` as the distribution of the next token over `digits`.

    Cross-entropy is under the whole vocabulary, so with a target of one candidate this is plain SFT
    of its number. Rows are padded on the left: only the last column needs logits.
    """

    loss_is_scaled_for_ga = False  # a mean over the rows of a step

    def __init__(self, digits: Sequence[int], **arguments: Any) -> None:
        forward = inspect.signature(arguments["model"].forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in forward else {}
        self._digits = list(digits)
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
            position_ids=inputs["position_ids"],
            use_cache=False,
            **self._last_only,
        ).logits[:, -1]
        logprobs = logits.float().log_softmax(-1)[:, self._digits]
        loss = -(inputs["targets"] * logprobs).sum(-1).mean()
        return (loss, logprobs) if return_outputs else loss

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the candidates' probabilities, and the targets."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, logprobs = self.compute_loss(model, inputs, return_outputs=True)
        return loss, logprobs.softmax(-1), inputs["targets"]

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "targets"]


def collate(pad: int) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
    """Rows of different lengths, padded on the left, positions counted from each row's first."""

    def batch(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        missing = [width - len(row["input_ids"]) for row in rows]
        ids = [[pad] * gap + list(row["input_ids"]) for gap, row in zip(missing, rows, strict=True)]
        mask = torch.tensor([[0] * gap + [1] * (width - gap) for gap in missing])
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
            "targets": torch.tensor([row["targets"] for row in rows], dtype=torch.float32),
        }

    return batch


def measure(validation: Sequence[Example]) -> Callable[[EvalPrediction], dict[str, float]]:
    """What is said after every epoch; `merit` chooses the best."""

    def verdict(predicted: EvalPrediction) -> dict[str, float]:
        found = judge(predicted.predictions.tolist(), validation)
        return {"merit": found.merit, **found.to_json()}

    return verdict


class EarlyStop(TrainerCallback):  # type: ignore[misc]
    """Stops when `spent` says so of the history, which a resumed run reads from its checkpoint."""

    def __init__(self, spent: Callable[[Sequence[Mapping[str, Any]]], bool]) -> None:
        self._spent = spent

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._spent(state.log_history):
            control.should_training_stop = True


def told(metrics: Mapping[str, float]) -> str:
    """An epoch's verdict, for a person."""
    return (
        f"utility {metrics['eval_utility']:.4f}, regret {metrics['eval_regret']:.4f}, loss "
        f"{metrics['eval_loss']:.4f}"
    )
