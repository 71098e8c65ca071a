"""The least time that an answer's turns can take at measured rates, from what was really done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import takewhile
from time import perf_counter

from taketurns.engines.base import OnToken, Prompt, Session
from taketurns.engines.wrapper import EngineWrapper, SessionWrapper
from taketurns.types import Completion, Sampling

from .bare import Rates


@dataclass(frozen=True, slots=True)
class Turn:
    """A patch or a switcher's decision: when its `engine` made it, in seconds, the `steps` that
    decode it, a token each, and the prompt's tokens that its model had to read for it."""

    engine: str
    began: float
    ended: float
    steps: int
    caught_up: int


class RecordingEngine(EngineWrapper):
    """Keeps the `turns` of all answers. `engines` has the engine of each model: those that share
    one share its steps."""

    def __init__(self, inner: object, engines: Mapping[str, str]) -> None:
        super().__init__(inner)  # type: ignore[arg-type]
        self.engines = engines
        self.turns: list[Turn] = []

    def wrap(self, session: Session, seed: int) -> Session:
        return _Recording(session, self)


class _Recording(SessionWrapper):
    def __init__(self, inner: Session, recorder: RecordingEngine) -> None:
        super().__init__(inner)
        self._recorder = recorder
        self._known: dict[str, list[int]] = {}

    async def generate(
        self, model: str, prompt: Prompt, sampling: Sampling, on_token: OnToken | None = None
    ) -> Completion:
        began = perf_counter()
        done = await super().generate(model, prompt, sampling, on_token)
        # The choices are read where one token more is written.
        self._record(model, prompt, done.token_ids, began, done.scores is not None)
        return done

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        began = perf_counter()
        scores = await super().score(model, prompt, choices)
        self._record(model, prompt, (), began, True)
        return scores

    @asynccontextmanager
    async def fork(self, seed: int) -> AsyncIterator[Session]:
        async with self._inner.fork(seed) as inner:
            yield _Recording(inner, self._recorder)

    def _record(
        self, model: str, prompt: Prompt, written: Sequence[int], began: float, decided: bool
    ) -> None:
        assert not isinstance(prompt, str), "vLLM is given token ids"
        pairs = zip(prompt, self._known.get(model, ()), strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self._known[model] = [*prompt, *written]
        engine = self._recorder.engines[model]
        steps, new = len(written) + decided, len(prompt) - shared
        self._recorder.turns.append(Turn(engine, began, perf_counter(), steps, new))


def floor_seconds(turns: Sequence[Turn], rates: Rates) -> float:
    """The least seconds for these turns on processors that all engines share: the decode steps of
    each engine, with the rows that were really there, and the tokens that had to be read. The
    engines' models have the same shape and so the same rates."""
    seconds = 0.0
    for engine in {turn.engine for turn in turns}:
        mine = [turn for turn in turns if turn.engine == engine]
        for turn in mine:
            rows = max(1.0, _rows(turn, mine))
            seconds += turn.steps * rates.step(rows) / rows + turn.caught_up * rates.read
    return seconds


def _rows(turn: Turn, turns: Sequence[Turn]) -> float:
    """The mean number of turns of its engine while a turn was made."""
    shared = sum(
        max(0.0, min(turn.ended, other.ended) - max(turn.began, other.began)) for other in turns
    )
    return shared / (turn.ended - turn.began)
