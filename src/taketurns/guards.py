"""Is what would be given out fit to be? Rules and a judge read the answer at the end of a patch.

A judge is a language model whose next-token probabilities of Yes and No are compared; no text is
sampled from it. What is vetted is always the whole answer up to there, so that nothing gets past
by being spread over two patches.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import (
    CapacityError,
    ConfigError,
    EngineError,
    LengthError,
    NotANumberError,
)
from taketurns.policy import Guard, Policy
from taketurns.prompts import plain_text, speaker_ids
from taketurns.types import Candidate, Query
from taketurns.yesno import YesNo

Vet = Callable[[Session, str], Awaitable[bool]]
"""Whether an answer may stand as it would with the patch in question."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that is asked about answers, as it is known to the engine."""

    candidate: Candidate
    info: ModelInfo
    tokens: YesNo

    @classmethod
    async def prepared(cls, candidate: Candidate, engine: Engine) -> Judge:
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
        prompt = self.prompt(guard, request, answer)
        if len(prompt) >= self.info.context:
            raise EngineError(
                f"the guard's judge would read {len(prompt)} tokens, its context has "
                f"{self.info.context}: lower max_tokens"
            )
        try:
            found = await session.score(self.info.name, prompt, self.tokens.choices)
            share = self.tokens.share(found)
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
        said = {"request": request, "answer": answer}
        asked = re.sub(r"\{(request|answer)\}", lambda match: said[match[1]], guard.question)
        spec, codec = self.candidate.spec, self.info.codec
        return speaker_ids(spec, codec, Query("judge", text=asked))


def vetting(query: Query, policy: Policy, judge: Judge | None) -> Vet | None:
    """How the answer to `query` is vetted; None without a guard. What the query has already put
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
    rules = [re.compile(pattern) for pattern in guard.patterns]
    rules += [_whole_words(phrase) for phrase in guard.words]

    async def vet(session: Session, written: str) -> bool:
        answer = begun + written
        if any(rule.search(answer) for rule in rules):
            return False
        if asking is None:
            return True
        return not await asking.finds_fault(session, guard, request, answer)

    return vet


def _parts(query: Query) -> tuple[str, str]:
    """What was asked, and how the assistant's answer was begun for it."""
    turns = query.messages or ()
    if len(turns) < 2 or turns[-1].role != "assistant":
        return plain_text(query).rstrip("\n"), ""
    return plain_text(replace(query, messages=turns[:-1])).rstrip("\n"), turns[-1].content


def _whole_words(phrase: str) -> re.Pattern[str]:
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)
