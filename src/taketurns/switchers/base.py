"""Who writes next: a switcher gives each candidate a probability, given the query and the trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from taketurns.checkpoints.prompts import TaggedTrace, digit_ids
from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.policy import Policy
from taketurns.config.team_config import SwitcherConfig
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError, PromptError, UnavailableError
from taketurns.generation.state import Draft
from taketurns.switchers.candidate_order import places, read
from taketurns.switchers.head import HeadSwitcher, last_speaker
from taketurns.types import ModelSpec, Query
from taketurns.utils.finite import check_distribution, probabilities

if TYPE_CHECKING:
    from torch import Tensor

_RENAMED = "; where these are the same under other names, list them as switcher.candidates"

Decide = Callable[[Session, Draft], Awaitable[tuple[float, ...]]]
"""Asked at a patch boundary, with what is written: one probability a candidate, summing to 1."""


@runtime_checkable
class Follower(Protocol):
    """A Decide that can also be asked at every token, by states that the model which writes has
    anyway."""

    def layers(self, speaker: int) -> tuple[int, ...]:
        """Of which layers it reads the states while `speaker` writes. Raises ConfigError if it
        reads somebody else's."""
        ...

    def follow(self, speaker: int, states: Tensor) -> tuple[float, ...]:
        """What the Decide would say after this token of the speaker, whose states are float32
        `[len(layers), d]`."""
        ...


_SUM = 0.01  # by how much probabilities may miss 1: half of the digits of a bfloat16 and more


async def ask(decide: Decide, session: Session, draft: Draft, candidates: int) -> tuple[float, ...]:
    """What `decide` says, held to what a Decide is, which may be a user's own. Raises ConfigError
    where it is no coroutine or does not give one probability for each of `candidates`, summing to
    1, and NotANumberError where one is none."""
    asked: Any = decide(session, draft)
    if not isawaitable(asked):
        raise ConfigError(
            "the switcher decides by a function that is no coroutine: write `async def` where its "
            "begin() defines it"
        )
    found: Any = await asked
    try:
        given = tuple(map(float, found))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the switcher gave {repr(found)[:80]} and must give a probability for each candidate"
        ) from error
    if len(given) != candidates:
        raise ConfigError(
            f"the switcher gave {len(given)} probabilities for {candidates} candidates; it must "
            "give one for each, in their order"
        )
    check_distribution(given, "the switcher")
    if abs(sum(given) - 1) > _SUM:
        raise ConfigError(
            f"the switcher gave probabilities that sum to {sum(given):g}; they must sum to 1"
        )
    return given


