"""Sampling options as servers take them (`SamplingOptions`), and which of them each has.

A server counts what it writes for one request, and an answer has many. vLLM's repetition penalty
counts the prompt too, in which the answer so far stands. What frequency and presence penalties must
count beside is in the request as biases. That is not the same to the letter: a token of the answer
so far that is written again within a request is lowered by the presence penalty twice, until the
request ends, and a repetition penalty divides the biases too. llama.cpp counts the whole prompt for
all its penalties, so presence and frequency penalties are not had from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taketurns.engines.base import ALL_OPTIONS, ModelInfo
from taketurns.types import Sampling

LEAST_BIAS = -100.0  # the least that the API has
_PLAIN: frozenset[str] = frozenset(("logit_bias", "presence_penalty", "frequency_penalty"))
_LLAMA: frozenset[str] = ALL_OPTIONS - {"presence_penalty", "frequency_penalty", "min_tokens"}


def options_of(*, token_ids: bool, verbose: bool) -> frozenset[str]:
    """The options that a server has: llama.cpp where it is `verbose`, vLLM where it reports
    `token_ids`, any other that has OpenAI's API."""
    if verbose:
        return _LLAMA
    return ALL_OPTIONS if token_ids else _PLAIN


def plain_fields(sampling: Sampling) -> Mapping[str, Any]:
    """The fields that every server has."""
    options = sampling.options
    penalties = {
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
    }
    return {name: value for name, value in penalties.items() if value}


def vllm_fields(sampling: Sampling) -> Mapping[str, Any]:
    """vLLM's fields. Those for the distribution are always there: a server's own defaults (from
    generation_config.json) would change what is sampled."""
    options = sampling.options
    fields: dict[str, Any] = {
        "top_k": options.top_k,
        "min_p": options.min_p,
        "repetition_penalty": options.repetition_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
    }
    if options.min_tokens:
        fields["min_tokens"] = min(options.min_tokens, sampling.max_tokens)
    if options.ignore_eos:
        fields["ignore_eos"] = True
    return fields


def llama_fields(prompt: Sequence[int], sampling: Sampling) -> Mapping[str, Any]:
    """llama.cpp's fields after `prompt`, with its samplers in vLLM's order. Its penalties look back
    over so many tokens as they are told, at most; here that is all."""
    options = sampling.options
    fields: dict[str, Any] = {}
    samplers = ["temperature"]
    if options.repetition_penalty != 1.0:
        samplers.insert(0, "penalties")
        fields["repeat_penalty"] = options.repetition_penalty
        fields["repeat_last_n"] = len(prompt) + sampling.max_tokens
    if options.min_p:
        samplers.append("min_p")
        fields["min_p"] = options.min_p
    if options.top_k:
        samplers.append("top_k")
        fields["top_k"] = options.top_k
    if fields:
        fields["samplers"] = [*samplers, "top_p"]
    if options.ignore_eos:
        fields["ignore_eos"] = True
    return fields


def biases(info: ModelInfo, prompt: Sequence[int], sampling: Sampling) -> Mapping[str, float]:
    """What is added to the logits of single tokens after `prompt`, by id: the request's own biases,
    what the penalties count of the answer so far, and for tokens that may not be written the least
    there is. It does not change the log-probabilities that vLLM tells."""
    options = sampling.options
    added: dict[int, float] = dict(options.logit_bias)
    start = len(prompt) if sampling.answer_start is None else sampling.answer_start
    if options.frequency_penalty or options.presence_penalty:
        for token in prompt[start:]:
            added[token] = added.get(token, 0.0) - options.frequency_penalty
        for token in set(prompt[start:]):
            added[token] -= options.presence_penalty
    banned = set(info.suppressed_token_ids)
    if options.ignore_eos:
        banned |= info.end_token_ids.union(sampling.stop_token_ids)
    limited = {token: min(-LEAST_BIAS, max(LEAST_BIAS, value)) for token, value in added.items()}
    limited |= dict.fromkeys(banned, LEAST_BIAS)
    size = info.vocabulary  # a server refuses a request that names others
    return {
        str(token): value
        for token, value in sorted(limited.items())
        if value and (size is None or token < size)
    }
