"""A language model that is trained to write the number of the next speaker: its start, its rows,
its fine-tuning and the probabilities of the result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taketurns.config.team_config import EngineConfig, TeamConfig
from taketurns.errors import ConfigError, DataError
from taketurns.switchers import candidate_order
from taketurns.switchers.lm import LMSwitcher
from taketurns.training.epochs import Log
from taketurns.training.fine_tuning import Defaults, FineTuningPlan, fine_tune
from taketurns.training.settings import FineTuningConfig
from taketurns.training.supervised.examples import Example
from taketurns.training.supervised.objective import NextSpeaker, PromptRow
from taketurns.training.supervised.settings import LMSettings, TrainingConfig
from taketurns.types import ModelSpec
from taketurns.utils.finite import probabilities as probabilities_of

START = "(start)"
UNDER_WAY = 64
# The paper's values for LoRA; for all weights of a small model, values that suit the pocket models.
DEFAULTS = Defaults(lora_epochs=5, full_epochs=6, full_weight_decay=0.05)


@dataclass(frozen=True, slots=True)
class RenderedRows:
    """The rows of a run, the token ids of the candidates' numbers in the team's order, and how many
    rows are too long for the `context` (in tokens) of the model."""

    train: tuple[PromptRow, ...]
    validation: tuple[PromptRow, ...]
    digits: tuple[int, ...]
    too_long: int
    context: int


def start_spec(team: TeamConfig, settings: LMSettings) -> ModelSpec:
    """The model to start from. Raises ConfigError for a candidate that is an adapter."""
    candidates = {candidate.name: candidate.spec for candidate in team.candidates}
    if settings.start is not None and settings.start not in candidates:
        place = Path(settings.start).expanduser()
        return ModelSpec(str(place.resolve()) if place.is_dir() else settings.start)
    name = settings.start or team.candidates[-1].name
    if candidates[name].adapter is not None:
        raise ConfigError(
            f"the candidate {name} is an adapter on {candidates[name].model}, and training starts "
            "from a whole model: name one with --start"
        )
    return candidates[name]


def numbered(team: TeamConfig, start: ModelSpec) -> tuple[str, ...]:
    """The candidates in the order of their numbers: the order of `start` if it is a switcher for
    them, else the team's."""
    names = tuple(candidate.name for candidate in team.candidates)
    order = candidate_order.load(start)
    return order if sorted(order) == sorted(names) else names


async def render(
    team: TeamConfig,
    start: ModelSpec,
    train: Sequence[Example],
    validation: Sequence[Example],
) -> RenderedRows:
    """The prompts of the examples, rendered by the code that inference uses. Rows that do not fit
    the context are left out and counted. Raises ConfigError if a candidate's number is not one
    token of the model, DataError if no row fits."""
    from taketurns.engines.local.engine import LocalEngine

    specs = {candidate.name: candidate.spec for candidate in team.candidates}
    engine = LocalEngine(specs | {START: start})  # reads tokenizers; no weights are loaded
    try:
        switcher = LMSwitcher(START, candidates=numbered(team, start))
        await switcher.prepare(engine, [await engine.info(name) for name in specs])
        context = (await engine.info(START)).context
    finally:
        await engine.close()

    def rows(examples: Sequence[Example]) -> tuple[PromptRow, ...]:
        return tuple(
            PromptRow(x, tuple(switcher.tagged(x.label.query).prompt(x.label.prefix)))
            for x in examples
        )

    def fitting(rows: Sequence[PromptRow]) -> tuple[PromptRow, ...]:
        return tuple(row for row in rows if len(row.input_ids) < context)

    learned, chosen = rows(train), rows(validation)
    kept = fitting(learned), fitting(chosen)
    if not all(kept):
        raise DataError(
            f"no example fits the context of {start.model}, {context} tokens: name a model with a "
            "longer context with --start"
        )
    dropped = len(learned) + len(chosen) - sum(map(len, kept))
    return RenderedRows(kept[0], kept[1], tuple(switcher.digits), dropped, context)


def tune(
    start: ModelSpec,
    rows: RenderedRows,
    folder: Path,
    settings: LMSettings,
    training: TrainingConfig,
) -> tuple[FineTuningPlan, Log]:
    """Fine-tune `start`, continuing from the checkpoints in `folder`. Raises as `fine_tune`
    does."""
    return fine_tune(
        start,
        NextSpeaker(rows.train, rows.validation, rows.digits),
        folder,
        FineTuningConfig(
            training.epochs,
            training.learning_rate,
            training.batch_size,
            training.weight_decay,
            training.seed,
            settings.lora,
            settings.rank,
            settings.report_to,
        ),
        DEFAULTS,
        training.patience,
    )


async def probabilities(
    tuned: ModelSpec,
    engine_settings: EngineConfig,
    rows: Sequence[PromptRow],
    digits: Sequence[int],
) -> list[list[float]]:
    """The trained switcher's probabilities of each candidate per row, computed by the engine that
    inference uses."""
    from taketurns.engines.local.engine import LocalEngine

    engine = LocalEngine.configured({START: tuned}, engine_settings)
    gate = asyncio.Semaphore(UNDER_WAY)

    async def of(row: PromptRow) -> list[float]:
        async with gate, engine.session(0, len(row.input_ids) + 1) as session:
            scores = await session.score(START, row.input_ids, digits)
        return list(probabilities_of(scores, "the trained switcher"))

    try:
        return list(await asyncio.gather(*map(of, rows)))
    finally:
        await engine.close()
