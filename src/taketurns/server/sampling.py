"""What of a request's fields shapes how its answers are sampled and how its prompts are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taketurns.checkpoints.prompts import Rendering
from taketurns.checkpoints.text import TextCodec
from taketurns.config.policy import Policy
from taketurns.engines.base import ModelInfo
from taketurns.generation.handover import PromptOptions
from taketurns.generation.sampling_options import unfit
from taketurns.server.errors import bad_request
from taketurns.server.schemas import (
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    TokenizeRequest,
)
from taketurns.server.tool_plan import ToolPlan
from taketurns.types import SamplingOptions

_AS_THEY_ARE = (
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "skip_special_tokens",
)


def sampling_options(
    request: GenerationRequest, policy: Policy, max_tokens: int
) -> SamplingOptions | None:
    """The policy's options with the changes that the request asks for. Raises ApiError."""
    if request.min_tokens is not None and request.min_tokens > max_tokens:
        raise bad_request(
            f"min_tokens is {request.min_tokens}, and the answer has at most {max_tokens}: lower "
            "min_tokens or raise max_tokens",
            "min_tokens",
        )
    wanted: dict[str, Any] = {name: getattr(request, name) for name in _AS_THEY_ARE}
    if request.logit_bias is not None:
        wanted["logit_bias"] = tuple({int(t): b for t, b in request.logit_bias.items()}.items())
    if request.stop_token_ids is not None:
        wanted["stop_token_ids"] = tuple(request.stop_token_ids)
    changes = {name: value for name, value in wanted.items() if value is not None}
    return replace(policy.sampling or SamplingOptions(), **changes) if changes else policy.sampling


def check_models(policy: Policy, infos: Sequence[ModelInfo]) -> None:
    """Raise ApiError for an option that one of the models cannot follow."""
    formatted = policy.format is not None
    if (misfit := unfit(policy.sampling, infos, formatted=formatted)) is not None:
        raise bad_request(misfit.why, misfit.name)


def rendering(request: ChatRequest | TokenizeRequest, plan: ToolPlan) -> Rendering:
    """How the conversation is rendered. Raises ApiError for fields that contradict each other."""
    begins, goes_on = request.add_generation_prompt, request.continue_final_message
    if begins and goes_on:
        raise bad_request(
            "continue_final_message and add_generation_prompt cannot both be true: leave one out",
            "continue_final_message",
        )
    last = plan.turns[-1].role
    if goes_on and last != "assistant":
        raise bad_request(
            "continue_final_message: true is not supported for a last message of the "
            f"{last}: only the assistant's can be continued; leave it out",
            "continue_final_message",
        )
    variables = dict(request.chat_template_kwargs or {})
    if isinstance(request, ChatRequest) and request.reasoning_effort is not None:
        # As vLLM has it: templates know one or the other.
        variables["reasoning_effort"] = request.reasoning_effort
        variables.setdefault("enable_thinking", request.reasoning_effort != "none")
    return Rendering(begins is not False, goes_on, variables, plan.conversation)


def prompt_options(
    request: ChatRequest | CompletionRequest, prompt: Any, infos: Sequence[ModelInfo]
) -> PromptOptions:
    """How a prompt of the request is read by the models of `infos`. Raises ApiError."""
    if isinstance(request, ChatRequest):
        return PromptOptions(rendering(request, prompt))
    if isinstance(prompt, str) or not _takes_any_ids(infos):
        return PromptOptions()
    return PromptOptions(token_ids=tuple(prompt))


def _takes_any_ids(infos: Sequence[ModelInfo]) -> bool:
    """A single model continues whatever ids it is given, unless its server takes only text."""
    return len(infos) == 1 and "token_ids" in infos[0].capabilities


def prompt_text(prompt: Sequence[int], infos: Sequence[ModelInfo]) -> str:
    """The text of a prompt of token ids. Raises ApiError for ids that do not exist, or that the
    models would not read of their text where they are given that."""
    for info in infos:
        size = info.codec.size if info.vocabulary is None else info.vocabulary
        if beyond := [token for token in prompt if token >= size]:
            raise bad_request(
                f"there is no token {beyond[0]}: {info.name} knows 0 to {size - 1}", "prompt"
            )
    text = infos[0].codec.decode(prompt)
    if _takes_any_ids(infos):
        return text
    for codec in (info.codec for info in infos):
        read = codec.encode(text, special=True)
        if read != list(prompt):
            raise bad_request(
                "these token ids are not what the models would read of their text: "
                f"{_difference(codec, prompt, read)}; send the text, or name one candidate as the "
                "model, which continues any ids",
                "prompt",
            )
    return text


def _difference(codec: TextCodec, sent: Sequence[int], read: Sequence[int]) -> str:
    """Where two lists of ids part, as a clause."""
    missing = len(read) - len(sent)
    if missing > 0 and list(read[missing:]) == list(sent):
        names = codec.tokenizer.convert_ids_to_tokens(list(read[:missing]))
        first = ", ".join(f"{name!r} ({i})" for name, i in zip(names, read, strict=False))
        return f"they lack {first} at the beginning"
    pairs = enumerate(zip(sent, read, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(sent), len(read)))
    if at == len(sent):
        return f"{read[at]} would follow them"
    if at == len(read):
        return f"they would end before {sent[at]} at place {at}"
    return f"at place {at} it would be {read[at]}, not {sent[at]}"
