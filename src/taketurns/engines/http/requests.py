"""Requests to servers: OpenAI's completions as JSON, with the fields of vLLM or llama.cpp if a
server knows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taketurns.engines.base import ModelInfo
from taketurns.engines.http.options import biases, llama_fields, plain_fields, vllm_fields
from taketurns.types import Sampling

_SEED_BITS = (1 << 31) - 1  # every server accepts so many bits

VERBOSE: Mapping[str, Any] = {"verbose": True, "return_tokens": True}
"""Fields that make llama.cpp report the ids that it wrote."""
_FORCED = 1000.0  # a bias larger than the difference of any two logits
# Without these, llama.cpp's defaults and start options would change the sampling.
_LLAMA_SAMPLING: Mapping[str, Any] = {
    "samplers": ["temperature", "top_p"],
    "logit_bias": {},
    "mirostat": 0,
    "dynatemp_range": 0.0,
    "min_keep": 0,
    "ignore_eos": False,
    "cache_prompt": True,
}


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """What a server can do with the model that it calls `served_as`.

    `context` is the limit in tokens for a prompt and its continuation, and `vocabulary` the number
    of ids that the model knows; None if the server does not report them. `prompt_ids`: prompts may
    be token ids. `token_ids`: it reports the ids that it wrote, in vLLM's field, or in llama.cpp's
    if `verbose`. `exact_scores`: it reports log-probabilities of any given tokens, otherwise only
    those of the `top_logprobs` most probable. `only`: the model's name is not one of the
    candidate's names; the model is used because the server has no other. `formats`: it supports
    vLLM's `structured_outputs`.
    """

    software: str
    served_as: str
    context: int | None
    prompt_ids: bool
    token_ids: bool
    exact_scores: bool
    top_logprobs: int
    verbose: bool = False
    vocabulary: int | None = None
    only: bool = False
    formats: bool = False


def writing_request(
    abilities: ServerCapabilities,
    info: ModelInfo,
    prompt: Sequence[int],
    sampling: Sampling,
    seed: int,
    *,
    stream: bool,
) -> dict[str, Any]:
    """The body that requests up to `sampling.max_tokens` tokens after `prompt`. It has no stop
    strings: they may begin before the patch, so this side searches for them."""
    body: dict[str, Any] = {
        "model": abilities.served_as,
        "prompt": _prompt(abilities, info, prompt),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.temperature > 0:
        body["seed"] = seed & _SEED_BITS
    if sampling.logprobs is not None:
        body["logprobs"] = max(sampling.logprobs, 1) if abilities.verbose else sampling.logprobs
    if sampling.choices:
        body |= {"logprobs": 0, "logprob_token_ids": list(sampling.choices)}
    if added := biases(info, prompt, sampling):
        body["logit_bias"] = added
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if abilities.verbose:
        body = {**_LLAMA_SAMPLING, **body, **llama_fields(prompt, sampling), **VERBOSE}
    elif abilities.token_ids:
        options = sampling.options
        own = () if options.ignore_eos else info.end_token_ids.union(sampling.stop_token_ids)
        body |= {
            **vllm_fields(sampling),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stop_token_ids": _known(info, {*own, *options.stop_token_ids}),
        }
    else:
        body |= plain_fields(sampling)
    return body


def _known(info: ModelInfo, ids: Collection[int]) -> list[int]:
    """The ids that the model has. A server refuses a request with other ids, and the end tokens of
    another candidate's model may be such."""
    return sorted(token for token in ids if info.vocabulary is None or token < info.vocabulary)


def scoring_request(
    abilities: ServerCapabilities, info: ModelInfo, prompt: Sequence[int], choices: Sequence[int]
) -> dict[str, Any]:
    """The body that requests the log-probabilities of `choices` as the token after `prompt`."""
    body: dict[str, Any] = {
        "model": abilities.served_as,
        "prompt": _prompt(abilities, info, prompt),
        "max_tokens": 1,
        "temperature": 0.0,
    }
    if abilities.exact_scores:
        return body | {
            "logprobs": 0,
            "logprob_token_ids": list(choices),
            "return_tokens_as_token_ids": True,
        }
    body["logprobs"] = abilities.top_logprobs
    return body | forced(min(info.end_token_ids, default=choices[0])) if abilities.verbose else body


def forced(token: int) -> dict[str, Any]:
    """Fields that make llama.cpp write a given token. It reports no log-probabilities if its own
    next token ends inside a character; a bias does not change those that it reports."""
    return {**_LLAMA_SAMPLING, "temperature": 0.0, "logit_bias": {str(token): _FORCED}}


def _prompt(
    abilities: ServerCapabilities, info: ModelInfo, prompt: Sequence[int]
) -> list[int] | str:
    """Ids, or the exact text without the beginning-of-text token, which the server adds."""
    ids = list(prompt)
    if abilities.prompt_ids:
        return ids
    begin = info.codec.tokenizer.bos_token_id
    return info.codec.spell(ids[1:] if begin is not None and ids[:1] == [begin] else ids)
