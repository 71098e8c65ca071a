"""Training a language model for an objective (TRL, LoRA by PEFT).

Each epoch ends with a checkpoint. A killed run continues from the last complete one and ends in the
same weights.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taketurns.engines.local.adapters import put_on
from taketurns.engines.local.library_logging import quiet
from taketurns.errors import ConfigError
from taketurns.training.epochs import Log, epochs_trained, is_spent, last_checkpoint, log_of
from taketurns.training.models import load_trainable, lora_config, one_thread, size
from taketurns.training.objective import Objective
from taketurns.training.rehearsal import rehearse_saving
from taketurns.training.settings import SMALL, FineTuningConfig
from taketurns.types import ModelSpec

ROWS_AT_ONCE = 4  # of a large model in one forward
CHECKPOINTING = 1_000_000_000  # parameters from which activation checkpointing is used


@dataclass(frozen=True, slots=True)
class Defaults:
    """What None means in a config, for an adapter and for all weights."""

    lora_epochs: int
    full_epochs: int
    full_weight_decay: float
    lora_rate: float = 2e-4
    full_rate: float = 5e-4


@dataclass(frozen=True, slots=True)
class FineTuningPlan:
    """The settings of a run for a model of `parameters` weights, with every default resolved."""

    lora: bool
    small: bool
    parameters: int
    epochs: int
    learning_rate: float
    weight_decay: float
    rows_at_once: int

    @classmethod
    def of(
        cls, parameters: int, config: FineTuningConfig, defaults: Defaults, adapted: bool = False
    ) -> FineTuningPlan:
        """`adapted`: the model is an adapter already, and the adapter is trained further."""
        small = parameters < SMALL
        lora = adapted or (not small if config.lora is None else config.lora)
        decay = 0.0 if lora else defaults.full_weight_decay
        return cls(
            lora=lora,
            small=small,
            parameters=parameters,
            epochs=config.epochs or (defaults.lora_epochs if lora else defaults.full_epochs),
            learning_rate=config.learning_rate
            or (defaults.lora_rate if lora else defaults.full_rate),
            weight_decay=decay if config.weight_decay is None else config.weight_decay,
            rows_at_once=_rows_at_once(small, config.batch_size),
        )


def fine_tune(
    start: ModelSpec,
    objective: Objective,
    folder: Path,
    config: FineTuningConfig,
    defaults: Defaults,
    patience: int | None = None,
) -> tuple[FineTuningPlan, Log]:
    """Train for all epochs, or until the last `patience` epochs are no better than an earlier one;
    continues from the checkpoints in `folder`. Returns the settings used and the trainer's log.
    Raises ConfigError if the model cannot be loaded or saved, DataError if the disk has no room for
    it, NotANumberError if training diverges."""
    from datasets import Dataset
    from transformers import EvalPrediction, set_seed
    from trl import SFTConfig

    from taketurns.engines.local.loading import choose_device
    from taketurns.training.trainer import EarlyStop, EpochReport, ObjectiveTrainer

    def spent(log: Log) -> bool:
        return is_spent(log, objective.best_by, patience)

    def measure(predicted: EvalPrediction) -> dict[str, float]:
        return objective.measure(predicted.predictions.tolist())

    set_seed(config.seed)
    with quiet():
        model, tokenizer = _load(start, config)
    plan = FineTuningPlan.of(size(model), config, defaults, start.adapter is not None)
    last = last_checkpoint(folder)
    if last is not None and (epochs_trained(log := log_of(last)) >= plan.epochs or spent(log)):
        return plan, log
    if start.adapter is not None:
        model = put_on(model, start.adapter, "default", trainable=True)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    train, held_out = objective.lengths
    steps = plan.epochs * -(-len(train) // config.batch_size)
    cpu = choose_device(start.device) == "cpu"
    with quiet(), one_thread(plan.small and cpu):
        trainer = ObjectiveTrainer(
            objective=objective,
            model=model,
            args=SFTConfig(
                output_dir=str(folder.resolve()),
                num_train_epochs=plan.epochs,
                per_device_train_batch_size=plan.rows_at_once,
                per_device_eval_batch_size=max(plan.rows_at_once, ROWS_AT_ONCE),
                gradient_accumulation_steps=config.batch_size // plan.rows_at_once,
                learning_rate=plan.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=steps // 20,
                weight_decay=plan.weight_decay,
                train_sampling_strategy="group_by_length" if objective.by_length else "random",
                length_column_name="length",
                max_length=None,
                packing=False,
                completion_only_loss=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                **checkpointing(SFTConfig, plan.parameters >= CHECKPOINTING),
                bf16=not cpu and not plan.small,
                use_cpu=cpu,
                eval_strategy="epoch" if held_out else "no",
                save_strategy="epoch",
                save_total_limit=2,
                metric_for_best_model=objective.best_by,
                logging_strategy="epoch",
                disable_tqdm=True,
                report_to=config.report_to,
                seed=config.seed,
            ),
            data_collator=lambda items: objective.collate([item["row"] for item in items], pad),
            train_dataset=Dataset.from_list(_items(train, 0)),
            eval_dataset=Dataset.from_list(_items(held_out, len(train))) if held_out else None,
            processing_class=tokenizer,
            compute_metrics=None if objective.best_by is None else measure,
            callbacks=[EarlyStop(spent), EpochReport(objective.describe)],
            peft_config=lora_config(config.rank) if plan.lora and not start.adapter else None,
        )
        if last is None:
            rehearse_saving(trainer.model, tokenizer, folder, plan.epochs)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    log = trainer.state.log_history
    del model, trainer
    gc.collect()  # a trainer is a reference cycle; its memory is needed by the next step
    return plan, log


def rehearse(start: ModelSpec, folder: Path, config: FineTuningConfig, defaults: Defaults) -> None:
    """Try once to save the model that `fine_tune` will train, unless training has begun. Raises
    ConfigError if the model cannot be loaded or saved, DataError if the disk has no room for it."""
    if last_checkpoint(folder) is not None:
        return
    with quiet():
        model, tokenizer = _load(start, config)
        plan = FineTuningPlan.of(size(model), config, defaults, start.adapter is not None)
        if start.adapter is not None:
            model = put_on(model, start.adapter, "default", trainable=True)
        elif plan.lora:
            from peft import get_peft_model

            model = get_peft_model(model, lora_config(config.rank))
        rehearse_saving(model, tokenizer, folder, plan.epochs)
    del model
    gc.collect()


def _load(start: ModelSpec, config: FineTuningConfig) -> tuple[Any, Any]:
    if start.adapter is not None and config.lora is False:
        raise ConfigError(
            f"{start.adapter} is a LoRA adapter, and --full trains all weights of a model: leave "
            "out --full"
        )
    return load_trainable(start, config.lora if start.adapter is None else True)


def checkpointing(arguments: type[Any], wanted: bool) -> dict[str, bool]:
    """The argument of a trainer that saves memory by computing activations twice, by the name that
    the installed transformers has: 5.19, which vLLM 0.32 asks for, knows only the older one."""
    names = ("activation_checkpointing", "gradient_checkpointing")
    return {next(name for name in names if name in arguments.__dataclass_fields__): wanted}


def _rows_at_once(small: bool, batch_size: int) -> int:
    """A small model reads all rows of a step in one forward, a large one an equal part of them."""
    if small:
        return batch_size
    fits = range(1, min(ROWS_AT_ONCE, batch_size) + 1)
    return max(rows for rows in fits if batch_size % rows == 0)


def _items(lengths: Sequence[int], first: int) -> list[dict[str, int]]:
    return [{"row": first + place, "length": length} for place, length in enumerate(lengths)]
