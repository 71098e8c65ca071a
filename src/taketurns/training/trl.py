"""What our trainers have in common: TRL's SFTTrainer that says nothing by itself, and a callback
that says how far it is. Both stop a training that has diverged.

Importing this module imports torch and TRL, which takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTTrainer

from taketurns.runs.progress import Progress
from taketurns.training.divergence import check_gradients, check_loss


class QuietTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """Prints nothing, writes no card and tells nobody."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.remove_callback(PrinterCallback)  # standard output is for results
        self.remove_callback(ProgressCallback)

    def training_step(self, *arguments: Any, **settings: Any) -> Any:
        """As transformers', which logs a loss that is NaN as 0 and goes on. Raises
        NotANumberError."""
        loss = super().training_step(*arguments, **settings)
        check_loss(loss, _step(self.state), _kept(self.args))
        return loss

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """The run writes a card of its own."""

    def _send_telemetry(self) -> None:
        """Training tells nobody."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Progress, and what `told` makes of an epoch's metrics, on standard error."""

    def __init__(self, told: Callable[[Mapping[str, float]], str]) -> None:
        self._told = told
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
        line = f"epoch {round(state.epoch or 0)}: {self._told(metrics)}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)


def _step(state: Any) -> str:
    return f"step {state.global_step + 1}"


def _kept(args: Any) -> str:
    """Where the last whole epoch is, if there is one."""
    epochs = list(Path(args.output_dir).glob("checkpoint-*"))
    last = max(epochs, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return "" if last is None else f", and the last whole epoch before it is in {last}"
