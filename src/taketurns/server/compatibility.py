"""Fields of OpenAI's and vLLM's requests for features that no team has.

Clients send them with their defaults, so each is accepted with the values that ask for nothing, and
refused as not supported with any other. A field that has no effect on the text of an answer is
accepted with every value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


def _or_refuse(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        raise PydanticCustomError("not_supported", "not supported") from None


NOT_SUPPORTED = WrapValidator(_or_refuse)
"""Of a field whose type allows nothing but the values that ask for nothing."""

NoList = Annotated[Annotated[list[Any], Field(max_length=0)] | None, NOT_SUPPORTED]
NoObject = Annotated[Annotated[dict[str, Any], Field(max_length=0)] | None, NOT_SUPPORTED]
NoText = Annotated[Literal[""] | None, NOT_SUPPORTED]
Off = Annotated[Literal[False] | None, NOT_SUPPORTED]
On = Annotated[Literal[True] | None, NOT_SUPPORTED]
Absent = Annotated[None, NOT_SUPPORTED]
Zero = Annotated[Literal[0] | None, NOT_SUPPORTED]
One = Annotated[Literal[1] | None, NOT_SUPPORTED]
JustOne = Annotated[Annotated[float, Field(ge=1, le=1)] | None, NOT_SUPPORTED]
Unlimited = Annotated[Literal[-1] | None, NOT_SUPPORTED]
Name = Annotated[str, Field(max_length=1024)]


class InertFields(BaseModel):
    """Of both ways of asking for an answer."""

    user: Name | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_retention: Name | None = None
    prompt_cache_options: dict[str, Any] | None = None
    session_id: Name | None = None
    cache_salt: Name | None = None
    stream_interval: int | None = Field(None, ge=1)
    spaces_between_special_tokens: bool | None = None
    truncation_side: Literal["left", "right"] | None = None
    return_mm_kwargs: bool | None = None
    mm_payload: Literal["tensors", "none"] | None = None

    use_beam_search: Off = None
    length_penalty: JustOne = None
    include_stop_str_in_output: Off = None
    truncate_prompt_tokens: Absent = None
    prompt_logprobs: Absent = None
    logprob_token_ids: NoList = None
    allowed_token_ids: NoList = None
    bad_words: NoList = None
    logits_processors: NoList = None
    priority: Zero = None
    routed_experts_prompt_start: Zero = None
    return_token_offsets: Off = None
    kv_transfer_params: NoObject = None
    ec_transfer_params: NoObject = None
    vllm_xargs: NoObject = None
    repetition_detection: NoObject = None
    thinking_token_budget: Unlimited = None
    watermarking: Off = None


class InertTemplateFields(BaseModel):
    """Of all requests that have messages."""

    chat_template: NoText = None
    documents: NoList = None
    media_io_kwargs: NoObject = None
    mm_processor_kwargs: NoObject = None


class InertChatFields(InertFields, InertTemplateFields):
    """Of chat completions."""

    add_special_tokens: Off = None
    include_reasoning: bool | None = None
    return_prompt_text: Off = None
    audio: NoObject = None
    prediction: NoObject = None
    moderation: NoObject = None
    web_search_options: NoObject = None
    verbosity: Annotated[Literal["medium"] | None, NOT_SUPPORTED] = None
    modalities: Annotated[
        Annotated[list[Literal["text"]], Field(fail_fast=True, max_length=8)] | None, NOT_SUPPORTED
    ] = None
    functions: NoList = None
    function_call: Annotated[Literal["none", "auto"] | None, NOT_SUPPORTED] = None


class InertCompletionFields(InertFields):
    """Of completions."""

    add_special_tokens: On = None
    best_of: One = None
    suffix: NoText = None
    prompt_embeds: NoList = None
