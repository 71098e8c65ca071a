"""Tuning a language model to write the number of who should speak next (TRL, LoRA by PEFT).

An epoch ends with a checkpoint; a killed run goes on from the last whole one and ends in the same
weights. The best epoch's files are the result, so a run that was killed after its last epoch only
has to copy them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taketurns.config.team_config import EngineConfig, TeamConfig
from taketurns.engines.local.library_logging import quiet
from taketurns.errors import ConfigError, DataError
from taketurns.switchers import candidate_order
from taketurns.switchers.lm import LMSwitcher
from taketurns.training.models import load_trainable, lora_config, one_thread, size
from taketurns.training.rehearsal import rehearse_saving
from taketurns.training.supervised.examples import Example
from taketurns.training.supervised.settings import SMALL, LMSettings, TrainingConfig
from taketurns.types import ModelSpec
from taketurns.utils.finite import probabilities as probabilities_of

START = "(start)"
UNDER_WAY = 64
ROWS_AT_ONCE = 4  # of a large model in one forward
CHECKPOINTING = 1_000_000_000  # parameters from which activations are computed twice
STATE = "trainer_state.json"
ONLY_FOR_GOING_ON = ("optimizer.pt", "scheduler.pt", "training_args.bin", STATE, "README.md")


@dataclass(frozen=True, slots=True)
class LMTrainingJob:
    """What a run of these settings does with this model."""

    lora: bool
    small: bool
    parameters: int
    epochs: int
    learning_rate: float
    weight_decay: float
    rows_at_once: int

    @classmethod
    def of(cls, parameters: int, settings: LMSettings, course: TrainingConfig) -> LMTrainingJob:
        """The paper's numbers for LoRA; for all weights of a small model, those that suit the
        pocket models."""
        small = parameters < SMALL
        lora = not small if settings.lora is None else settings.lora
        return cls(
            lora=lora,
            small=small,
            parameters=parameters,
            epochs=course.epochs or (5 if lora else 6),
            learning_rate=course.learning_rate or (2e-4 if lora else 5e-4),
            weight_decay=(
                (0.0 if lora else 0.05) if course.weight_decay is None else course.weight_decay
            ),
            rows_at_once=rows_at_once(small, course.batch_size),
        )


def rows_at_once(small: bool, batch_size: int) -> int:
    """A small model takes a whole step's rows in one forward, a large one an equal part of them."""
    if small:
        return batch_size
    fits = range(1, min(ROWS_AT_ONCE, batch_size) + 1)
    return max(rows for rows in fits if batch_size % rows == 0)


@dataclass(frozen=True, slots=True)
class Row:
    """An example as the model reads it."""

    example: Example
    input_ids: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"input_ids": list(self.input_ids), "targets": list(self.example.target)}


@dataclass(frozen=True, slots=True)
class Rendered:
    """The rows of a run, the ids of the candidates' numbers in the team's order, and how many rows
    are too long for the `context`, in tokens, of the model that is to read them."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    digits: tuple[int, ...]
    too_long: int
    context: int


def start_spec(team: TeamConfig, settings: LMSettings) -> ModelSpec:
    """The model to start from. Raises ConfigError for one that is an adapter itself."""
    candidates = {candidate.name: candidate.spec for candidate in team.candidates}
    if settings.start is not None and settings.start not in candidates:
        place = Path(settings.start).expanduser()
        return ModelSpec(str(place.resolve()) if place.is_dir() else settings.start)
    name = settings.start or team.candidates[-1].name
    if candidates[name].adapter is not None:
        raise ConfigError(
            f"{name} is an adapter on {candidates[name].model}; name a whole model with --start"
        )
    return candidates[name]


def numbered(team: TeamConfig, start: ModelSpec) -> tuple[str, ...]:
    """The candidates in the order of their numbers: the start's own if it is a switcher for them,
    else the team's."""
    names = tuple(candidate.name for candidate in team.candidates)
    own = candidate_order.load(start)
    return own if sorted(own) == sorted(names) else names


async def render(
    team: TeamConfig,
    start: ModelSpec,
    train: Sequence[Example],
    validation: Sequence[Example],
) -> Rendered:
    """What the switcher will read at inference, by the code that will render it there. Rows that do
    not fit its context are left out and counted. Raises ConfigError if it cannot number the
    candidates, DataError if no row fits."""
    from taketurns.engines.local.engine import LocalEngine

    specs = {candidate.name: candidate.spec for candidate in team.candidates}
    engine = LocalEngine(specs | {START: start})  # reads tokenizers; no weights are loaded
    try:
        switcher = LMSwitcher(START, candidates=numbered(team, start))
        await switcher.prepare(engine, [await engine.info(name) for name in specs])
        context = (await engine.info(START)).context
    finally:
        await engine.close()

    def rows(examples: Sequence[Example]) -> tuple[Row, ...]:
        return tuple(
            Row(x, tuple(switcher.tagged(x.label.query).prompt(x.label.prefix))) for x in examples
        )

    def fitting(rows: Sequence[Row]) -> tuple[Row, ...]:
        return tuple(row for row in rows if len(row.input_ids) < context)

    learned, chosen = rows(train), rows(validation)
    kept = fitting(learned), fitting(chosen)
    if not all(kept):
        raise DataError(
            f"no example fits the context of {start.model}, {context} tokens; start from a model "
            "that reads more"
        )
    dropped = len(learned) + len(chosen) - sum(map(len, kept))
    return Rendered(kept[0], kept[1], tuple(switcher.digits), dropped, context)


