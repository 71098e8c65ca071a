"""MentorCollab (arXiv 2602.05307): a model writes, and at sampled places a mentor offers a patch.

Where the next tokens of the two differ at such a place, both write a patch, and a judge says which
of the two leads on to the right answer: the writer itself, which is asked, or a trained network on
its hidden states (`judge.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.pair_rules import MentorRule
from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError, NotANumberError, UnavailableError
from taketurns.switchers.base import Decide, GenerationView
from taketurns.switchers.judge import Judge, StateJudge
from taketurns.switchers.pair import EndWhere, last_written, require_pair
from taketurns.switchers.words import WordBoundaries, WordEnd
from taketurns.types import NextToken, Query, Sampling, StoppingCriterion, Token
from taketurns.utils.finite import probabilities
from taketurns.utils.seeds import derive

OPTIONS = ("1", "2")
QUESTION = (
    "\nThere are two ways to go on. Option (1): {}\nOption (2): {}\n"
    "The one that leads to the right answer is option ("
)
_TOKENS_PER_TOKEN = 4  # of the other tokenizer, in the question: more than two real ones differ by
_EVENLY = 1 << 63


class PatchJudge(Protocol):
    """Says which of two patches to keep. `tokens` is the most that the writer reads for it beside
    the answer."""

    @property
    def tokens(self) -> int: ...

    async def weigh(
        self, session: Session, state: GenerationView, after: Mapping[int, GenerationView]
    ) -> tuple[float, ...] | None:
        """The candidates' probabilities, as in `ComparingDecide.compare`; None if they cannot be
        compared here."""
        ...


class AskedWriter:
    """The writer judges by itself: it is asked about both texts. `info` is its model, `base` its
    index. Raises ConfigError for a model that cannot be asked."""

    def __init__(self, info: ModelInfo, base: int, lookahead: int) -> None:
        if "score" not in info.capabilities:
            raise ConfigError(
                f"{info.name} is to judge, but its server reports no log-probabilities: serve it "
                "with vLLM, or use engine.kind local"
            )
        choices = [info.codec.single(option) for option in OPTIONS]
        if None in choices:
            raise ConfigError(
                f"{info.name} is to judge, but its tokenizer does not write "
                f"{OPTIONS[choices.index(None)]} as one token: use another base, or another "
                "switcher.kind"
            )
        self._info = info
        self._base = base
        self._choices = tuple(choice for choice in choices if choice is not None)
        empty = info.codec.encode(QUESTION.format("", ""))
        self.tokens = len(empty) + 2 * _TOKENS_PER_TOKEN * lookahead

    async def weigh(
        self, session: Session, state: GenerationView, after: Mapping[int, GenerationView]
    ) -> tuple[float, ...] | None:
        own, mentors = (after[index].patches[-1].text for index in (self._base, 1 - self._base))
        question = self._info.codec.encode(QUESTION.format(own, mentors))
        if len(question) > self.tokens:
            return None
        prompt = [*state.prompt(self._base), *question]
        scores = await session.score(self._info.name, prompt, self._choices)
        preferred = probabilities(scores, f"{self._info.name}, which judges,")
        return preferred if self._base == 0 else preferred[::-1]


class MentorSwitcher:
    """Two candidates, of which the one with index `rule.base` writes, and the other one is its
    mentor. `judge` is the folder or hub id of a trained judge, or the judge itself; without one the
    writer judges. Places are sampled by the query's id and the number of tokens before them, so an
    answer is the same in every batch. Between two tokenizers a place is between two words."""

    def __init__(self, rule: MentorRule | None = None, judge: str | Judge | None = None) -> None:
        self.rule = rule or MentorRule()
        self._source = judge
        self._judge: PatchJudge | None = None
        self._models: tuple[ModelInfo, ...] = ()
        self._words: tuple[WordBoundaries, ...] = ()

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        require_pair(candidates)
        writer = candidates[self.rule.base]
        for info in candidates:
            if "token_ids" not in info.capabilities:
                raise ConfigError(
                    "this switcher compares the next tokens of two models, and the server of "
                    f"{info.name} gives no token ids: serve it with vLLM, or use engine.kind local"
                )
        if self._source is None:
            self._judge = AskedWriter(writer, self.rule.base, self.rule.lookahead)
        else:
            source = self._source
            judge = source if isinstance(source, Judge) else Judge.load(source)
            judge = judge.ordered([info.name for info in candidates])
            judge.check(writer)
            self._judge = StateJudge(judge)
        codecs = [info.codec for info in candidates]
        if await asyncio.to_thread(SharedVocabulary.of, codecs) is None:
            for info in candidates:
                if "next_token" not in info.capabilities:
                    raise ConfigError(
                        "the candidates' tokenizers differ, so patches must end between words, "
                        f"which the engine of {info.name} does not see: use engine.kind local or "
                        "vllm"
                    )
            self._words = tuple([await asyncio.to_thread(WordBoundaries, i) for i in candidates])
        self._models = tuple(candidates)

    @property
    def judge_tokens(self) -> int:
        """The most tokens that the writer reads beside the answer for its judge."""
        assert self._judge is not None, "prepare() before judge_tokens"
        return self._judge.tokens

    def begin(self, query: Query, policy: Policy) -> Decide:
        assert self._judge is not None, "prepare() before begin()"
        return MentorDecide(self.rule, self._models, self._words, self._judge, query.id)


class MentorDecide:
    """The decisions of one answer (`switchers.base.ComparingDecide`). They depend on nothing but
    what has been written."""

    def __init__(
        self,
        rule: MentorRule,
        models: Sequence[ModelInfo],
        words: Sequence[WordBoundaries],
        judge: PatchJudge,
        query: str,
    ) -> None:
        self._rule = rule
        self._models = tuple(models)
        self._words = tuple(words)  # empty with one vocabulary
        self._judge = judge
        self._query = query

    async def __call__(self, session: Session, state: GenerationView) -> tuple[float, ...]:
        return self._alone

    def criterion(self, speaker: int, state: GenerationView) -> StoppingCriterion:
        begun = _tokens(state)
        return self._end(speaker, state, lambda written: self._sampled(begun + written))

    async def rivals(self, session: Session, state: GenerationView) -> tuple[int, ...]:
        last = last_written(state)
        inside = bool(self._words) and last is not None and last.finish == "length"
        if inside or not self._sampled(_tokens(state)):
            return ()
        needs = self._rule.lookahead + self._judge.tokens
        if any(state.room(index) <= needs for index in range(2)):
            return ()
        try:
            first, second = [await self._next(session, state, index) for index in range(2)]
        except (UnavailableError, NotANumberError):
            return ()  # the other one can write alone
        return () if first == second else (self._rule.base, 1 - self._rule.base)

    def trial(self, speaker: int, state: GenerationView) -> StoppingCriterion:
        return self._end(speaker, state, lambda written: written >= self._rule.lookahead)

    async def compare(
        self, session: Session, state: GenerationView, after: Mapping[int, GenerationView]
    ) -> tuple[float, ...]:
        first, second = (after[index].patches[-1].text for index in range(2))
        if first == second:
            return self._alone
        return await self._judge.weigh(session, state, after) or self._alone

    @property
    def _alone(self) -> tuple[float, ...]:
        return tuple(float(index == self._rule.base) for index in range(2))

    def _sampled(self, tokens: int) -> bool:
        """Whether the place after so many tokens of the answer is one of those sampled."""
        return derive(0, self._query, "mentor", tokens) < self._rule.rate * _EVENLY

    async def _next(
        self, session: Session, state: GenerationView, index: int
    ) -> tuple[bytes | tuple[int, ...], bool]:
        """The most probable next token of a candidate, or word between two tokenizers, and whether
        the answer ends there."""
        info, most, word = self._models[index], 1, None
        if self._words:
            most, word = self._rule.lookahead, WordEnd(self._words[index])
        sampling = Sampling(most, temperature=0.0, stopping=word)
        written = await session.generate(info.name, state.prompt(index), sampling)
        ended = written.finish == "stop"
        if not self._words:
            return written.token_ids, ended
        return b"".join(map(self._words[index].bytes_of, written.token_ids)).strip(), ended

    def _end(
        self, speaker: int, state: GenerationView, due: Callable[[int], bool]
    ) -> StoppingCriterion:
        if not self._words:
            return EndWhere(due)
        last = last_written(state)
        words, before = self._words[speaker], b""
        if last is not None and last.speaker == speaker and last.finish == "length":
            before = b"".join(map(words.bytes_of, last.token_ids))
        return EndBetweenWords(due, words, before)


class EndBetweenWords(EndWhere):
    """Ends a patch between two words, where `due` says so for the number of tokens; `before` is the
    end of the text before the patch."""

    def __init__(self, due: Callable[[int], bool], words: WordBoundaries, before: bytes) -> None:
        super().__init__(due)
        self._words = words
        self._before = before

    def on_token(self, token: Token) -> bool:
        assert token.id is not None, "prepare() refuses engines without token ids"
        self._written += 1
        self._before = self._words.bytes_of(token.id)
        return False

    def should_stop_before(self, next_token: NextToken) -> bool:
        between = self._words.between(self._before, next_token.id)
        return self._written > 0 and between and self._due(self._written)


def _tokens(state: GenerationView) -> int:
    """The number of tokens that candidates have written."""
    return sum(len(patch.token_ids) for patch in state.patches if patch.speaker is not None)