async def make_ready(switcher: Switcher, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
    """`prepare` of a switcher, which may be a user's own. Raises ConfigError where it is none."""
    kind = type(switcher).__name__
    for name in ("prepare", "begin"):
        if not callable(getattr(switcher, name, None)):
            raise ConfigError(f"{kind} is no switcher: it has no method {name}()")
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
    found: Decide = decide
    return found


class Switcher(Protocol):
    """Decides for a pool of candidates."""

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        """Make ready to decide for these candidates. Raises ConfigError if that cannot be."""
        ...

    def begin(self, query: Query, policy: Policy) -> Decide:
        """Start an answer. Raises PromptError if the longest answer allowed would not fit."""
        ...


class RandomSwitcher:
    """Every candidate is as probable as any other, at every patch."""

    def __init__(self) -> None:
        self._candidates = 0

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        self._candidates = len(candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        uniform = (1 / self._candidates,) * self._candidates

        async def decide(session: Session, draft: Draft) -> tuple[float, ...]:
            return uniform

        return decide


class FixedSwitcher:
    """Candidates speak in a given order of indices, over and over."""

    def __init__(self, sequence: Sequence[int]) -> None:
        self._sequence = tuple(sequence)
        self._candidates = 0

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        self._candidates = len(candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        async def decide(session: Session, draft: Draft) -> tuple[float, ...]:
            turn = sum(patch.speaker is not None for patch in draft.patches)
            chosen = self._sequence[turn % len(self._sequence)]
            return tuple(float(index == chosen) for index in range(self._candidates))

        return decide


class PartSwitcher:
    """Another switcher, of whose candidates only some may speak, by index: its probabilities are
    renormalised over them. Where it gives all of them none, they are equally probable."""

    def __init__(self, switcher: Switcher, allowed: Collection[int]) -> None:
        self._switcher = switcher
        self._allowed = frozenset(allowed)

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        await self._switcher.prepare(engine, candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        whole = self._switcher.begin(query, policy)

        async def decide(session: Session, draft: Draft) -> tuple[float, ...]:
            given = await whole(session, draft)
            left = [p if i in self._allowed else 0.0 for i, p in enumerate(given)]
            if not any(left):
                left = [float(i in self._allowed) for i in range(len(given))]
            return normalise(left)

        return decide


class LMSwitcher:
    """A language model reads the tagged trace; the logits of the candidates' numbers, renormalised,
    are the probabilities. No text is sampled from it. `model` is its name in the engine;
    `chat_template` puts the trace into the user's turn of its template (None: if it has one).

    A query whose longest answer would not fit its context, counted in the speakers' tokens, is
    refused. Where its own tokenizer makes more of an answer, so that the context is full after all,
    all candidates are as probable as any other.

    `candidates` are the names of those whom it numbers, from 0, or the model beside which they are
    written; where nobody says, it numbers as the team does. Once it is prepared, `digits` are the
    ids of the candidates' numbers in the team's order.
    """

    def __init__(
        self,
        model: str,
        *,
        chat_template: bool | None = False,
        candidates: Sequence[str] | ModelSpec = (),
    ) -> None:
        self._model = model
        self._chat_template = chat_template
        self._candidates = candidates
        self._info: ModelInfo | None = None
        self._numbers: list[int] = []
        self.digits: list[int] = []
        self._vocabulary: SharedVocabulary | None = None

    @property
    def model(self) -> str:
        return self._model

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        info = await engine.info(self._model)
        if "score" not in info.capabilities:
            raise ConfigError(
                "the switcher's server reports no log-probabilities, and a switcher is read by them"
            )
        own, names = self._candidates, [candidate.name for candidate in candidates]
        if isinstance(own, ModelSpec):
            own = read(own)
        self._numbers = places(own, names, "switcher", _RENAMED) if own else list(range(len(names)))
        ids = digit_ids(info.codec, len(candidates))
        self.digits = [ids[number] for number in self._numbers]
        codecs = [info.codec, *(candidate.codec for candidate in candidates)]
        self._vocabulary = SharedVocabulary.of(codecs)
        self._info = info

    def begin(self, query: Query, policy: Policy) -> Decide:
        assert self._info is not None, "prepare() before begin()"
        tagged = self.tagged(query)
        longest = len(tagged.prompt(())) + tagged_tokens(self._info, policy)
        if longest >= self._info.context:
            raise PromptError(
                f"query {query.id!r}: the switcher would read {longest} tokens, its context has "
                f"{self._info.context}: lower max_tokens or shorten the query"
            )

        context, even = self._info.context, normalise([1.0] * len(self.digits))

        async def decide(session: Session, draft: Draft) -> tuple[float, ...]:
            prompt = tagged.prompt(draft.patches)
            if len(prompt) >= context:
                return even
            scores = await session.score(self._model, prompt, self.digits)
            return probabilities(scores, f"the switcher {self._model}")

        return decide

    def tagged(self, query: Query) -> TaggedTrace:
        """What it reads of an answer to `query`; training reads the same."""
        assert self._info is not None, "prepare() before tagged()"
        codec, chats = self._info.codec, self._chat_template
        return TaggedTrace(
            codec,
            query,
            self._numbers,
            vocabulary=self._vocabulary,
            chat_template=codec.tokenizer.chat_template is not None if chats is None else chats,
        )


class FoldedSwitcher:
    """Decides by a head that stands in the candidates' own output matrices: `tokens`, which no
    candidate ever writes, stand for the candidates, in their order, and their logits after the last
    token, in whoever wrote it, are the head's. While nobody has spoken `reader` is asked.

    An engine that tells them with the patch (`Draft.scores`) makes the decision cost no call. Where
    whoever is to be asked cannot be, for a full context or for lack of a server, all candidates are
    as probable as any other.
    """

    def __init__(self, tokens: Sequence[int], reader: int) -> None:
        self.tokens = tuple(tokens)
        self._reader = reader
        self._models: tuple[str, ...] = ()

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        if SharedVocabulary.of(candidate.codec for candidate in candidates) is None:
            raise ConfigError(
                "the candidates' tokenizers differ, so no token stands for the same candidate in "
                "all: a folded switcher needs the checkpoints that `taketurns export` wrote"
            )
        for info in candidates:
            if "exact_score" not in info.capabilities:
                raise ConfigError(
                    "a folded switcher is read by the log-probabilities of given tokens, which the "
                    f"server of {info.name} does not tell; serve it with vLLM, or use a switcher "
                    "of kind lm"
                )
            if may := sorted(set(self.tokens) - info.never):
                raise ConfigError(
                    f"{info.name} may write the token {may[0]}, which stands for a candidate: a "
                    "folded switcher needs the checkpoints that `taketurns export` wrote"
                )
        self._models = tuple(info.name for info in candidates)

    def begin(self, query: Query, policy: Policy) -> Decide:
        even = normalise([1.0] * len(self.tokens))

        async def decide(session: Session, draft: Draft) -> tuple[float, ...]:
            scores: Sequence[float] | None = draft.scores
            spoke = last_speaker(draft.patches)
            reader = self._reader if spoke is None else spoke
            if scores is None:
                if draft.room(reader) <= 0:
                    return even
                try:
                    scores = await session.score(
                        self._models[reader], draft.prompt(reader), self.tokens
                    )
                except UnavailableError:
                    return even  # whoever spoke last is gone; the others may go on
            return probabilities(scores, f"the switcher in {self._models[reader]}")

        return decide


def tagged_tokens(info: ModelInfo, policy: Policy) -> int:
    """How many tokens the longest answer takes between its tags."""
    tags = len(info.codec.encode(" <model 0 begins> ") + info.codec.encode(" <model 0 ends>"))
    return policy.max_tokens + tags * -(-policy.max_tokens // policy.shortest)


def normalise(weights: Sequence[float]) -> tuple[float, ...]:
    """Non-negative weights as probabilities. Raises NotANumberError for others."""
    check_distribution(weights, "the switcher")
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def nucleus(probabilities: Sequence[float], top_p: float) -> tuple[float, ...]:
    """What top-p draws from: the probabilities of those in the nucleus, as they are, else 0.

    An index is in it if those more probable hold less than `top_p` together; equals enter together,
    so that a uniform distribution stays uniform.
    """
    return tuple(
        p if sum(q for q in probabilities if q > p) < top_p else 0.0 for p in probabilities
    )


def pick(probabilities: Sequence[float], top_p: float, uniform: float) -> int:
    """Draw an index by top-p with one uniform number in [0, 1)."""
    drawn = nucleus(probabilities, top_p)
    at = uniform * sum(drawn)
    for index, mass in enumerate(drawn):
        at -= mass
        if at < 0 and mass > 0:
            return index
    return max(range(len(drawn)), key=drawn.__getitem__)


def make_switcher(config: SwitcherConfig, model: str) -> Switcher:
    """The switcher a team file asks for; `model` is the name of its model in the engine."""
    makers: Mapping[str, Callable[[], Switcher]] = {
        "random": RandomSwitcher,
        "fixed": lambda: FixedSwitcher(config.sequence),
        "lm": lambda: LMSwitcher(
            model,
            chat_template=config.chat_template,
            candidates=config.candidates or config.spec or (),
        ),
        "head": lambda: HeadSwitcher(config.path or ""),
        "folded": lambda: FoldedSwitcher(config.tokens, config.reader or 0),
    }
    return makers[config.kind]()
