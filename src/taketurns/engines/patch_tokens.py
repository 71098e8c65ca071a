"""The tokens of one patch as a server or a library reports them, up to the one that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log

from taketurns.checkpoints.text import StopFilter
from taketurns.engines.base import ModelInfo, OnToken
from taketurns.types import (
    Finish,
    NextToken,
    NextTokenCriterion,
    Sampling,
    StoppingCriterion,
    Token,
)

MOST_LISTED = 20
"""The number of most probable tokens from which an entropy is computed; vLLM reports no more unless
it is started otherwise."""


class PatchTokens:
    """Collects the tokens that follow `prompt`; `on_token` sees each of them once.

    What writes them knows neither stop strings nor criteria and may continue after the patch's end,
    so the end is found here. With `Sampling.choices`, one token more is needed after the last: only
    with a token come log-probabilities. `listed` is the number of most probable tokens that are
    reported with each token, None for none.
    """

    def __init__(
        self,
        info: ModelInfo,
        prompt: Sequence[int],
        sampling: Sampling,
        on_token: OnToken | None,
        listed: int | None,
    ) -> None:
        options = sampling.options
        self.tokens: list[Token] = []
        self.finish: Finish | None = None
        self.over: Finish | None = None  # why the patch ends, once its last token is known
        self.end: Token | None = None
        self.scores: tuple[float, ...] | None = None
        self.stops = StopFilter(sampling.stop, sampling.written)
        self._sampling = sampling
        self._on_token = on_token
        self._listed = listed
        self._ends = info.end_token_ids.union(sampling.stop_token_ids, options.stop_token_ids)
        self._reader = info.codec.stream(prompt, special=not options.skip_special_tokens)

    @property
    def ids(self) -> list[int]:
        """The ids of the patch so far."""
        return [token.id for token in self.tokens if token.id is not None]

    @property
    def logprobs(self) -> tuple[float, ...] | None:
        """The log-probabilities of the tokens; None if they were not asked for, or one is
        unknown."""
        if self._sampling.logprobs is None:
            return None
        known = tuple(token.logprob for token in self.tokens if token.logprob is not None)
        return known if len(known) == len(self.tokens) else None

    def take(self, token: Token, scores: tuple[float, ...] | None = None) -> None:
        """Add a token, unless the patch has ended; `scores` are the log-probabilities of
        `Sampling.choices` in its place."""
        if self.finish is not None:
            return
        if self.over is not None:
            self.scores, self.finish = scores, self.over
            return
        sampling, criterion = self._sampling, self._sampling.stopping
        if criterion is not None and token.top and _stops_before(criterion, token):
            self.finish = criterion.finish  # the patch ends before this token, which is dropped
            return
        if self._listed != (wanted := sampling.logprobs):
            token = Token(token.id) if wanted is None else replace(token, top=token.top[:wanted])
        assert token.id is not None, "a patch by ids has no other tokens"
        if token.id in self._ends:
            self.finish, self.end = "stop", token
            return
        if sampling.stop:
            ending = len(self.tokens) >= sampling.options.min_tokens
            self.stops.push(self._reader.push(token.id), looking=ending)
        self.tokens.append(token)
        if self._on_token is not None:
            self._on_token(token)
        if self.stops.stopped:
            self.finish = "stop"
            return
        if criterion is not None and criterion.on_token(token):
            self.over = criterion.finish
        elif len(self.tokens) >= sampling.max_tokens:
            self.over = "length"
        if not sampling.choices:
            self.finish = self.over


def weighs(criterion: StoppingCriterion | None) -> bool:
    """Whether a criterion needs the most probable tokens at each place."""
    return criterion is not None and (
        criterion.entropy or isinstance(criterion, NextTokenCriterion)
    )


def _stops_before(criterion: StoppingCriterion, token: Token) -> bool:
    """Whether the criterion ends the patch before this token."""
    if not weighs(criterion):
        return False
    entropy = _entropy(token)
    if criterion.entropy and criterion.should_stop(entropy, None):
        return True
    if not isinstance(criterion, NextTokenCriterion):
        return False
    top, logprob = max(token.top, key=lambda listed: listed[1])
    return criterion.should_stop_before(NextToken(top, exp(logprob), entropy))


def _entropy(token: Token) -> float:
    """The entropy in nats of the distribution at a token, from the reported log-probabilities. The
    rest of the probability counts as one token, so the true entropy may be higher."""
    listed = [exp(logprob) for _, logprob in token.top]
    rest = max(0.0, 1.0 - sum(listed))
    return -sum(p * log(p) for p in (*listed, rest) if p > 0)


def scores_fit(info: ModelInfo, prompt: int, sampling: Sampling) -> bool:
    """Whether the log-probabilities of `Sampling.choices` can come with a patch after a prompt of
    so many tokens. That needs room for one token more. vLLM reports either these or the most
    probable tokens, which a client or a criterion may need."""
    fits = prompt + sampling.max_tokens + 1 <= info.context
    exact = {"exact_score", "token_ids"} <= info.capabilities
    unsure = weighs(sampling.stopping)
    free = sampling.logprobs is None and sampling.constraint is None
    return fits and exact and free and not unsure
