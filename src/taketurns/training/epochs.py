"""The epochs of a training: their checkpoints, their log, and the choice of the best one.

The result is a copy of an epoch's checkpoint, so a run that was killed after its last epoch only
has to copy files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STATE = "trainer_state.json"
ONLY_FOR_GOING_ON = ("optimizer.pt", "scheduler.pt", "training_args.bin", STATE, "README.md")

Log = Sequence[Mapping[str, Any]]
"""The trainer's log: per epoch an entry with "loss", and one with "eval_loss" if it is measured."""


def export(folder: Path, log: Log, best_by: str | None, out: Path) -> int:
    """Copy the model of the best epoch to `out` (of the last epoch if `best_by` is None), without
    the files that only resuming needs. Returns the epoch's number, from 1."""
    if best_by is None:
        epoch, checkpoint = epochs_trained(log), last_checkpoint(folder)
        assert checkpoint is not None, "every epoch ends with a checkpoint"
    else:
        measured = evaluations(log, best_by)
        epoch, best = max(enumerate(measured, 1), key=lambda item: item[1][f"eval_{best_by}"])
        checkpoint = folder / f"checkpoint-{round(best['step'])}"
    out.mkdir(exist_ok=True)
    for file in sorted(checkpoint.iterdir()):
        if file.name not in ONLY_FOR_GOING_ON and not file.name.startswith("rng_state"):
            shutil.copy2(file, out / file.name)
    return epoch


def last_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint. An incomplete one lacks the file that is written last, and is
    removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        try:
            log_of(path)
            whole.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def log_of(checkpoint: Path) -> Log:
    """The trainer's log up to a checkpoint."""
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    log: Log = state["log_history"]
    return log


def epochs_trained(log: Log) -> int:
    """The number of epochs in the log."""
    return sum("loss" in entry for entry in log)


def evaluations(log: Log, metric: str) -> list[Mapping[str, float]]:
    """The entries with this metric, one per epoch."""
    return [entry for entry in log if f"eval_{metric}" in entry]


def is_spent(log: Log, best_by: str | None, patience: int | None) -> bool:
    """True when the last `patience` epochs were no better than one before them."""
    if best_by is None or patience is None:
        return False
    values = [entry[f"eval_{best_by}"] for entry in evaluations(log, best_by)]
    best = max(range(len(values)), key=values.__getitem__, default=0)
    return len(values) - 1 - best >= patience
