"""Training the student (TRL, LoRA by PEFT).

An epoch ends with a checkpoint; a killed run goes on from the last whole one and ends in the same
weights. The last epoch's files are the student.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taketurns.engines.local.adapters import put_on
from taketurns.engines.local.library_logging import quiet
from taketurns.errors import ConfigError
from taketurns.training.distillation.rows import Row
from taketurns.training.distillation.settings import Learning
from taketurns.training.distillation.targets import Targets
from taketurns.training.models import load_trainable, lora_config, one_thread, size
from taketurns.training.rehearsal import rehearse_saving
from taketurns.training.supervised.lm import (
    CHECKPOINTING,
    ROWS_AT_ONCE,
    copy_model,
    history_of,
    last_checkpoint,
    rows_at_once,
)
from taketurns.training.supervised.settings import SMALL
from taketurns.types import ModelSpec


@dataclass(frozen=True, slots=True)
class StudentTrainingJob:
    """What a run of these settings does with this model."""

    lora: bool
    small: bool
    parameters: int
    epochs: int
    learning_rate: float
    weight_decay: float
    rows_at_once: int

    @classmethod
    def of(cls, parameters: int, adapted: bool, learning: Learning) -> StudentTrainingJob:
        """`adapted` is true of a model that is an adapter already: it goes on as one."""
        small = parameters < SMALL
        lora = adapted or (not small if learning.lora is None else learning.lora)
        return cls(
            lora=lora,
            small=small,
            parameters=parameters,
            epochs=learning.epochs or 3,
            learning_rate=learning.learning_rate or (2e-4 if lora else 5e-4),
            weight_decay=0.0 if learning.weight_decay is None else learning.weight_decay,
            rows_at_once=rows_at_once(small, learning.batch_size),
        )


def tune(
    start: ModelSpec,
    train: Sequence[Row],
    held_out: Sequence[Row],
    targets: Targets | None,
    folder: Path,
    learning: Learning,
) -> tuple[StudentTrainingJob, list[Mapping[str, float]]]:
    """Train until it is over, going on from what is in `folder`; the plan and a record an epoch.
    `targets` are of the rows in `train`, then those in `held_out`. Raises ConfigError if the model
    cannot be loaded."""
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig

    from taketurns.engines.local.loading import choose_device
    from taketurns.training.distillation.trainer import SpeakerTrainer, collate, told
    from taketurns.training.trl import Watch

    set_seed(learning.seed)
    with quiet():
        model, tokenizer = _load(start, learning)
    plan = StudentTrainingJob.of(size(model), start.adapter is not None, learning)
    last = last_checkpoint(folder)
    if last is not None and len(epochs := _epochs(history_of(last))) >= plan.epochs:
        return plan, epochs
    if start.adapter is not None:
        model = put_on(model, start.adapter, "default", trainable=True)
    rows = [*train, *held_out]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    steps = plan.epochs * -(-len(train) // learning.batch_size)
    cpu = choose_device(start.device) == "cpu"
    with quiet(), one_thread(plan.small and cpu):
        trainer = SpeakerTrainer(
            loss=learning.loss,
            temperature=learning.temperature,
            model=model,
            args=SFTConfig(
                output_dir=str(folder.resolve()),
                num_train_epochs=plan.epochs,
                per_device_train_batch_size=plan.rows_at_once,
                per_device_eval_batch_size=max(plan.rows_at_once, ROWS_AT_ONCE),
                gradient_accumulation_steps=learning.batch_size // plan.rows_at_once,
                learning_rate=plan.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=steps // 20,
                weight_decay=plan.weight_decay,
                train_sampling_strategy="group_by_length",
                length_column_name="length",
                max_length=None,
                packing=False,
                completion_only_loss=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                activation_checkpointing=plan.parameters >= CHECKPOINTING,
                bf16=not cpu and not plan.small,
                use_cpu=cpu,
                eval_strategy="epoch" if held_out else "no",
                save_strategy="epoch",
                save_total_limit=2,
                logging_strategy="epoch",
                disable_tqdm=True,
                report_to=learning.report_to,
                seed=learning.seed,
            ),
            data_collator=collate(rows, targets, pad),
            train_dataset=Dataset.from_list(_items(rows, 0, len(train))),
            eval_dataset=Dataset.from_list(_items(rows, len(train), len(rows)))
            if held_out
            else None,
            processing_class=tokenizer,
            callbacks=[Watch(told)],
            peft_config=lora_config(learning.rank) if plan.lora and not start.adapter else None,
        )
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    history = _epochs(trainer.state.log_history)
    del model, trainer
    gc.collect()  # a trainer is a circle; its memory is wanted for what comes next
    return plan, history


def rehearse(start: ModelSpec, folder: Path, learning: Learning) -> None:
    """Try to save what `tune` will train, unless it has begun. Raises ConfigError if the model
    cannot be loaded or saved, DataError where there is no room for it."""
    if last_checkpoint(folder) is not None:
        return
    with quiet():
        model, tokenizer = _load(start, learning)
        plan = StudentTrainingJob.of(size(model), start.adapter is not None, learning)
        if start.adapter is not None:
            model = put_on(model, start.adapter, "default", trainable=True)
        elif plan.lora:
            from peft import get_peft_model

            model = get_peft_model(model, lora_config(learning.rank))
        rehearse_saving(model, tokenizer, folder, plan.epochs)
    del model
    gc.collect()


def _load(start: ModelSpec, learning: Learning) -> tuple[Any, Any]:
    if start.adapter is not None and learning.lora is False:
        raise ConfigError(
            f"{start.adapter} is an adapter and cannot be trained whole: leave --full out"
        )
    return load_trainable(start, learning.lora if start.adapter is None else True)


def export(folder: Path, out: Path) -> None:
    """Copy the last epoch's model to `out`."""
    last = last_checkpoint(folder)
    assert last is not None, "export() after tune()"
    out.mkdir(exist_ok=True)
    copy_model(last, out)


def _items(rows: Sequence[Row], first: int, last: int) -> list[dict[str, int]]:
    return [{"row": number, "length": rows[number].length} for number in range(first, last)]


def _epochs(log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, float]]:
    """A record an epoch: the loss on what was learned, and on held-out questions if there are
    any."""
    losses = [entry["loss"] for entry in log if "loss" in entry]
    held_out = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    return [
        {"loss": loss, **({"held_out": held_out[i]} if i < len(held_out) else {})}
        for i, loss in enumerate(losses)
    ]
