"""The number of a prompt's tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taketurns.checkpoints.prompts import speaker_ids
from taketurns.engines.base import ModelInfo
from taketurns.server.anthropic.schemas import CountTokensRequest
from taketurns.server.anthropic.translation import PLACES, chat_request
from taketurns.server.field_places import named_as
from taketurns.server.model_registry import ModelRegistry, RegisteredModel
from taketurns.server.sampling import rendering
from taketurns.server.schemas import ChatRequest
from taketurns.server.tool_plan import plan_tools


async def count_tokens(body: CountTokensRequest, registry: ModelRegistry) -> int:
    """How many tokens the prompt has, for a team as that of its candidates reads it to whom it is
    longest. Raises ApiError."""
    with named_as(PLACES):
        served = registry.find(body.model)
        infos = await registry.infos(served)
        # In a thread, because a long prompt would delay all streams.
        return await asyncio.to_thread(_longest, chat_request(body), served, infos)


def _longest(request: ChatRequest, served: RegisteredModel, infos: Sequence[ModelInfo]) -> int:
    chat = served.chat
    plan = plan_tools(request, chat.candidates, infos, chat.policy)
    query, how = plan.query("0"), rendering(request, plan)
    pairs = zip(chat.candidates, infos, strict=True)
    return max(len(speaker_ids(one.spec, info.codec, query, how)) for one, info in pairs)
