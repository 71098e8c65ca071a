"""Requests to vLLM: sampling parameters by its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taketurns.engines.base import ModelInfo
from taketurns.engines.http.options import biases, vllm_fields
from taketurns.types import Sampling

_SEED_BITS = (1 << 63) - 1  # vLLM's seeds have 64 bits with a sign


def writing_parameters(
    info: ModelInfo,
    prompt: Sequence[int],
    sampling: Sampling,
    seed: int,
    listed: int | None,
    *,
    watched: bool,
) -> dict[str, Any]:
    """The parameters of a request for a patch after `prompt`, and for one token more if it asks for
    `Sampling.choices`. `listed` is the number of most probable tokens that are reported. A patch
    that is not `watched` comes in two outputs, its first token and the rest: each output costs
    this process as much as a step of a small model. There are no stop strings: they may begin
    before the patch, so they are found on this side. A format is apart (`structured`)."""
    options = sampling.options
    own = () if options.ignore_eos else info.end_token_ids.union(sampling.stop_token_ids)
    parameters: dict[str, Any] = {
        **vllm_fields(sampling),
        "max_tokens": sampling.max_tokens + bool(sampling.choices),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop_token_ids": [i for i in sorted({*own, *options.stop_token_ids}) if _known(info, i)],
        "detokenize": False,
    }
    if not watched:
        parameters["stream_interval"] = parameters["max_tokens"]
    if sampling.temperature > 0:
        parameters["seed"] = seed & _SEED_BITS
    if listed is not None:
        parameters["logprobs"] = listed
    if sampling.choices:
        parameters["logprob_token_ids"] = list(sampling.choices)
    if added := biases(info, prompt, sampling):
        parameters["logit_bias"] = {int(token): value for token, value in added.items()}
    return parameters


def scoring_parameters(choices: Sequence[int]) -> dict[str, Any]:
    """The parameters of a request for the log-probabilities of `choices` as the next token."""
    return {
        "max_tokens": 1,
        "temperature": 0.0,
        "logprob_token_ids": list(choices),
        "detokenize": False,
    }


def prompt_parameters(top: int) -> dict[str, Any]:
    """The parameters of a request for the log-probabilities of the prompt's own tokens, with the
    `top` most probable ones in their places."""
    return {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": top, "detokenize": False}


def structured(field: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of vLLM's `StructuredOutputsParams` for the field of an HTTP request."""
    return dict(field["structured_outputs"])


def _known(info: ModelInfo, token: int) -> bool:
    """Whether the model has a token: the end tokens of another candidate's model may be beyond."""
    return info.vocabulary is None or token < info.vocabulary
