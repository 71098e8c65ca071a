"""The least time that an answer's turns can take at measured rates, from what was really done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

from taketurns.engines.base import OnToken, Prompt, Session
from taketurns.engines.wrapper import EngineWrapper, SessionWrapper
from taketurns.types import Completion, Sampling

from .bare import Rates


@dataclass(frozen=True, slots=True)
class Turn:
    """A patch: when it was written, in seconds, its `tokens`, and the prompt's tokens that its
    model had to read for it."""

    model: str
    began: float
    ended: float
    tokens: int
    caught_up: int


class RecordingEngine(EngineWrapper):
    """Keeps the `turns` of all answers."""

    def __init__(self, inner: object) -> None:
        super().__init__(inner)  # type: ignore[arg-type]
        self.turns: list[Turn] = []

    def wrap(self, session: Session, seed: int) -> Session:
        return _Recording(session, self.turns)


class _Recording(SessionWrapper):
    def __init__(self, inner: Session, turns: list[Turn]) -> None:
        super().__init__(inner)
        self._turns = turns
        self._known: dict[str, int] = {}

    async def generate(
        self, model: str, prompt: Prompt, sampling: Sampling, on_token: OnToken | None = None
    ) -> Completion:
        began = perf_counter()
        done = await super().generate(model, prompt, sampling, on_token)
        new = done.prompt_tokens - self._known.get(model, 0)
        self._known[model] = done.prompt_tokens + len(done.token_ids)
        self._turns.append(Turn(model, began, perf_counter(), len(done.token_ids), new))
        return done

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[Session]:
        async with self._inner.fork(seed) as inner:
            yield _Recording(inner, self._turns)


def floor_seconds(turns: Sequence[Turn], rates: Mapping[str, Rates]) -> dict[str, float]:
    """The least seconds of each model for these turns: its decode steps, each with the rows that
    were really there, and the tokens that it had not read before. A machine whose models share its
    processors needs their sum, one with a device for each model the largest."""
    seconds = dict.fromkeys(rates, 0.0)
    for model, known in rates.items():
        mine = [turn for turn in turns if turn.model == model]
        for turn in mine:
            rows = max(1.0, _rows(turn, mine))
            seconds[model] += turn.tokens * known.step(rows) / rows + turn.caught_up * known.read
    return seconds


def _rows(turn: Turn, turns: Sequence[Turn]) -> float:
    """The mean number of turns of its model while a turn was written."""
    shared = sum(
        max(0.0, min(turn.ended, other.ended) - max(turn.began, other.began)) for other in turns
    )
    return shared / (turn.ended - turn.began)
