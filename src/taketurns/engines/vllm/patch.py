"""Writing one patch with vLLM, and reading probabilities."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from taketurns.engines.base import OnToken
from taketurns.engines.http.formats import format_field
from taketurns.engines.patch_tokens import MOST_LISTED, PatchTokens, weighs
from taketurns.engines.vllm.outputs import read_prompt, read_tokens
from taketurns.engines.vllm.requests import (
    prompt_parameters,
    scoring_parameters,
    structured,
    writing_parameters,
)
from taketurns.engines.vllm.running import RunningModel
from taketurns.errors import EngineError
from taketurns.types import Completion, Sampling, Token

Turn = Callable[[Sequence[int], Mapping[str, Any]], AbstractAsyncContextManager[AsyncIterator[Any]]]
"""Gives the outputs that follow a prompt, with these parameters."""


async def write_patch(
    model: RunningModel,
    prompt: Sequence[int],
    sampling: Sampling,
    seed: int,
    on_token: OnToken | None,
    turn: Turn | None = None,
    held: int = 0,
) -> Completion:
    """Continue `prompt` by a patch: in a turn of an open request, which holds the first `held`
    tokens, or in a request of its own. Raises as `RunningModel.request` does."""
    listed = most_listed(sampling)
    patch = PatchTokens(model.info, prompt, sampling, on_token, listed)
    watched = is_watched(sampling, on_token)
    parameters = writing_parameters(model.info, prompt, sampling, seed, listed, watched=watched)
    constraint = sampling.constraint
    form = None if constraint is None else structured(format_field(constraint, b""))
    cached = held
    request = turn(prompt, parameters) if turn else model.request(prompt, parameters, form)
    async with request as outputs:
        async for output in outputs:
            cached = cached or output.num_cached_tokens or 0
            for token, scores in read_tokens(output, model.info.name, listed, sampling.choices):
                patch.take(token, scores)
            if patch.finish is not None and not output.finished:
                break  # vLLM would write on
    return completed(model, patch, len(prompt), cached)


def completed(model: RunningModel, patch: PatchTokens, prompt: int, cached: int) -> Completion:
    """The completion of a patch after a prompt of so many tokens, of which `cached` were not
    computed again; counts it."""
    counters, finish = model.counters, patch.finish or patch.over
    if finish is None:
        raise EngineError(
            f"vLLM ended a patch of {model.info.name} after {len(patch.tokens)} tokens, before it "
            "was whole: see its log"
        )
    counters.prompt_tokens += prompt
    counters.cached_tokens += cached
    counters.written_tokens += len(patch.tokens)
    return Completion(
        token_ids=tuple(patch.ids),
        finish=finish,
        logprobs=patch.logprobs,
        prompt_tokens=prompt,
        cached_tokens=cached,
        scores=patch.scores,
        end=patch.end,
    )


async def score_next(
    model: RunningModel, prompt: Sequence[int], choices: Sequence[int]
) -> list[float]:
    """The natural-log probabilities of `choices` as the next token, under the full softmax."""
    async with model.request(prompt, scoring_parameters(choices)) as outputs:
        async for output in outputs:
            for _, scores in read_tokens(output, model.info.name, None, choices):
                model.counters.prompt_tokens += len(prompt)
                model.counters.cached_tokens += output.num_cached_tokens or 0
                assert scores is not None
                return list(scores)
    raise EngineError(f"vLLM gave no log-probabilities of {model.info.name}: see its log")


async def score_prompt(model: RunningModel, prompt: Sequence[int], top: int) -> tuple[Token, ...]:
    """The prompt's tokens with their log-probabilities and the `top` most probable ones."""
    async with model.request(prompt, prompt_parameters(top)) as outputs:
        async for output in outputs:
            if output.prompt_logprobs:
                return read_prompt(prompt, output.prompt_logprobs, model.info.name, top)
    raise EngineError(f"vLLM gave no log-probabilities of {model.info.name}: see its log")


def is_watched(sampling: Sampling, on_token: OnToken | None) -> bool:
    """Whether a patch's tokens are needed one by one: someone sees them, or one of them may end the
    patch where vLLM would write on."""
    return on_token is not None or bool(sampling.stop) or sampling.stopping is not None


def most_listed(sampling: Sampling) -> int | None:
    """The number of most probable tokens to ask for with each token: those of `sampling`, and for
    an entropy as many as vLLM reports."""
    if not weighs(sampling.stopping):
        return sampling.logprobs
    return max(sampling.logprobs or 0, MOST_LISTED)
