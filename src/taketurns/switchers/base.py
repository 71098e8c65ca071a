"""Who writes next: a switcher gives each candidate a probability, given the query and the trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError
from taketurns.types import Patch, Query, StoppingCriterion
from taketurns.utils.finite import check_distribution

if TYPE_CHECKING:
    from torch import Tensor


class GenerationView(Protocol):
    """What a switcher can read of an answer while it is written (`generation.state`)."""

    @property
    def query(self) -> Query: ...

    @property
    def names(self) -> Sequence[str]:
        """The candidates' names, in the order of the probabilities."""
        ...

    @property
    def patches(self) -> Sequence[Patch]:
        """The patches written so far, one per turn."""
        ...

    @property
    def text(self) -> str:
        """The text written so far."""
        ...

    @property
    def scores(self) -> Sequence[float] | None:
        """Natural-log probabilities of `Sampling.choices` after the last token, or None if the
        engine did not give them."""
        ...

    @property
    def declined(self) -> Collection[int]:
        """The candidates that were asked after the last token and wrote nothing, because the
        criterion of `PatchEndingDecide` ended their patch before its first token."""
        ...

    def prompt(self, speaker: int) -> list[int]:
        """Token ids that the speaker would continue: its own prompt and the answer so far."""
        ...

    def room(self, speaker: int) -> int:
        """The number of tokens that still fit the speaker's context."""
        ...


Decide = Callable[[Session, GenerationView], Awaitable[tuple[float, ...]]]
"""Called at each patch boundary with the state so far. Returns one probability per candidate; they
sum to 1."""


@runtime_checkable
class TokenLevelSwitcher(Protocol):
    """A Decide that can also be asked at every token. It reads hidden states of the speaker, which
    the engine has computed anyway."""

    def layers(self, speaker: int) -> tuple[int, ...]:
        """The layers whose states it reads while `speaker` writes. Raises ConfigError if it reads
        the states of another candidate."""
        ...

    def follow(self, speaker: int, states: Tensor) -> tuple[float, ...]:
        """The probabilities that the Decide would give after this token of the speaker. `states`
        are the token's, float32 `[len(layers), d]`."""
        ...


@runtime_checkable
class PatchEndingDecide(Protocol):
    """A Decide that ends the patches itself, by the speaker's own next-token distribution: the
    token level. The speaker writes until its criterion ends the patch, which may be before its
    first token. The Decide is then asked again, and finds the speaker among
    `GenerationView.declined`; no patch is recorded. A speaker that has declined gets no criterion
    until a token is written, so that some candidate always writes."""

    def criterion(self, speaker: int, state: GenerationView) -> StoppingCriterion:
        """What ends the patch that the speaker begins now; made anew for each patch. Patches that
        it ends have the finish "switcher"."""
        ...


@runtime_checkable
class CorrectingDecide(PatchEndingDecide, Protocol):
    """A Decide that also corrects what the speaker writes: it adds numbers to the speaker's logits.
    It is asked after each of its decisions, for the patch that follows."""

    def correction(self, speaker: int, state: GenerationView) -> Tensor:
        """What is added to the logits of the speaker's next tokens: float32 `[ids]`. An id with
        minus infinity, or beyond the tensor, cannot be written (`Sampling.correction`)."""
        ...


@runtime_checkable
class ComparingDecide(PatchEndingDecide, Protocol):
    """A Decide that may let several candidates write the next patch before it chooses one of the
    patches. It is asked after each of its decisions; the patch that it chooses is part of the
    answer as it is, and the others are dropped."""

    async def rivals(self, session: Session, state: GenerationView) -> tuple[int, ...]:
        """The candidates that each write the next patch; empty where the chosen speaker writes
        alone."""
        ...

    def trial(self, speaker: int, state: GenerationView) -> StoppingCriterion:
        """What ends the patch that a rival writes."""
        ...

    async def compare(
        self, session: Session, state: GenerationView, after: Mapping[int, GenerationView]
    ) -> tuple[float, ...]:
        """The probabilities of the candidates; `after` has the answer `state` as it would be with
        each rival's patch, the last of its patches. The most probable rival's patch is kept; of
        equals that of the first."""
        ...


_SUM = 0.01  # how far the sum may be from 1: more than the rounding error of bfloat16


async def ask(
    decide: Decide, session: Session, state: GenerationView, candidates: int
) -> tuple[float, ...]:
    """The probabilities that `decide` gives, checked, because it may be a user's own code. Raises
    ConfigError if it is not a coroutine function or does not give one probability per candidate,
    summing to 1, and NotANumberError if one is NaN, infinite or negative."""
    asked: Any = decide(session, state)
    if not isawaitable(asked):
        raise ConfigError(
            "the function that the switcher's begin() returns is not a coroutine function: define "
            "it with `async def`"
        )
    return checked(await asked, candidates)


def checked(answer: Any, candidates: int) -> tuple[float, ...]:
    """What a switcher, which may be a user's own, gave as probabilities. Raises as `ask`."""
    try:
        probabilities = tuple(map(float, answer))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the switcher gave {repr(answer)[:80]}: it must give one probability for each of the "
            f"{candidates} candidates"
        ) from error
    if len(probabilities) != candidates:
        raise ConfigError(
            f"the switcher gave {len(probabilities)} probabilities for {candidates} candidates: it "
            "must give one for each, in the candidates' order"
        )
    check_distribution(probabilities, "the switcher")
    if abs((total := sum(probabilities)) - 1) > _SUM:
        raise ConfigError(
            f"the switcher gave probabilities that sum to {total:g}: they must sum to 1"
        )
    return probabilities


def require_switcher(switcher: object) -> None:
    """Raise ConfigError if an object lacks a method of a switcher."""
    for name in ("prepare", "begin"):
        if not callable(getattr(switcher, name, None)):
            kind = type(switcher).__name__
            raise ConfigError(f"{kind} is not a switcher: it has no method {name}(); add it")


async def make_ready(switcher: Switcher, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
    """Call `prepare` of a switcher, which may be a user's own. Raises ConfigError if the object is
    not a switcher."""
    require_switcher(switcher)
    kind = type(switcher).__name__
    preparing: Any = switcher.prepare(engine, candidates)
    if not isawaitable(preparing):
        raise ConfigError(f"{kind}.prepare() is not a coroutine: write `async def prepare`")
    await preparing


def start(switcher: Switcher, query: Query, policy: Policy) -> Decide:
    """Call `begin` of a switcher, which may be a user's own. Raises ConfigError if it does not
    return a function, and whatever `begin` raises."""
    decide: Any = switcher.begin(query, policy)
    if isawaitable(decide) or not callable(decide):
        if iscoroutine(decide):
            decide.close()
        raise ConfigError(
            f"{type(switcher).__name__}.begin() gave {type(decide).__name__}: it must be an "
            "ordinary function that returns a coroutine function"
        )
    decision: Decide = decide
    return decision


class Switcher(Protocol):
    """Gives each candidate a probability of being the next speaker."""

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        """Get ready to decide for these candidates. Raises ConfigError if it cannot decide for
        them."""
        ...

    def begin(self, query: Query, policy: Policy) -> Decide:
        """Start an answer. Raises PromptError if the longest answer that the policy allows would
        not fit."""
        ...


def last_speaker(patches: Sequence[Patch]) -> int | None:
    """The candidate that wrote last; forced text is ignored. None if no candidate has written."""
    return next((p.speaker for p in reversed(patches) if p.speaker is not None), None)
