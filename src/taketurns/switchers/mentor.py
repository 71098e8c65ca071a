"""MentorCollab (arXiv 2602.05307): a model writes, and at sampled places a mentor offers a patch.

Where the next tokens of the two differ at such a place, both write a patch, and the writer itself
says which of the two leads on to the right answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from taketurns.checkpoints.text import SharedVocabulary
from taketurns.config.pair_rules import MentorRule
from taketurns.config.policy import Policy
from taketurns.engines.base import Engine, ModelInfo, Session
from taketurns.errors import ConfigError, NotANumberError, UnavailableError
from taketurns.switchers.base import Decide, GenerationView
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


class MentorSwitcher:
    """Two candidates, of which the one with index `rule.base` writes and judges, and the other one
    is its mentor. Places are sampled by the query's id and the number of tokens before them, so an
    answer is the same in every batch. Between two tokenizers a place is between two words."""

    def __init__(self, rule: MentorRule | None = None) -> None:
        self.rule = rule or MentorRule()
        self._models: tuple[ModelInfo, ...] = ()
        self._words: tuple[WordBoundaries, ...] = ()
        self._choices: tuple[int, ...] = ()

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        require_pair(candidates)
        writer = candidates[self.rule.base]
        for info in candidates:
            if "token_ids" not in info.capabilities:
                raise ConfigError(
                    "this switcher compares the next tokens of two models, and the server of "
                    f"{info.name} gives no token ids: serve it with vLLM, or use engine.kind local"
                )
        if "score" not in writer.capabilities:
            raise ConfigError(
                f"{writer.name} is to judge, but its server reports no log-probabilities: serve it "
                "with vLLM, or use engine.kind local"
            )
        choices = [writer.codec.single(option) for option in OPTIONS]
        if None in choices:
            raise ConfigError(
                f"{writer.name} is to judge, but its tokenizer does not write "
                f"{OPTIONS[choices.index(None)]} as one token: use another base, or another "
                "switcher.kind"
            )
        codecs = [info.codec for info in candidates]
        self._choices = tuple(choice for choice in choices if choice is not None)
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
    def question_tokens(self) -> int:
        """The most tokens that the writer reads beside the answer, its question about two patches.
        A longer question is not asked."""
        empty = self._models[self.rule.base].codec.encode(QUESTION.format("", ""))
        return len(empty) + 2 * _TOKENS_PER_TOKEN * self.rule.lookahead

    def begin(self, query: Query, policy: Policy) -> Decide:
        assert self._models, "prepare() before begin()"
        return MentorDecide(
            self.rule, self._models, self._words, self._choices, self.question_tokens, query.id
        )


class MentorDecide:
    """The decisions of one answer (`switchers.base.ComparingDecide`). They depend on nothing but
    what has been written."""

    def __init__(
        self,
        rule: MentorRule,
        models: Sequence[ModelInfo],
        words: Sequence[WordBoundaries],
        choices: Sequence[int],
        question_tokens: int,
        query: str,
    ) -> None:
        self._rule = rule
        self._models = tuple(models)
        self._words = tuple(words)  # empty with one vocabulary
        self._choices = tuple(choices)
        self._question_tokens = question_tokens
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
        needs = self._rule.lookahead + self._question_tokens
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
        self, session: Session, state: GenerationView, patches: Mapping[int, str]
    ) -> tuple[float, ...]:
        base = self._rule.base
        own, mentors = patches[base], patches[1 - base]
        writer = self._models[base]
        question = writer.codec.encode(QUESTION.format(own, mentors))
        if own == mentors or len(question) > self._question_tokens:
            return self._alone
        prompt = [*state.prompt(base), *question]
        scores = await session.score(writer.name, prompt, self._choices)
        preferred = probabilities(scores, f"{writer.name}, which judges,")
        return preferred if base == 0 else preferred[::-1]

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
