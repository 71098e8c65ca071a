"""Requests that stay open between the turns of a model in one answer.

vLLM keeps the keys and values of an open request, and each turn gives it what others wrote since
the last one. It drops the last token of every turn, which was drawn and not computed, so that token
comes first in the next input. A prompt that does not continue what the request holds (a patch taken
back, another question) ends it, and so does a patch that ends before its request: the next turn
opens another, for which the prefix cache has the whole blocks.

Only greedy patches are written so. vLLM takes a request's seed when it is opened (0.32), so the
draws of a turn would depend on whether an open request was had.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from taketurns.engines.base import OnToken
from taketurns.engines.vllm.patch import is_watched, most_listed, write_patch
from taketurns.engines.vllm.running import RunningModel
from taketurns.types import Completion, Sampling

Reported = tuple[int | None, int, bool]
"""The numbers of most probable and of given tokens, and whether the patch is watched."""


@dataclass(eq=False)
class OpenRequest:
    """A request to `model` of up to `longest` tokens, whose outputs have the form `reported`: what
    vLLM reads when the request is opened. It holds the tokens `held`; `stopped` says whether its
    last turn is over, and `busy` whether one runs."""

    model: RunningModel
    longest: int
    reported: Reported
    held: list[int] = field(default_factory=list)
    busy: bool = False
    stopped: bool = True
    _inputs: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    _outputs: Any = None

    def continues(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt begins with what is held and has more."""
        held = self.held
        return len(prompt) > len(held) and list(prompt[: len(held)]) == held

    @asynccontextmanager
    async def turn(
        self, prompt: Sequence[int], parameters: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Yields the outputs of a turn after `prompt`, which continues what is held. Raises as
        `RunningModel.request` does."""
        library = self.model.library
        fields = self.model.parameters(parameters)
        inputs = {"type": "token", "prompt_token_ids": list(prompt[len(self.held) :])}
        written: list[int] = []
        self.stopped = False
        async with self.model.sending(parameters):
            if self._outputs is None:
                self._outputs = self.model.llm.generate(
                    self._given(), fields, self.model.request_id(), lora_request=self.model.adapter
                )
            self._inputs.put_nowait(library.StreamingInput(inputs, fields))
            async with aclosing(self._until_it_stops(written)) as outputs:
                yield outputs
        self.held = [*prompt, *written[:-1]]  # the last token was not computed

    async def close(self) -> None:
        """End the request."""
        if self._outputs is not None:
            await self._outputs.aclose()

    async def _given(self) -> AsyncIterator[Any]:
        while True:
            yield await self._inputs.get()

    async def _until_it_stops(self, written: list[int]) -> AsyncGenerator[Any, None]:
        async for output in self._outputs:
            written += output.outputs[0].token_ids
            self.stopped = output.outputs[0].finish_reason is not None
            yield output
            if self.stopped:
                return


class OpenRequests:
    """The open requests of one answer, by model. Its prompts have up to `longest` tokens, or a
    model's context if that is not known."""

    def __init__(self, longest: int | None) -> None:
        self._longest = longest
        self._by_model: dict[str, OpenRequest] = {}

    async def write_patch(
        self,
        model: RunningModel,
        prompt: Sequence[int],
        sampling: Sampling,
        seed: int,
        on_token: OnToken | None,
    ) -> Completion:
        """Continue `prompt` by a patch: in the model's open request, in a new one, or in a request
        for this patch alone where none can be had."""
        reported = (most_listed(sampling), len(sampling.choices), is_watched(sampling, on_token))
        request = await self._request(model, prompt, sampling, reported)
        if request is None:
            return await write_patch(model, prompt, sampling, seed, on_token)
        request.busy = True
        try:
            completion = await write_patch(
                model, prompt, sampling, seed, on_token, request.turn, len(request.held)
            )
        except BaseException:
            await self._close(request)
            raise
        finally:
            request.busy = False
        if not request.stopped:  # the patch ended, and vLLM would write on
            await self._close(request)
        return completion

    async def close(self) -> None:
        """End all of them, except one whose turn is being cancelled and ends it."""
        for request in [each for each in self._by_model.values() if not each.busy]:
            await self._close(request)

    async def _request(
        self, model: RunningModel, prompt: Sequence[int], sampling: Sampling, reported: Reported
    ) -> OpenRequest | None:
        if sampling.temperature > 0 or sampling.constraint is not None:
            return None
        name = model.info.name
        request = self._by_model.get(name)
        if request is not None and request.busy:
            return None
        if request is not None:
            if request.reported == reported and request.continues(prompt):
                return request
            await self._close(request)
        longest = min(self._longest or model.info.context, model.info.context)
        if len(prompt) + sampling.max_tokens > longest or not model.reservations.take(longest):
            return None
        self._by_model[name] = OpenRequest(model, longest, reported)
        return self._by_model[name]

    async def _close(self, request: OpenRequest) -> None:
        del self._by_model[request.model.info.name]
        request.model.reservations.give_back(request.longest)
        await request.close()
