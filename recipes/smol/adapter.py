"""Training a stage: a LoRA adapter on documents, by transformers' trainer and PEFT."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.smol.documents import LEARNED_NOT, Document
from taketurns.checkpoints.bundled_base import fetched_version, record_base
from taketurns.engines.local.library_logging import asked_by_an_old_name
from taketurns.errors import DataError
from taketurns.training.epochs import last_checkpoint
from taketurns.utils.files import atomic_folder
from taketurns.utils.json_files import read_json, write_json

RANK = 8
LEARNING_RATE = 5e-4
TOKENS = 2048  # of a step, about
MINUTES = 5  # between two checkpoints


def train_adapter(
    base: Path, documents: Sequence[Document], folder: Path, epochs: float, notes: dict[str, Any]
) -> None:
    """Train an adapter of `base` on documents and write it, in bfloat16, into `folder`, which
    appears when it is complete. Its checkpoints are in `FOLDER.checkpoints`; a stopped training
    goes on from the last of them and ends in the same weights. `notes` go into `stage.json`.
    Raises DataError if the base does not say which one it is."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, set_seed

    version = fetched_version(base)
    if version is None:
        raise DataError(f"{base} does not say which base it is: fetch it with taketurns smol fetch")
    set_seed(0)
    began = time.monotonic()
    lora = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with asked_by_an_old_name():
        model = get_peft_model(plain, lora)
    batches = _batches(documents)
    checkpoints = folder.with_name(f"{folder.name}.checkpoints")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(checkpoints),
            num_train_epochs=epochs,
            per_device_train_batch_size=1,  # one batch of documents of like length
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="cosine",
            warmup_steps=10,
            save_strategy="no",  # by time, below
            save_total_limit=1,
            logging_steps=4,
            remove_unused_columns=False,
            use_cpu=True,
            bf16=True,  # products only; the weights stay in float32
            report_to=[],
            seed=0,
        ),
        train_dataset=batches,
        data_collator=_collate,
        callbacks=[_every(MINUTES)],
    )
    last = last_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    with atomic_folder(folder, replace=True) as draft:
        model.to(torch.bfloat16).save_pretrained(draft)
        _name_base(draft / "adapter_config.json", version.repo)
        record_base(draft, version)
        record = {
            **notes,
            "documents": len(documents),
            "tokens": sum(len(document.ids) for document in documents),
            "epochs": epochs,
            "rank": RANK,
            "learning_rate": LEARNING_RATE,
            "first_loss": losses[0],
            "last_loss": losses[-1],
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        write_json(draft / "stage.json", record)


def _name_base(config: Path, repo: str) -> None:
    """The base by its name on the hub, in place of a path on this machine."""
    write_json(config, {**read_json(config), "base_model_name_or_path": repo})


def _batches(documents: Sequence[Document]) -> list[list[Document]]:
    """Documents of like length together, about `TOKENS` in each batch."""
    batches: list[list[Document]] = []
    for document in sorted(documents, key=lambda document: len(document.ids)):
        width = len(document.ids)
        if not batches or width * (len(batches[-1]) + 1) > TOKENS:
            batches.append([])
        batches[-1].append(document)
    return batches


def _collate(items: list[list[Document]]) -> dict[str, Any]:
    """A batch as tensors; documents are padded on the right."""
    import torch

    [documents] = items
    width = max(len(document.ids) for document in documents)
    ids, labels, mask = [], [], []
    for document in documents:
        missing = width - len(document.ids)
        ids.append([*document.ids, *[0] * missing])
        labels.append([*document.labels, *[LEARNED_NOT] * missing])
        mask.append([1] * len(document.ids) + [0] * missing)
    return {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor(labels),
        "attention_mask": torch.tensor(mask),
    }


def _every(minutes: float) -> Any:
    """A callback of the trainer that saves a checkpoint every few minutes."""
    from transformers import TrainerCallback

    class SaveByTime(TrainerCallback):  # type: ignore[misc]
        saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if time.monotonic() - self.saved >= 60 * minutes:
                self.saved = time.monotonic()
                control.should_save = True

    return SaveByTime()