def tune(
    start: ModelSpec, rows: Rendered, folder: Path, settings: LMSettings, course: TrainingConfig
) -> tuple[LMTrainingJob, list[Mapping[str, float]]]:
    """Train until it is over, going on from what is in `folder`; the plan and the history of
    epochs. Raises ConfigError if the model cannot be loaded or saved, DataError where there is no
    room for it."""
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig

    from taketurns.engines.local.loading import choose_device
    from taketurns.training.supervised.trainer import (
        DigitTrainer,
        EarlyStop,
        collate,
        measure,
        told,
    )
    from taketurns.training.trl import Watch

    def spent(history: Sequence[Mapping[str, Any]]) -> bool:
        return is_spent(epochs_of(history), course.patience)

    set_seed(course.seed)
    with quiet():
        model, tokenizer = load_trainable(start, lora=settings.lora)
    plan = LMTrainingJob.of(size(model), settings, course)
    last = last_checkpoint(folder)
    if last is not None and is_over(history_of(last), plan, course):
        return plan, epochs_of(history_of(last))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    steps = plan.epochs * -(-len(rows.train) // course.batch_size)
    cpu = choose_device(start.device) == "cpu"
    with quiet(), one_thread(plan.small and cpu):
        trainer = DigitTrainer(
            digits=rows.digits,
            model=model,
            args=SFTConfig(
                output_dir=str(folder.resolve()),
                num_train_epochs=plan.epochs,
                per_device_train_batch_size=plan.rows_at_once,
                per_device_eval_batch_size=max(plan.rows_at_once, ROWS_AT_ONCE),
                gradient_accumulation_steps=course.batch_size // plan.rows_at_once,
                learning_rate=plan.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=steps // 20,
                weight_decay=plan.weight_decay,
                max_length=None,
                packing=False,
                completion_only_loss=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                activation_checkpointing=plan.parameters >= CHECKPOINTING,
                bf16=not cpu and not plan.small,
                use_cpu=cpu,
                eval_strategy="epoch",
                save_strategy="epoch",
                save_total_limit=2,
                metric_for_best_model="merit",
                greater_is_better=True,
                logging_strategy="epoch",
                disable_tqdm=True,
                report_to=settings.report_to,
                seed=course.seed,
            ),
            data_collator=collate(pad),
            train_dataset=Dataset.from_list([row.to_json() for row in rows.train]),
            eval_dataset=Dataset.from_list([row.to_json() for row in rows.validation]),
            processing_class=tokenizer,
            compute_metrics=measure([row.example for row in rows.validation]),
            callbacks=[EarlyStop(spent), Watch(told)],
            peft_config=lora_config(settings.rank) if plan.lora else None,
        )
        if last is None:
            rehearse_saving(trainer.model, tokenizer, folder, plan.epochs)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    history = epochs_of(trainer.state.log_history)
    del model, trainer
    gc.collect()  # a trainer is a circle; its memory is wanted for what comes next
    return plan, history


def export(folder: Path, history: Sequence[Mapping[str, float]], out: Path) -> int:
    """Copy the best epoch's files to `out`; which epoch it was, from 1."""
    best = max(range(len(history)), key=lambda index: history[index]["eval_merit"])
    copy_model(folder / f"checkpoint-{round(history[best]['step'])}", out)
    return best + 1


def copy_model(checkpoint: Path, out: Path) -> None:
    """Copy what makes the model, and not what only going on needs."""
    for file in sorted(checkpoint.iterdir()):
        if file.name not in ONLY_FOR_GOING_ON and not file.name.startswith("rng_state"):
            shutil.copy2(file, out / file.name)


async def probabilities(
    tuned: ModelSpec, engine_settings: EngineConfig, rows: Sequence[Row], digits: Sequence[int]
) -> list[list[float]]:
    """What the finished switcher gives each candidate, by the engine that will run it."""
    from taketurns.engines.local.engine import LocalEngine

    engine = LocalEngine.configured({START: tuned}, engine_settings)
    gate = asyncio.Semaphore(UNDER_WAY)

    async def of(row: Row) -> list[float]:
        async with gate, engine.session(0, len(row.input_ids) + 1) as session:
            scores = await session.score(START, row.input_ids, digits)
        return list(probabilities_of(scores, "the trained switcher"))

    try:
        return list(await asyncio.gather(*map(of, rows)))
    finally:
        await engine.close()


def last_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint. A torn one, which lacks the file that is written last, is
    removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        try:
            json.loads((path / STATE).read_text(encoding="utf-8"))
            whole.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def epochs_of(log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, float]]:
    """The evaluations in a trainer's log, one an epoch."""
    return [entry for entry in log if "eval_merit" in entry]


def is_spent(history: Sequence[Mapping[str, float]], patience: int) -> bool:
    """True when the last `patience` epochs were no better than one before them."""
    merits = [entry["eval_merit"] for entry in history]
    best = max(range(len(merits)), key=merits.__getitem__, default=0)
    return len(merits) - 1 - best >= patience


def is_over(log: Sequence[Mapping[str, Any]], plan: LMTrainingJob, course: TrainingConfig) -> bool:
    """True when no epoch is left to train, so that only the export is missing."""
    history = epochs_of(log)
    return len(history) >= plan.epochs or is_spent(history, course.patience)


def history_of(checkpoint: Path) -> list[Mapping[str, Any]]:
    """The trainer's log up to a checkpoint."""
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    history: list[Mapping[str, Any]] = state["log_history"]
    return history
