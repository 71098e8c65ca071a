"""The token level: two candidates take turns by the next-token distribution of one of them.

The base is asked first. It writes as long as its own distribution says so, which its forward passes
have computed anyway; where it stops, the other one writes one word and the base is asked again. It
may decline before its first token, and the other one goes on. So the base reads each word once, and
no distribution is computed twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError
from taketurns.switchers.base import Decide, GenerationView
from taketurns.switchers.words import WordBoundaries, WordEnd
from taketurns.types import Finish, NextToken, Patch, Query, StoppingCriterion, Token

BaseWrites = Callable[[NextToken, str | None], bool]
"""Whether the base writes the next token, by its distribution and the text of its most probable
token, None for an end token."""


class PairSwitcher:
    """Two candidates, of which the one with index `base` writes where `base_writes` says so.

    The pen changes only between words, or, with `anywhere` and candidates whose tokens have equal
    ids, after any token of the base. With `spaces_alone` the base is also asked between white space
    and a word of the other one.
    """

    def __init__(
        self,
        base_writes: BaseWrites,
        base: int = 0,
        *,
        anywhere: bool = False,
        spaces_alone: bool = False,
    ) -> None:
        self._base_writes = base_writes
        self._base = base
        self._anywhere = anywhere
        self._spaces_alone = spaces_alone
        self._shared = False
        self._words: tuple[WordBoundaries, ...] = ()

    def base_ends(
        self, words: WordBoundaries, before: bytes | None, last: Patch | None
    ) -> StoppingCriterion:
        """What ends a patch of the base: `before` is the end of the text before the patch, None if
        it may end anywhere, and `last` the candidates' last patch."""
        return BaseGivesWay(self._base_writes, words, before)

    def other_ends(self, words: WordBoundaries, before: bytes) -> StoppingCriterion:
        """What ends a patch of the other one, which goes on in a word that began with `before`."""
        return WordEnd(words, before, spaces_alone=self._spaces_alone)

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        require_pair(candidates)
        for info in candidates:
            if "next_token" not in info.capabilities:
                raise ConfigError(
                    "this switcher reads the probability of each next token, which the engine of "
                    f"{info.name} does not give: use engine.kind local or vllm, or a switcher of "
                    "kind lm"
                )
        codecs = [info.codec for info in candidates]
        self._shared = await asyncio.to_thread(SharedVocabulary.of, codecs) is not None
        self._words = tuple([await asyncio.to_thread(WordBoundaries, i) for i in candidates])

    def begin(self, query: Query, policy: Policy) -> Decide:
        assert self._words, "prepare() before begin()"
        anywhere = self._anywhere and self._shared
        return PairDecide(self, self._base, self._words, anywhere)


class PairDecide:
    """The decisions of one answer (`switchers.base.PatchEndingDecide`). They depend on nothing but
    what has been written and who declined, so forks and resumed answers need no state of it."""

    def __init__(
        self, rule: PairSwitcher, base: int, words: Sequence[WordBoundaries], anywhere: bool
    ) -> None:
        self._rule = rule
        self._base = base
        self._words = tuple(words)
        self._anywhere = anywhere

    async def __call__(self, session: Session, state: GenerationView) -> tuple[float, ...]:
        last, other = last_written(state), self._base in state.declined
        if last is not None and last.speaker == self._base:
            other = other or last.finish == "switcher"
        elif last is not None:
            other = other or last.finish == "length"  # inside its word
        return tuple(float((index == self._base) != other) for index in range(2))

    def criterion(self, speaker: int, state: GenerationView) -> StoppingCriterion:
        words, last = self._words[speaker], last_written(state)
        before = b""  # what the speaker's own patch left off with when it reached its length
        if last is not None and last.speaker == speaker and last.finish == "length":
            before = b"".join(map(words.bytes_of, last.token_ids))
        if speaker != self._base:
            return self._rule.other_ends(words, before)
        return self._rule.base_ends(words, None if self._anywhere else before, last)


class EndWhere:
    """Ends a patch after so many tokens as `due` says."""

    finish: Finish = "switcher"
    entropy = False
    layers: tuple[int, ...] = ()

    def __init__(self, due: Callable[[int], bool]) -> None:
        self._due = due
        self._written = 0

    def on_token(self, token: Token) -> bool:
        self._written += 1
        return self._due(self._written)

    def should_stop(self, entropy: float | None, states: object) -> bool:
        return False


class BaseGivesWay:
    """Ends a patch of the base before the first token that the other one is to write. `before` is
    the end of the text before the patch, and the patch then ends only between words; with None it
    ends anywhere."""

    finish: Finish = "switcher"
    entropy = False
    layers: tuple[int, ...] = ()

    def __init__(
        self, base_writes: BaseWrites, words: WordBoundaries, before: bytes | None
    ) -> None:
        self._base_writes = base_writes
        self._words = words
        self._before = before
        self.begun = False

    def on_token(self, token: Token) -> bool:
        self.begun = True
        assert token.id is not None, "prepare() refuses engines without token ids"
        if self._before is not None:
            self._before = self._words.bytes_of(token.id)
        return False

    def should_stop(self, entropy: float | None, states: object) -> bool:
        return False

    def should_stop_before(self, next_token: NextToken) -> bool:
        token = next_token.id
        if self._before is not None and not self._words.between(self._before, token):
            return False
        return not self._base_writes(next_token, self._words.text_of(token))


def require_pair(candidates: Sequence[ModelInfo]) -> None:
    """Raise ConfigError unless there are two candidates."""
    if len(candidates) != 2:
        names = ", ".join(info.name for info in candidates)
        raise ConfigError(
            f"this switcher is for two candidates, not {len(candidates)} ({names}): use two, or "
            "another switcher.kind"
        )


def last_written(state: GenerationView) -> Patch | None:
    """The last patch of a candidate."""
    return next((p for p in reversed(state.patches) if p.speaker is not None), None)
