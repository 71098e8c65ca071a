"""A model that runs in vLLM, and one request to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from taketurns.engines.base import ModelInfo
from taketurns.engines.logprobs_gate import Kind, LogprobsGate
from taketurns.engines.vllm.library import Library
from taketurns.errors import EngineError, UnavailableError, one_line


@dataclass
class ModelCounters:
    """What a model was asked and what it did, in requests and tokens. `cached_tokens` are those of
    the prompts that vLLM did not compute again."""

    requests: int = 0
    written_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


@dataclass
class Reservations:
    """What open requests may hold of an engine: a number of requests and of tokens. vLLM neither
    takes turns away from an open request nor its memory, so without a limit the others would wait
    forever."""

    requests: int
    tokens: int

    def take(self, tokens: int) -> bool:
        """Reserve a request of up to so many tokens; False if there is no room."""
        if self.requests < 1 or self.tokens < tokens:
            return False
        self.requests -= 1
        self.tokens -= tokens
        return True

    def give_back(self, tokens: int) -> None:
        """End a reservation."""
        self.requests += 1
        self.tokens += tokens


@dataclass(eq=False)
class RunningModel:
    """A model by its name in the team: its engine `llm`, which others may share with the `gate` and
    the `reservations`, and its adapter there. Used in the engines' thread only."""

    info: ModelInfo
    library: Library
    llm: Any
    adapter: Any
    gate: LogprobsGate | None
    reservations: Reservations
    counters: ModelCounters = field(default_factory=ModelCounters)
    _numbers: Any = field(default_factory=count)

    @asynccontextmanager
    async def request(
        self,
        prompt: Sequence[int],
        parameters: Mapping[str, Any],
        structured: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Yields the outputs of a request, each with the tokens since the one before. Leaving the
        block before the last ends the request. Raises UnavailableError if the engine has ended, and
        EngineError for a request that it refuses, also within the block."""
        inputs = {"type": "token", "prompt_token_ids": list(prompt)}  # vLLM changes the list
        async with self.sending(parameters):
            outputs = self.llm.generate(
                inputs,
                self.parameters(parameters, structured),
                self.request_id(),
                lora_request=self.adapter,
            )
            async with aclosing(outputs):
                yield outputs

    @asynccontextmanager
    async def sending(self, parameters: Mapping[str, Any]) -> AsyncIterator[None]:
        """A request with these parameters, or a turn of an open one, runs within the block, which
        waits until it may. vLLM's errors become this package's, with the model's name."""
        kind = kind_of(parameters)
        passing = nullcontext() if self.gate is None else self.gate.passing(kind)
        async with passing, self._failing():
            self.counters.requests += 1
            yield

    def parameters(
        self, parameters: Mapping[str, Any], structured: Mapping[str, Any] | None = None
    ) -> Any:
        """vLLM's record of a request's parameters."""
        fields = dict(parameters)
        if structured is not None:
            fields["structured_outputs"] = self.library.StructuredOutputsParams(**structured)
        return self.library.SamplingParams(**fields, output_kind=self.library.DELTA)

    def request_id(self) -> str:
        """A name that no other request of this model has."""
        return f"{self.info.name}-{next(self._numbers)}"

    @asynccontextmanager
    async def _failing(self) -> AsyncIterator[None]:
        try:
            yield
        except self.library.EngineDeadError as error:
            raise UnavailableError(
                f"the vLLM engine of {self.info.name} has ended; its log says why: load the team "
                "again"
            ) from error
        except self.library.refusals as error:
            raise EngineError(
                f"vLLM refused a request of {self.info.name}: {one_line(error.__cause__ or error)}"
            ) from error


def kind_of(parameters: Mapping[str, Any]) -> Kind:
    """Which log-probabilities a request asks for."""
    if "logprob_token_ids" in parameters:
        return "given"
    return "top" if "logprobs" in parameters else "plain"
