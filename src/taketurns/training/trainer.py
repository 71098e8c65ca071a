"""TRL's SFTTrainer with the loss of an `Objective`. It reports progress and epochs on standard
error only, and stops a training that has diverged.

Importing this module imports torch and TRL, which takes seconds.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTTrainer

from taketurns.runs.progress import Progress
from taketurns.training.divergence import check_gradients, check_loss
from taketurns.training.objective import Objective

FORWARD = ("input_ids", "attention_mask", "position_ids")


class ObjectiveTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """Trains for an objective. A dataset's items are the rows' numbers and lengths."""

    def __init__(self, objective: Objective, **arguments: Any) -> None:
        forward = inspect.signature(arguments["model"].forward).parameters
        last_only = objective.last_token and "logits_to_keep" in forward
        self._last_only = {"logits_to_keep": 1} if last_only else {}
        self._objective = objective
        super().__init__(**arguments)
        self.remove_callback(PrinterCallback)  # standard output is for results
        self.remove_callback(ProgressCallback)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        forward = {name: inputs[name] for name in FORWARD if name in inputs}
        logits = model(**forward, use_cache=False, **self._last_only).logits
        loss, predictions = self._objective.loss(logits, inputs, num_items_in_batch)
        return (loss, predictions) if return_outputs else loss

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The loss, the objective's predictions (if any) and its targets."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, predictions = self.compute_loss(model, inputs, return_outputs=True)
        return loss, predictions, inputs.get("targets")

    def training_step(self, *arguments: Any, **settings: Any) -> Any:
        """Raises NotANumberError for a loss that is NaN; transformers would log 0 and continue."""
        loss = super().training_step(*arguments, **settings)
        check_loss(loss, _step(self.state), _kept(self.args))
        return loss

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row", "length"]

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """Does nothing: the run writes its own card."""

    def _send_telemetry(self) -> None:
        """Does nothing: training sends no telemetry."""


class EpochReport(TrainerCallback):  # type: ignore[misc]
    """Prints progress, and the text that `describe` makes of an epoch's metrics, on standard
    error."""

    def __init__(self, describe: Callable[[Mapping[str, float]], str]) -> None:
        self._describe = describe
        self._progress: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._progress = Progress("training", state.max_steps, state.global_step).__enter__()

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **more: Any
    ) -> None:
        check_gradients(model.parameters(), _step(state), _kept(args))

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._progress is not None:
            self._progress.advance()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **more: Any
    ) -> None:
        check_loss(torch.tensor(metrics["eval_loss"]), "the evaluation", _kept(args))
        line = f"epoch {round(state.epoch or 0)}: {self._describe(metrics)}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)


class EarlyStop(TrainerCallback):  # type: ignore[misc]
    """Stops when `is_over(log)` is true; a resumed run reads the log from its checkpoint."""

    def __init__(self, is_over: Callable[[Sequence[Mapping[str, Any]]], bool]) -> None:
        self._is_over = is_over

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._is_over(state.log_history):
            control.should_training_stop = True


def _step(state: Any) -> str:
    return f"step {state.global_step + 1}"


def _kept(args: Any) -> str:
    """Where the last complete epoch is saved, if there is one."""
    epochs = list(Path(args.output_dir).glob("checkpoint-*"))
    last = max(epochs, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return "" if last is None else f"; the last complete epoch is in {last}"
