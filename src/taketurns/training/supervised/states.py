"""The hidden states that a head is trained on, read by the engine that inference uses.

They are written in parts, so a killed run reads only the missing ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from taketurns.config.team_config import TeamConfig
from taketurns.errors import DataError
from taketurns.generation.handover import CandidateRuntime
from taketurns.generation.state import GenerationState
from taketurns.switchers.head import HeadConfig, StateReader, View, check_hidden
from taketurns.training.labels.labels import Label
from taketurns.types import ModelSpec
from taketurns.utils.files import atomic_file

PART = 256
UNDER_WAY = 64


async def read_states(
    team: TeamConfig,
    config: HeadConfig,
    labels: Sequence[Label],
    folder: Path,
    on_done: Callable[[], None] = lambda: None,
) -> list[View]:
    """The head's input at every label, in order. Raises ConfigError if the engine gives no hidden
    states, PromptError if a query does not fit, DataError for a part of another run."""
    from taketurns.engines.local.engine import LocalEngine

    specs = {candidate.name: candidate.spec for candidate in team.candidates}
    reading = {name: specs[name] for name in config.readers}
    engine = LocalEngine.configured(reading, team.engine)
    try:
        readers = await candidate_runtimes(team, specs)
        for reader in readers:
            check_hidden(reader.info)
        gate = asyncio.Semaphore(UNDER_WAY)
        states = StateReader(config)

        async def view(label: Label) -> View:
            state = GenerationState(label.query, readers, ())
            state.resume(label.prefix)
            longest = max(len(state.prompt(index)) for index in range(len(readers)))
            async with gate, engine.session(0, longest + 1) as session:
                read = await states.view(session, state)
            on_done()
            return read

        views: list[View] = []
        for part, first in enumerate(range(0, len(labels), PART)):
            some = labels[first : first + PART]
            path = folder / f"states-{part:04d}.safetensors"
            if path.exists():
                views += _load(path, len(some))
                for _ in some:
                    on_done()
                continue
            read = await asyncio.gather(*map(view, some))
            _save(read, path)
            views += read
        return views
    finally:
        await engine.close()


async def candidate_runtimes(
    team: TeamConfig, specs: dict[str, ModelSpec]
) -> list[CandidateRuntime]:
    """Every candidate's tokenizer and template; loads no weights."""
    from taketurns.engines.local.engine import LocalEngine

    engine = LocalEngine.configured(specs, team.engine)
    try:
        return [CandidateRuntime(c, await engine.info(c.name)) for c in team.candidates]
    finally:
        await engine.close()


def _save(views: Sequence[View], path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {
        "reader": torch.tensor([view.reader for view in views]),
        "last": torch.tensor([view.last for view in views]),
    }
    for index, view in enumerate(views):
        if view.states is not None:
            tensors[f"states.{index}"] = view.states.contiguous()
    with atomic_file(path) as draft:
        save_file(tensors, draft)


def _load(path: Path, count: int) -> list[View]:
    from safetensors.torch import load_file

    tensors = load_file(path)
    if len(tensors["reader"]) != count:
        raise DataError(
            f"{path} belongs to another run: it has the states of {len(tensors['reader'])} labels, "
            f"and this run needs {count}; remove the output and train again"
        )
    pairs = zip(tensors["reader"].tolist(), tensors["last"].tolist(), strict=True)
    return [
        View(reader, last, tensors.get(f"states.{index}"))
        for index, (reader, last) in enumerate(pairs)
    ]
