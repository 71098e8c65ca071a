"""A trial of the last step of a training before the first: saving the model and its tokenizer in
the same folder, with room on the disk for all checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taketurns.errors import ConfigError, DataError, one_line
from taketurns.utils.files import require_room, trial_folder

KEPT = 3  # checkpoints at a time: two, and the one that is being written
STATES = 8  # bytes of optimizer state for each weight that is trained


def rehearse_saving(model: Any, tokenizer: Any, folder: Path, epochs: int) -> None:
    """Save the untrained `model` and `tokenizer` under `folder`, and remove them again. Raises
    ConfigError if one of them cannot be saved, DataError if the folder cannot be written or has no
    room for the checkpoints of `epochs` epochs."""
    try:
        with trial_folder(folder) as made:
            model.save_pretrained(made)
            tokenizer.save_pretrained(made)
            size = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # any type: model and tokenizer may have their own code
        raise ConfigError(
            "the model or its tokenizer cannot be saved, so the model is not trained: "
            f"{one_line(error)}"
        ) from error
    learned = sum(int(p.numel()) for p in model.parameters() if p.requires_grad)
    needed = min(epochs, KEPT) * (size + STATES * learned) + size
    require_room(folder, needed, "the checkpoints of a training")
