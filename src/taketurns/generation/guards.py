"""May a patch be given out? Rules and a judge read the answer at the end of each patch.

A judge is a language model whose next-token probabilities of Yes and No are compared; no text is
sampled from it. What is checked is always the whole answer up to there, so that nothing gets past
by being spread over two patches. Rules go on from what they have read; a judge reads all again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from taketurns.checkpoints.prompts import plain_text, speaker_ids
from taketurns.config.policy import Guard, Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.engines.yes_no import YesNo
from taketurns.errors import (
    CapacityError,
    ConfigError,
    EngineError,
    LengthError,
    NotANumberError,
)
from taketurns.generation.phrases import AutomatonState, PhraseAutomaton
from taketurns.types import Candidate, Query
from taketurns.utils.expressions import Expression

GuardCheck = Callable[[Session, str, str], Awaitable[bool]]
"""Whether an answer may stand as it would with the patch in question: the text of it that would be
shown, and with the text after that which is held back for now."""

_AT_ONCE = 1024  # characters that are read sooner than a thread is found for it
_RULES = 16  # of as many guards the rules are kept


@dataclass(frozen=True, slots=True)
class GuardJudge:
    """A model that is asked about answers, as it is known to the engine."""

    candidate: Candidate
    info: ModelInfo
    tokens: YesNo

    @classmethod
    async def prepared(cls, candidate: Candidate, engine: Engine) -> GuardJudge:
        """Raises ConfigError for a model that cannot judge."""
        info = await engine.info(candidate.name)
        if "score" not in info.capabilities:
            raise ConfigError(
                "the judge's server reports no log-probabilities, and a judge is read by them"
            )
        return cls(candidate, info, YesNo.of(info))

    async def finds_fault(self, session: Session, guard: Guard, request: str, answer: str) -> bool:
        """Whether it answers Yes; a judge that holds neither Yes nor No possible does. Raises
        EngineError if it fails, without its server's words: they may quote what was asked; and
        where its tokenizer makes more of the answer than its context has."""
        prompt = await asyncio.to_thread(self.prompt, guard, request, answer)
        if len(prompt) >= self.info.context:
            raise EngineError(
                f"the guard's judge would read {len(prompt)} tokens, its context has "
                f"{self.info.context}: lower max_tokens"
            )
        try:
            logprobs = await session.score(self.info.name, prompt, self.tokens.choices)
            share = self.tokens.share(logprobs)
        except CapacityError:
            raise
        except NotANumberError as error:
            raise EngineError(
                f"the guard's judge {self.info.name} gave NaN or infinity for a log-probability"
            ) from error
        except EngineError as error:
            raise EngineError("the guard's judge failed; taketurns check may say why") from error
        return share is None or share >= guard.threshold

    def longest(self, guard: Guard, query: Query, max_tokens: int) -> int:
        """Tokens of the question about the longest answer to `query`."""
        return len(self.prompt(guard, *_parts(query))) + max_tokens

    def prompt(self, guard: Guard, request: str, answer: str) -> list[int]:
        """Token ids of the question about an answer."""
        parts = {"request": request, "answer": answer}
        asked = re.sub(r"\{(request|answer)\}", lambda match: parts[match[1]], guard.question)
        spec, codec = self.candidate.spec, self.info.codec
        return speaker_ids(spec, codec, Query("judge", text=asked))


def guard_check(query: Query, policy: Policy, judge: GuardJudge | None) -> GuardCheck | None:
    """How the answer to `query` is checked; None without a guard. What the query has already put
    into the assistant's mouth is part of the answer.

    Raises ConfigError if the guard asks a judge that there is none of, LengthError if the longest
    answer allowed would not fit the judge.
    """
    guard = policy.guard
    if guard is None:
        return None
    if guard.judge is not None and judge is None:
        raise ConfigError(f"the guard asks the judge {guard.judge!r}, and the team has none")
    asking = judge if guard.judge is not None else None
    request, begun = _parts(query)
    if asking is not None:
        longest = asking.longest(guard, query, policy.max_tokens)
        if longest >= asking.info.context:
            raise LengthError(
                f"the judge would read {longest} tokens, its context has {asking.info.context}: "
                "lower max_tokens or shorten the query",
                query.id,
            )
    rules = rules_of(guard.words, guard.patterns)
    return _AnswerCheck(guard, rules, rules.begin(begun), asking, request, begun)


@dataclass(eq=False)
class _AnswerCheck:
    """Checks one answer while it grows: its rules read what is new, after `start`, and a judge all
    of it, after what was `begun` for the assistant."""

    guard: Guard
    rules: Rules
    start: RulesRead
    judge: GuardJudge | None
    request: str
    begun: str

    def __post_init__(self) -> None:
        self._passed = ("", self.start)

    async def __call__(self, session: Session, shown: str, hidden: str) -> bool:
        passed, before = self._passed
        if not shown.startswith(passed):  # another answer goes on from an earlier place
            passed, before = "", self.start
        new = shown[len(passed) :]
        if self.rules.expressions or len(new) + len(hidden) > _AT_ONCE:
            read = await asyncio.to_thread(self.rules.read, before, new, hidden)
        else:
            read = self.rules.read(before, new, hidden)
        if read is None:
            return False
        if self.judge is not None:
            for written in (shown + hidden, shown) if hidden else (shown,):
                answer = self.begun + written
                if await self.judge.finds_fault(session, self.guard, self.request, answer):
                    return False
        self._passed = shown, read
        return True


@dataclass(frozen=True, slots=True)
class RulesRead:
    """What rules have read of an answer. `words` is None where a phrase stands in it; of its end
    `tail`, which expressions may have to see again, the first `searched` characters are done."""

    words: AutomatonState | None
    tail: str
    searched: int


class Rules:
    """Words and expressions, as they are looked for in an answer that grows. What it costs to read
    a piece does not depend on what stands before it, unless an expression can reach back any
    distance."""

    def __init__(self, words: Sequence[str], patterns: Sequence[str]) -> None:
        self.expressions = tuple(map(Expression, patterns))
        self._phrases = PhraseAutomaton(words)
        reaches = [expression.reach for expression in self.expressions]
        bounded = [reach for reach in reaches if reach is not None]
        self._kept = max(bounded, default=0) if len(bounded) == len(reaches) else None

    def begin(self, begun: str) -> RulesRead:
        """Before anything is written after `begun`, whose last word may go on."""
        words = self._phrases.read(self._phrases.start, begun)
        return RulesRead(words, begun if self.expressions else "", 0)

    def read(self, before: RulesRead, new: str, hidden: str = "") -> RulesRead | None:
        """With `new` text after what was read; None where one of them stands in it, or in it with
        the `hidden` text after it. Raises EngineError for an expression that takes too long."""
        read = self._read(before, new)
        if read is None or (hidden and self._read(read, hidden) is None):
            return None
        return read

    def _read(self, before: RulesRead, new: str) -> RulesRead | None:
        words = None if before.words is None else self._phrases.read(before.words, new)
        if words is None or words.ending:
            return None
        if not self.expressions:
            return RulesRead(words, "", 0)
        text = before.tail + new
        if any(expression.found_in(text, before.searched) for expression in self.expressions):
            return None
        tail = text if self._kept is None else text[max(0, len(text) - self._kept) :]
        return RulesRead(words, tail, len(tail))


@lru_cache(maxsize=_RULES)
def rules_of(words: tuple[str, ...], patterns: tuple[str, ...]) -> Rules:
    """The rules of a guard, which all its answers share."""
    return Rules(words, patterns)


def _parts(query: Query) -> tuple[str, str]:
    """What was asked, and how the assistant's answer was begun for it."""
    turns = query.messages or ()
    if len(turns) < 2 or turns[-1].role != "assistant":
        return plain_text(query).rstrip("\n"), ""
    return plain_text(replace(query, messages=turns[:-1])).rstrip("\n"), turns[-1].content
