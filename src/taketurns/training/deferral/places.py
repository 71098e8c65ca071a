"""What two models say of a text, at each place where one might give the pen to the other.

With one vocabulary a place is before each token; between two tokenizers it is before each word that
begins with a token of both. The last place is the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, log
from pathlib import Path
from typing import TYPE_CHECKING, cast

from taketurns.config.team_config import TeamConfig
from taketurns.engines.base import DeepSession, PromptScoringSession, Session
from taketurns.errors import DataError
from taketurns.generation.handover import CandidateRuntime
from taketurns.generation.state import GenerationState
from taketurns.switchers.head import HeadConfig, check_hidden
from taketurns.switchers.words import WordBoundaries
from taketurns.training.deferral.texts import Text
from taketurns.training.supervised.states import candidate_runtimes
from taketurns.types import Patch
from taketurns.utils.files import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

PART = 64  # texts in a file
LEAST = -100.0  # of a log-probability: what a model rules out must not make the loss infinite


@dataclass(frozen=True, slots=True)
class Places:
    """The places of a text: the base's `states` `[places, layers * d]` before each, and
    `logprobs` `[places, 2]`, the natural-log probability of what follows, up to the next place,
    under each candidate. Where the text says who should write, that one has probability 1."""

    states: Tensor
    logprobs: Tensor


@dataclass(frozen=True, slots=True)
class Segments:
    """A text as two models read it: each one's token `ids`, prompt included, and the index of the
    token at each place, `starts`, `[2][places]`, the end last."""

    ids: tuple[tuple[int, ...], tuple[int, ...]]
    starts: tuple[tuple[int, ...], tuple[int, ...]]


def segments(
    readers: Sequence[CandidateRuntime], words: Sequence[WordBoundaries], base: int, text: Text
) -> Segments:
    """Where a text can be handed over. Raises PromptError for a query that does not fit."""
    state = GenerationState(text.query, readers, ())
    before = [len(state.prompt(index)) for index in range(2)]
    if text.token_ids:
        state.resume([Patch(1 - base, text.token_ids, text.answer, "stop", "chosen")])
    else:
        state.force(base, text.answer)
    ids = [state.prompt(index) for index in range(2)]
    if state.exact:
        known = None if text.defers is None else len(text.defers)
        each = [
            tuple(range(start, len(i) + 1))[:known] for start, i in zip(before, ids, strict=True)
        ]
        return Segments((tuple(ids[0]), tuple(ids[1])), (each[0], each[1]))
    starts = [_starts(ids[i], words[i], len(text.answer.encode())) for i in range(2)]
    places = sorted(starts[0].keys() & starts[1].keys())
    if len(places) > 2:
        data = text.answer.encode()
        kept = range(1, len(places) - 1)
        inner = [places[i] for i in kept if _between(words, ids, starts, places[i], data)]
        places = [*places[:1], *inner, *places[-1:]]
    at = [tuple(start[place] for place in places) for start in starts]
    return Segments((tuple(ids[0]), tuple(ids[1])), (at[0], at[1]))


async def read_places(
    team: TeamConfig,
    config: HeadConfig,
    texts: Sequence[Text],
    folder: Path,
    on_done: Callable[[], None] = lambda: None,
) -> tuple[list[Text], list[Places]]:
    """The texts that fit both models, and their places, which are kept in files of `folder`. The
    engine that inference uses reads them. Raises ConfigError if it gives no hidden states,
    DataError for a part of another run."""
    from taketurns.engines.local.engine import LocalEngine

    specs = {candidate.name: candidate.spec for candidate in team.candidates}
    engine = LocalEngine.configured(specs, team.engine)
    try:
        readers = await candidate_runtimes(team, specs)
        base = [reader.info.name for reader in readers].index(config.reader)
        check_hidden(readers[base].info)
        words = [await asyncio.to_thread(WordBoundaries, reader.info) for reader in readers]
        read = [segments(readers, words, base, text) for text in texts]
        fits = [all(len(ids) < r.info.context for ids, r in zip(s.ids, readers, strict=True))
                for s in read]  # fmt: skip
        kept = [text for text, fit in zip(texts, fits, strict=True) if fit]
        wanted = [one for one, fit in zip(read, fits, strict=True) if fit]

        async def places(text: Text, one: Segments) -> Places:
            async with engine.session(0, max(map(len, one.ids)) + 1) as session:
                found = await _places(session, readers, config, base, one, text.defers)
            on_done()
            return found

        made: list[Places] = []
        for part, first in enumerate(range(0, len(wanted), PART)):
            some, of = wanted[first : first + PART], kept[first : first + PART]
            path = folder / f"places-{part:04d}.safetensors"
            if path.exists():
                made += _load(path, some)
                for _ in some:
                    on_done()
                continue
            found = await asyncio.gather(*map(places, of, some))
            _save(found, path)
            made += found
        return kept, made
    finally:
        await engine.close()


async def _places(
    session: Session,
    readers: Sequence[CandidateRuntime],
    config: HeadConfig,
    base: int,
    one: Segments,
    defers: Sequence[bool] | None,
) -> Places:
    """The states, in the order in which they are written, and then both models' log-probabilities.
    Raises EngineError."""
    import torch

    deep, name = cast(DeepSession, session), config.reader
    layers = config.layers[name]
    states = [
        (await deep.hidden(name, one.ids[base][:start], layers)).flatten()
        for start in one.starts[base]
    ]
    if defers is not None:
        sure = [[0.0 if (index != base) == yes else LEAST for index in range(2)] for yes in defers]
        return Places(torch.stack(states), torch.tensor(sure))
    columns = []
    for reader, ids, starts in zip(readers, one.ids, one.starts, strict=True):
        info = reader.info
        scoring = cast(PromptScoringSession, session)
        tokens = await scoring.prompt_logprobs(info.name, ids, 1)
        logprobs = [token.logprob or 0.0 for token in tokens]
        ends = await session.score(info.name, ids, sorted(info.end_token_ids))
        pieces = [sum(logprobs[a:b]) for a, b in pairwise(starts)]
        columns.append([max(LEAST, value) for value in (*pieces, _log_sum(ends))])
    return Places(torch.stack(states), torch.tensor(columns).T.contiguous())


def _log_sum(logprobs: Sequence[float]) -> float:
    top = max(logprobs, default=-inf)
    return top if top == -inf else top + log(sum(exp(value - top) for value in logprobs))


def _starts(ids: Sequence[int], words: WordBoundaries, length: int) -> dict[int, int]:
    """The index of the token that begins at each byte of the answer, which is the last `length`
    bytes; the number of tokens at its end."""
    starts, place = {length: len(ids)}, length
    for index in range(len(ids) - 1, -1, -1):
        place -= len(words.bytes_of(ids[index]))
        if place < 0:
            break
        starts[place] = index
        if place == 0:
            break
    return starts


def _between(
    words: Sequence[WordBoundaries],
    ids: Sequence[Sequence[int]],
    starts: Sequence[Mapping[int, int]],
    place: int,
    data: bytes,
) -> bool:
    """Whether a place is between two words for both."""
    return all(words[i].between(data[:place], ids[i][starts[i][place]]) for i in range(2))


def _save(places: Sequence[Places], path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {}
    for index, one in enumerate(places):
        tensors[f"states.{index}"] = one.states.contiguous()
        tensors[f"logprobs.{index}"] = one.logprobs
    with atomic_file(path) as draft:
        save_file(tensors, draft)


def _load(path: Path, wanted: Sequence[Segments]) -> list[Places]:
    from safetensors.torch import load_file

    tensors = load_file(path)
    counts = [len(one.starts[0]) for one in wanted]
    found = [len(tensors[f"logprobs.{index}"]) for index in range(len(tensors) // 2)]
    if found != counts:
        raise DataError(
            f"{path} belongs to another run: its texts have other places; remove the output and "
            "train again"
        )
    return [
        Places(tensors[f"states.{index}"], tensors[f"logprobs.{index}"])
        for index in range(len(wanted))
    ]
