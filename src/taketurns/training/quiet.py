"""What our trainers have in common: TRL's SFTTrainer that says nothing by itself, and a callback
that says how far it is.

Importing this module imports torch and TRL, which takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTTrainer

from taketurns.terminal import Progress


class QuietTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """Prints nothing, writes no card and tells nobody."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.remove_callback(PrinterCallback)  # standard output is for results
        self.remove_callback(ProgressCallback)

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

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._progress is not None:
            self._progress.advance()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **more: Any
    ) -> None:
        line = f"epoch {round(state.epoch or 0)}: {self._told(metrics)}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
