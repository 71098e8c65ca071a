"""Who writes next: a switcher gives each candidate a probability, given the query and the trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError
from taketurns.types import Patch, Query
from taketurns.utils.finite import check_distribution

if TYPE_CHECKING:
    from torch import Tensor


class GenerationView(Protocol):
    """What a switcher may read of an answer while it is written (`generation.state`)."""

    @property
    def query(self) -> Query: ...

    @property
    def names(self) -> Sequence[str]:
        """The candidates' names, in the order of the probabilities."""
        ...

    @property
    def patches(self) -> Sequence[Patch]:
        """What has been written, a patch a turn."""
        ...

    @property
    def text(self) -> str:
        """What has been written, as text."""
        ...

    @property
    def scores(self) -> Sequence[float] | None:
        """Log-probabilities of `Sampling.choices` after the last token, where the engine gave
        them."""
        ...

    def prompt(self, speaker: int) -> list[int]:
        """What the speaker would continue: its own prompt and the answer so far."""
        ...

    def room(self, speaker: int) -> int:
        """How many more tokens fit the speaker's context."""
        ...


Decide = Callable[[Session, GenerationView], Awaitable[tuple[float, ...]]]
"""Asked at a patch boundary, with what is written: one probability a candidate, summing to 1."""


@runtime_checkable
class TokenLevelSwitcher(Protocol):
    """A Decide that can also be asked at every token, by states that the model which writes has
    anyway."""

    def layers(self, speaker: int) -> tuple[int, ...]:
        """Of which layers it reads the states while `speaker` writes. Raises ConfigError if it
        reads another candidate's."""
        ...

    def follow(self, speaker: int, states: Tensor) -> tuple[float, ...]:
        """What the Decide would say after this token of the speaker, whose states are float32
        `[len(layers), d]`."""
        ...


_SUM = 0.01  # by how much probabilities may miss 1: half of the digits of a bfloat16 and more


async def ask(
    decide: Decide, session: Session, state: GenerationView, candidates: int
) -> tuple[float, ...]:
    """What `decide` says, held to what a Decide is, which may be a user's own. Raises ConfigError
    where it is no coroutine or does not give one probability for each of `candidates`, summing to
    1, and NotANumberError where one is none."""
    asked: Any = decide(session, state)
    if not isawaitable(asked):
        raise ConfigError(
            "the switcher decides by a function that is no coroutine: write `async def` where its "
            "begin() defines it"
        )
    answer: Any = await asked
    try:
        probabilities = tuple(map(float, answer))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the switcher gave {repr(answer)[:80]} and must give a probability for each candidate"
        ) from error
    if len(probabilities) != candidates:
        raise ConfigError(
            f"the switcher gave {len(probabilities)} probabilities for {candidates} candidates; it "
            "must give one for each, in their order"
        )
    check_distribution(probabilities, "the switcher")
    if abs((total := sum(probabilities)) - 1) > _SUM:
        raise ConfigError(
            f"the switcher gave probabilities that sum to {total:g}; they must sum to 1"
        )
    return probabilities


def require_switcher(switcher: object) -> None:
    """Raise ConfigError for what lacks a method of a switcher."""
    for name in ("prepare", "begin"):
        if not callable(getattr(switcher, name, None)):
            kind = type(switcher).__name__
            raise ConfigError(f"{kind} is no switcher: it has no method {name}()")


async def make_ready(switcher: Switcher, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
    """`prepare` of a switcher, which may be a user's own. Raises ConfigError where it is none."""
    require_switcher(switcher)
    kind = type(switcher).__name__
    preparing: Any = switcher.prepare(engine, candidates)
    if not isawaitable(preparing):
        raise ConfigError(f"{kind}.prepare() is no coroutine: write `async def prepare`")
    await preparing


def start(switcher: Switcher, query: Query, policy: Policy) -> Decide:
    """`begin` of a switcher, which may be a user's own. Raises ConfigError where it does not give
    what decides, and as it does."""
    decide: Any = switcher.begin(query, policy)
    if isawaitable(decide) or not callable(decide):
        if iscoroutine(decide):
            decide.close()
        raise ConfigError(
            f"{type(switcher).__name__}.begin() must be an ordinary function that returns a "
            "coroutine function, which decides"
        )
    decision: Decide = decide
    return decision


class Switcher(Protocol):
    """Decides for a pool of candidates."""

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        """Make ready to decide for these candidates. Raises ConfigError if that cannot be."""
        ...

    def begin(self, query: Query, policy: Policy) -> Decide:
        """Start an answer. Raises PromptError if the longest answer allowed would not fit."""
        ...


def last_speaker(patches: Sequence[Patch]) -> int | None:
    """The candidate that wrote last, forced text left aside; None if none has."""
    return next((p.speaker for p in reversed(patches) if p.speaker is not None), None)
