"""/tokenize and /detokenize, as vLLM has them; for the team, where its candidates agree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from taketurns.checkpoints.prompts import speaker_ids
from taketurns.engines.base import ModelInfo
from taketurns.server.errors import refused
from taketurns.server.jobs import asked
from taketurns.server.model_registry import ModelRegistry, Served
from taketurns.server.schemas import DetokenizeRequest, TokenizeRequest


async def tokenize(request: TokenizeRequest, roster: ModelRegistry) -> dict[str, Any]:
    """Token ids of a text, or of what a model is given for a conversation."""
    if (request.prompt is None) == (request.messages is None):
        raise refused("either prompt or messages is needed, not both", "prompt")
    served = roster.find(request.model)
    infos = await _infos(served, roster)
    # A text may be as long as a body: the streams of others must not wait for it.
    return await asyncio.to_thread(_tokenized, request, served, infos)


def _tokenized(
    request: TokenizeRequest, served: Served, infos: Sequence[ModelInfo]
) -> dict[str, Any]:
    found = [_tokens(request, served, index, info) for index, info in enumerate(infos)]
    tokens = _agreed(found, served)
    reply: dict[str, Any] = {
        "count": len(tokens),
        "max_model_len": min(info.context for info in infos),
        "tokens": tokens,
        "token_strs": None,
    }
    if request.return_token_strs:
        reply["token_strs"] = infos[0].codec.tokenizer.convert_ids_to_tokens(tokens)
    return reply


async def detokenize(request: DetokenizeRequest, roster: ModelRegistry) -> dict[str, Any]:
    """The text of token ids; control tokens have none."""
    served = roster.find(request.model)
    infos = await _infos(served, roster)
    for info in infos:
        size = len(info.codec.tokenizer)
        if unknown := [token for token in request.tokens if token >= size]:
            raise refused(f"there is no token {unknown[0]}; there are {size}", "tokens")
    return {"prompt": await asyncio.to_thread(_decoded, request, served, infos)}


def _decoded(request: DetokenizeRequest, served: Served, infos: Sequence[ModelInfo]) -> str:
    return str(_agreed([info.codec.decode(request.tokens) for info in infos], served))


async def _infos(served: Served, roster: ModelRegistry) -> list[ModelInfo]:
    return [await roster.team.engine.info(name) for name in served.speakers]


def _tokens(request: TokenizeRequest, served: Served, index: int, info: ModelInfo) -> list[int]:
    if request.messages is None:
        return info.codec.encode(request.prompt or "", special=request.add_special_tokens)
    spec = served.chat.candidates[index].spec
    return speaker_ids(spec, info.codec, asked("0", request.messages))


def _agreed(found: list[Any], served: Served) -> Any:
    if any(one != found[0] for one in found):
        raise refused(
            f"the candidates of {served.name!r} read this differently: name one of "
            + ", ".join(served.speakers),
            "model",
        )
    return found[0]
