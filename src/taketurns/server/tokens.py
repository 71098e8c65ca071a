"""/tokenize and /detokenize, as in vLLM; for the team only if its candidates agree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from taketurns.checkpoints.prompts import speaker_ids
from taketurns.engines.base import ModelInfo
from taketurns.server.errors import bad_request
from taketurns.server.model_registry import ModelRegistry, RegisteredModel
from taketurns.server.sampling import rendering
from taketurns.server.schemas import DetokenizeRequest, TokenizeRequest
from taketurns.server.tool_plan import ToolPlan, plan_tools

T = TypeVar("T")


async def tokenize(request: TokenizeRequest, registry: ModelRegistry) -> dict[str, Any]:
    """Token ids of a text, or of the prompt that a conversation becomes."""
    if (request.prompt is None) == (request.messages is None):
        raise bad_request("send either prompt or messages, not both", "prompt")
    if request.messages is not None and request.add_special_tokens:
        raise bad_request(
            "add_special_tokens: true is not supported with messages, whose chat template writes "
            "the special tokens: leave it out",
            "add_special_tokens",
        )
    served = registry.find(request.model)
    infos = await registry.infos(served)
    # In a thread, because a long text would delay all streams.
    return await asyncio.to_thread(_tokenized, request, served, infos)


def _tokenized(
    request: TokenizeRequest, served: RegisteredModel, infos: Sequence[ModelInfo]
) -> dict[str, Any]:
    chat = served.chat
    plan = None
    if request.messages is not None:
        plan = plan_tools(request, chat.candidates, infos, chat.policy)
    tokens = _agreed([_ids(request, served, plan, *pair) for pair in enumerate(infos)], served)
    tokenizer = infos[0].codec.tokenizer
    return {
        "count": len(tokens),
        "max_model_len": min(info.context for info in infos),
        "tokens": tokens,
        "token_strs": (
            tokenizer.convert_ids_to_tokens(tokens) if request.return_token_strs else None
        ),
    }


async def detokenize(request: DetokenizeRequest, registry: ModelRegistry) -> dict[str, Any]:
    """The text of token ids; control tokens have none."""
    served = registry.find(request.model)
    infos = await registry.infos(served)
    for info in infos:
        size = len(info.codec.tokenizer)
        if unknown := [token for token in request.tokens if token >= size]:
            raise bad_request(
                f"there is no token {unknown[0]}: the ids are 0 to {size - 1}", "tokens"
            )
    return {"prompt": await asyncio.to_thread(_decoded, request, served, infos)}


def _decoded(
    request: DetokenizeRequest, served: RegisteredModel, infos: Sequence[ModelInfo]
) -> str:
    return _agreed([info.codec.decode(request.tokens) for info in infos], served)


def _ids(
    request: TokenizeRequest,
    served: RegisteredModel,
    plan: ToolPlan | None,
    index: int,
    info: ModelInfo,
) -> list[int]:
    if plan is None:
        special = request.add_special_tokens is not False
        return info.codec.encode(request.prompt or "", special=special)
    spec = served.chat.candidates[index].spec
    return speaker_ids(spec, info.codec, plan.query("0"), rendering(request, plan))


def _agreed(results: Sequence[T], served: RegisteredModel) -> T:
    """The common result of all candidates. Raises ApiError if they differ."""
    if any(result != results[0] for result in results):
        raise bad_request(
            f"the candidates of {served.name!r} tokenise this differently: set model to one of "
            + ", ".join(served.speakers),
            "model",
        )
    return results[0]
