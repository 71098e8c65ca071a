"""The guard: rules and a judge check the answer at the end of each patch, before it is given out.

A judge is a language model whose next-token probabilities of Yes and No are compared; no text is
sampled from it. A check always covers the whole answer so far, so a forbidden text cannot pass by
being split over two patches. Rules continue from where they stopped; a judge reads everything
again.
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
"""Whether an answer passes with its new patch. Arguments: the session, the answer's text that would
be shown, and the text after it that is held back."""

_AT_ONCE = 1024  # characters: fewer are read faster than a thread is started
_RULES = 16  # the number of guards whose rules are cached


@dataclass(frozen=True, slots=True)
class GuardJudge:
    """The model that judges answers, with what the engine knows of it."""

    candidate: Candidate
    info: ModelInfo
    tokens: YesNo

    @classmethod
    async def prepared(cls, candidate: Candidate, engine: Engine) -> GuardJudge:
        """The judge for a model of the engine. Raises ConfigError if the model cannot judge."""
        info = await engine.info(candidate.name)
        if "score" not in info.capabilities:
            raise ConfigError(
                f"the server of the judge {candidate.name} reports no log-probabilities, which a "
                "judge needs: serve it with vLLM"
            )
        return cls(candidate, info, YesNo.of(info))

    async def finds_fault(self, session: Session, guard: Guard, request: str, answer: str) -> bool:
        """Whether the judge answers Yes; if it gives both Yes and No probability 0, that counts as
        Yes. Raises EngineError if the judge fails, without its server's message, which may quote
        the request, or if the answer does not fit its context."""
        prompt = await asyncio.to_thread(self.prompt, guard, request, answer)
        if len(prompt) >= self.info.context:
            raise EngineError(
                f"the guard's judge would read {len(prompt)} tokens, but its context has "
                f"{self.info.context}: lower max_tokens"
            )
        try:
            logprobs = await session.score(self.info.name, prompt, self.tokens.choices)
            share = self.tokens.share(logprobs)
        except CapacityError:
            raise
        except NotANumberError as error:
            raise EngineError(
                f"the guard's judge {self.info.name} gave NaN or infinity as a log-probability"
            ) from error
        except EngineError as error:
            raise EngineError(
                f"the guard's judge {self.info.name} failed: run taketurns check to find the cause"
            ) from error
        return share is None or share >= guard.threshold

    def longest(self, guard: Guard, query: Query, max_tokens: int) -> int:
        """The number of tokens of the question about the longest answer to `query`."""
        return len(self.prompt(guard, *_parts(query))) + max_tokens

    def prompt(self, guard: Guard, request: str, answer: str) -> list[int]:
        """Token ids of the question about an answer."""
        parts = {"request": request, "answer": answer}
        asked = re.sub(r"\{(request|answer)\}", lambda match: parts[match[1]], guard.question)
        spec, codec = self.candidate.spec, self.info.codec
        return speaker_ids(spec, codec, Query("judge", text=asked))


def guard_check(query: Query, policy: Policy, judge: GuardJudge | None) -> GuardCheck | None:
    """The check of the answer to `query`; None without a guard. If the query ends with the
    beginning of the assistant's answer, that is part of the answer.

    Raises ConfigError if the guard names a judge and the team has none, LengthError if the longest
    answer that the policy allows would not fit the judge.
    """
    guard = policy.guard
    if guard is None:
        return None
    if guard.judge is not None and judge is None:
        raise ConfigError(
            f"the guard asks the judge {guard.judge!r}, but the team has no judge: set the key "
            "judge or model of guard in the team file"
        )
    asking = judge if guard.judge is not None else None
    request, begun = _parts(query)
    if asking is not None:
        longest = asking.longest(guard, query, policy.max_tokens)
        if longest >= asking.info.context:
            raise LengthError(
                f"the judge would read up to {longest} tokens, but its context has "
                f"{asking.info.context}: lower max_tokens or shorten the query",
                query.id,
            )
    rules = rules_of(guard.words, guard.patterns)
    return _AnswerCheck(guard, rules, rules.begin(begun), asking, request, begun)


@dataclass(eq=False)
class _AnswerCheck:
    """Checks one answer while it grows. The rules read only new text, from the state `start`; a
    judge reads the whole answer, with the beginning `begun` that the query gave."""

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
        if not shown.startswith(passed):  # a fork continues from an earlier place
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
    """How far the rules have read an answer. `words` is None if it contains a phrase. `tail` is the
    end of the text, which expressions may need again; its first `searched` characters are done."""

    words: AutomatonState | None
    tail: str
    searched: int


class Rules:
    """Searches a growing answer for words and expressions. The cost of a piece does not depend on
    the length of the text before it, unless an expression can match over any distance."""

    def __init__(self, words: Sequence[str], patterns: Sequence[str]) -> None:
        self.expressions = tuple(map(Expression, patterns))
        self._phrases = PhraseAutomaton(words)
        reaches = [expression.reach for expression in self.expressions]
        bounded = [reach for reach in reaches if reach is not None]
        self._kept = max(bounded, default=0) if len(bounded) == len(reaches) else None

    def begin(self, begun: str) -> RulesRead:
        """The state after `begun`, before anything else is written; its last word may continue."""
        words = self._phrases.read(self._phrases.start, begun)
        return RulesRead(words, begun if self.expressions else "", 0)

    def read(self, before: RulesRead, new: str, hidden: str = "") -> RulesRead | None:
        """The state after `new` text; None if a rule matches in it, or in it followed by the
        `hidden` text. Raises EngineError for an expression that takes too long."""
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
    """The rules of a guard; all its answers share them."""
    return Rules(words, patterns)


def _parts(query: Query) -> tuple[str, str]:
    """The request, and the beginning of the assistant's answer that the query gives, if any."""
    turns = query.messages or ()
    if len(turns) < 2 or turns[-1].role != "assistant":
        return plain_text(query).rstrip("\n"), ""
    return plain_text(replace(query, messages=turns[:-1])).rstrip("\n"), turns[-1].content
