"""Requests to one model, as the event loop hands them to the thread that runs the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from taketurns.checkpoints.text import StopFilter, TextCodec
from taketurns.engines.base import OnToken
from taketurns.engines.local.logits import LogitsShaper
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.sampling import TokenDraw, drawable
from taketurns.errors import NotANumberError
from taketurns.types import Completion, Finish, NextToken, NextTokenCriterion, Sampling, Token

UNNAMED = "the model"  # the name of a model that has none


@dataclass(eq=False)
class Job:
    """Something to compute after `prompt`, for the answer whose encoded tokens are `parked`.

    `resolve` or `reject` is called once, in the thread that runs the model. `ended` says from
    outside that its lane is no longer needed. `reach` is the most tokens its lane will hold.
    `model` is the name of the model that runs it, `failure` why this job, and no other of its
    batch, has no result. Jobs of one `party` go on only together: none of them is begun before
    there is room for all that one runner has.
    """

    prompt: Sequence[int]
    parked: Parked
    resolve: Callable[[Any], None]
    reject: Callable[[Exception], None]
    model: str = field(default=UNNAMED, init=False)
    party: object | None = field(default=None, init=False)
    failure: Exception | None = field(default=None, init=False)
    cancelled: bool = field(default=False, init=False)
    ended: bool = field(default=False, init=False)
    result: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.reach = len(self.prompt)

    def cancel(self) -> None:
        """Give up; what it holds is freed at the next round."""
        self.cancelled = True

    def finished(self) -> None:
        """Hand over the result, what was encoded being parked by now, or the failure."""
        if self.failure is not None:
            self.reject(self.failure)
        else:
            self.resolve(self.result)

    def fail_at(self, what: str) -> None:
        """The model gave NaN or infinity for something."""
        self.failure = NotANumberError(
            f"{self.model} computed NaN or infinity for {what}, after a prompt of "
            f"{len(self.prompt)} tokens"
        )


@dataclass(eq=False)
class ScoreRequest(Job):
    """Look at the model after the prompt: natural-log probabilities of `choices` as the next token
    (None: of every token), or the hidden states of `layers`."""

    want: Literal["logprobs", "hidden"] = field(kw_only=True)
    choices: Sequence[int] | None = field(default=None, kw_only=True)
    layers: Sequence[int] = field(default=(), kw_only=True)

    def look(self, logits: Tensor, hidden: Sequence[Tensor]) -> None:
        """`logits` is `[vocabulary]`, `hidden` a `[d]` tensor a layer; both are copied out."""
        if self.want == "hidden":
            self.result = torch.stack([hidden[layer] for layer in self.layers]).cpu()
            if not self.result.isfinite().all():
                self.fail_at("its hidden states")
            return
        if not drawable(logits):
            self.fail_at("the next token")
            return
        logprobs = torch.log_softmax(logits, -1)
        if self.choices is None:
            self.result = logprobs.cpu()
        else:
            self.result = logprobs[list(self.choices)].tolist()


@dataclass(eq=False)
class GenerateRequest(Job):
    """Continue the prompt. `random` belongs to the answer; two numbers are drawn for a token.
    `cached_tokens` is how many tokens of the prompt were encoded before."""

    sampling: Sampling = field(kw_only=True)
    codec: TextCodec = field(kw_only=True)
    end_token_ids: frozenset[int] = field(kw_only=True)
    random: np.random.Generator = field(kw_only=True)
    emit: OnToken | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        sampling = self.sampling
        self.reach += sampling.max_tokens
        self.criterion = sampling.stopping
        self.looks_ahead = isinstance(self.criterion, NextTokenCriterion)
        self.constraint = sampling.constraint
        self.allowed: np.ndarray | None = None  # of the next token, as the constraint says
        options = sampling.options
        self.ends = self.end_token_ids.union(sampling.stop_token_ids, options.stop_token_ids)
        self.shaper = LogitsShaper.of(sampling, self.prompt, self.end_token_ids)
        self.cached_tokens = self.parked.common(self.prompt)
        self._written: list[int] = []
        self._logprobs: list[float] = []
        self._end: Token | None = None
        special = not options.skip_special_tokens
        self._text = self.codec.stream(self.prompt, special=special) if sampling.stop else None
        self._stops = StopFilter(sampling.stop, sampling.written)

    def draw(self) -> TokenDraw:
        """How to sample the next token."""
        first, second = self.random.random(2)
        return TokenDraw(self.sampling.temperature, self.sampling.top_p, first, second)

    def take(self, token: int, logits: Tensor | None = None) -> Finish | None:
        """Accept a token sampled from `logits` `[vocabulary]`; says whether it ends the patch, and
        why. Without them, as where several models wrote it, it has no log-probability."""
        finish = self._finish(token, logits)
        if finish is not None:
            self.result = self._completion(finish)
        return finish

    def cut(
        self, entropy: float | None, states: Tensor | None, next_token: NextToken | None = None
    ) -> bool:
        """Does the criterion, which there must be, end the patch before the next token is drawn?"""
        assert self.criterion is not None, "only a patch with a stopping criterion is cut"
        over = self.criterion.should_stop(entropy, states)
        if not over and next_token is not None:
            assert isinstance(self.criterion, NextTokenCriterion), "looks_ahead says so"
            over = self.criterion.should_stop_before(next_token)
        if over:
            self.result = self._completion(self.criterion.finish)
        return over

    def constrain(self) -> bool:
        """Ask the constraint, which there must be, what may be written next; True where nothing may
        but the end, and the patch ends by that. Raises FormatError."""
        assert self.constraint is not None, "only an answer with a format is constrained"
        self.allowed = self.constraint.allowed()
        if self.allowed is None:
            self.result = self._completion("stop")
        return self.allowed is None

    def _completion(self, finish: Finish) -> Completion:
        return Completion(
            token_ids=tuple(self._written),
            finish=finish,
            logprobs=tuple(self._logprobs) if self._logprobs else None,
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached_tokens,
            end=self._end,
        )

    def _finish(self, token: int, logits: Tensor | None) -> Finish | None:
        if token in self.ends:
            self._end = self._weigh(token, logits)
            return "stop"
        self._written.append(token)
        if self.shaper is not None:
            self.shaper.wrote(token)
        seen = self._weigh(token, logits)
        if seen.logprob is not None:
            self._logprobs.append(seen.logprob)
        if self.emit is not None:
            self.emit(seen)
        if self._text is not None:
            ending = len(self._written) > self.sampling.options.min_tokens
            self._stops.push(self._text.push(token), looking=ending)
            if self._stops.stopped:
                return "stop"
        if self.constraint is not None and self.constraint.advance(token):
            return "stop"
        if self.criterion is not None and self.criterion.on_token(seen):
            return self.criterion.finish
        return "length" if len(self._written) >= self.sampling.max_tokens else None

    def _weigh(self, token: int, logits: Tensor | None) -> Token:
        """The token with the log-probabilities that were asked for."""
        wanted = self.sampling.logprobs
        if wanted is None or logits is None:
            return Token(token)
        logprobs = torch.log_softmax(logits.float(), -1)
        values, ids = logprobs.topk(min(wanted, len(logprobs)))
        top = zip(ids.tolist(), values.tolist(), strict=True)
        return Token(token, logprob=float(logprobs[token]), top=tuple(top))


@dataclass(eq=False)
class PromptScoreRequest(Job):
    """Look at what the model says of the prompt's own tokens: each with its log-probability after
    those before it, and the `top` most probable in its place."""

    top: int = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._tokens = [Token(self.prompt[0])]

    def read(self, logits: Tensor) -> None:
        """`logits` `[tokens, vocabulary]` are what the model says after the prompt's next
        tokens."""
        first = len(self._tokens)
        ids = self.prompt[first : first + len(logits)]
        logits = logits[: len(ids)]
        if not bool(drawable(logits).all()):
            self.fail_at("a token of the prompt")
            return
        logprobs = torch.log_softmax(logits.float(), -1)
        at = torch.tensor(ids, dtype=torch.int64, device=logits.device)
        chosen = logprobs.gather(1, at[:, None]).squeeze(1).tolist()
        values, tops = logprobs.topk(min(self.top, logprobs.shape[-1]))
        for token, logprob, others, likely in zip(
            ids, chosen, tops.tolist(), values.tolist(), strict=True
        ):
            top = tuple(zip(others, likely, strict=True))
            self._tokens.append(Token(token, logprob=logprob, top=top))
        self.result = tuple(self._tokens)
