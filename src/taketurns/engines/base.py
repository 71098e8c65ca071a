"""The engine protocol: what a team needs of whatever runs its models.

Batching, caching, retries and replicas hide behind it. A prompt is always the whole prompt; an
engine that holds state for a session finds out by itself what part of it is new. Prompts are token
ids, or exact text where a server takes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from taketurns.checkpoints.control_tokens import RenderedPrompt
from taketurns.errors import EngineError, PromptError
from taketurns.types import Completion, Sampling, SamplingOptions, Token

if TYPE_CHECKING:
    from torch import Tensor

    from taketurns.checkpoints.text import TextCodec

Prompt = Sequence[int] | str
OnToken = Callable[[Token], None]
"""Sees each token as it is written."""
Combine = Callable[["Tensor"], "Tensor"]
"""Log-probabilities `[rows, models, outcomes]` to log-scores `[rows, outcomes]`, which need not sum
to 1. The outcomes are the ordinary tokens and, last, the end of the answer."""
Capability = Literal[
    "token_ids",
    "score",
    "exact_score",
    "hidden",
    "next_logprobs",
    "together",
    "fork",
    "entropy",
    "next_token",
    "format",
    "format_start",
    "prompt_logprobs",
    "correction",
]
"""What an engine can do with a model: "score" may leave improbable tokens out, "exact_score" knows
any. "next_token" asks a `NextTokenCriterion` before each token, "correction" adds
`Sampling.correction`. "format" keeps to
`Sampling.constraint` at every token; "format_start" only where the patch is the whole answer, or
the format is a choice."""
ALL_OPTIONS: frozenset[str] = frozenset(option.name for option in fields(SamplingOptions))
"""The names of all sampling options."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a team must know of a model before it writes prompts for it.

    `context` is the most tokens a prompt and its continuation may have together; `codec` is the
    model's tokenizer; `end_token_ids` end an answer, `suppressed_token_ids` are not written.
    The model can read the ids below `vocabulary`, and the states of each layer have `hidden_size`
    numbers (None: unknown). `options` names the `SamplingOptions` that the engine follows with this
    model: others are refused for it.
    """

    name: str
    context: int
    codec: TextCodec
    end_token_ids: frozenset[int]
    capabilities: frozenset[Capability]
    suppressed_token_ids: frozenset[int] = frozenset()
    vocabulary: int | None = None
    options: frozenset[str] = frozenset()
    hidden_size: int | None = None

    def prompt_ids(self, prompt: Prompt, more: int) -> Sequence[int]:
        """The token ids of a prompt that `more` tokens are to follow. Raises PromptError for an
        empty one and one that does not fit the context, EngineError as `check_ids` does."""
        if isinstance(prompt, str):
            prompt = self.codec.encode_rendered(RenderedPrompt(prompt), special=True)
        if not prompt:
            raise PromptError(f"{self.name} got an empty prompt: write at least one token")
        self.check_length(len(prompt), more)
        self.check_ids(prompt)
        return prompt

    def check_length(self, tokens: int, more: int) -> None:
        """Raise PromptError where a prompt of so many tokens, with `more` to come, does not fit."""
        if tokens + more > self.context:
            raise PromptError(
                f"a prompt of {tokens} tokens with {more} to come does not fit the context of "
                f"{self.name}, {self.context} tokens: shorten the prompt, or lower max_tokens"
            )

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise EngineError for an id that the model has no embedding for. One of them would fail a
        whole batch, and on a GPU all that comes after."""
        size = self.vocabulary
        if size is not None and ids and not 0 <= min(ids) <= max(ids) < size:
            beyond = next(i for i in ids if not 0 <= i < size)
            raise EngineError(
                f"{self.name} was given the token {beyond}, and it knows 0 to {size - 1}: give the "
                "model its own tokenizer"
            )


@runtime_checkable
class Session(Protocol):
    """One answer being written. It owns the KV caches, the random draws and the replica affinity of
    that answer; leaving it, or cancelling the task inside it, frees all of them."""

    async def generate(
        self, model: str, prompt: Prompt, sampling: Sampling, on_token: OnToken | None = None
    ) -> Completion:
        """Continue `prompt`; `on_token` sees each token as it is written, and none once this has
        returned or was cancelled. `sampling.stopping` is shown what it asks for where the model's
        capabilities are "entropy" and "hidden".

        Raises EngineError when the model fails.
        """
        ...

    async def score(self, model: str, prompt: Prompt, choices: Sequence[int]) -> list[float]:
        """Natural-log probabilities, under the full softmax, of `choices` as the next token."""
        ...

    def fork(self, seed: int) -> AbstractAsyncContextManager[Session]:
        """A session that starts from what this one has cached, with draws of its own."""
        ...


@runtime_checkable
class SharingSession(Session, Protocol):
    """What an engine that keeps what a model has encoded gives beside."""

    async def read(self, model: str, prompt: Prompt) -> None:
        """Encode `prompt` now, so that no later fork has to."""
        ...


@runtime_checkable
class DeepSession(Session, Protocol):
    """What an engine with the weights in reach gives beside: check `ModelInfo.capabilities`."""

    async def hidden(self, model: str, prompt: Prompt, layers: Sequence[int]) -> Any:
        """Hidden states of the last prompt token: float32 tensor `[len(layers), d]`.

        Layer 0 is the embedding, -1 the last layer after the final norm (as in transformers'
        `output_hidden_states`).
        """
        ...

    async def next_logprobs(self, model: str, prompt: Prompt) -> Any:
        """Natural-log probabilities of the next token: float32 tensor `[vocabulary]`."""
        ...


@runtime_checkable
class PromptScoringSession(Session, Protocol):
    """What an engine gives beside that can say how probable a prompt's own tokens are: check
    `ModelInfo.capabilities`."""

    async def prompt_logprobs(self, model: str, prompt: Prompt, top: int) -> tuple[Token, ...]:
        """The prompt's tokens, each with its log-probability after those before it and the `top`
        most probable ones in its place; the first has neither."""
        ...


@runtime_checkable
class TogetherSession(Session, Protocol):
    """What an engine gives beside that can combine several models' distributions at every token:
    check `ModelInfo.capabilities` of each."""

    async def generate_together(
        self,
        models: Sequence[str],
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        combine: Combine,
    ) -> Completion:
        """Continue one text after each model's own prompt.

        Temperature, top-p and the sampling options apply to what `combine` makes of the models'
        distributions. Raises ConfigError for models whose ordinary tokens have different ids and
        for a repetition penalty, EngineError when one fails.
        """
        ...


class Engine(Protocol):
    """Runs models by name."""

    async def info(self, model: str) -> ModelInfo:
        """Facts about a model. Raises UsageError when there is no such model."""
        ...

    async def load(self, model: str) -> None:
        """Make a model ready to use now rather than at its first turn. Raises EngineError."""
        ...

    def session(self, seed: int, tokens: int | None = None) -> AbstractAsyncContextManager[Session]:
        """Open an answer. `tokens` is the longest any of its prompts will get, continuation
        included; an engine with bounded memory waits here until that much is free."""
        ...

    async def close(self) -> None:
        """Release models, connections and threads."""
        ...


@runtime_checkable
class BoundedEngine(Engine, Protocol):
    """What an engine gives beside whose memory bounds how many answers are open at a time."""

    def fits(self, lengths: Sequence[int]) -> bool:
        """Whether sessions of so many tokens each would all be opened now, without waiting. Raises
        CapacityError if one of them never will."""
        ...


@runtime_checkable
class FailingEngine(Engine, Protocol):
    """What an engine gives beside that can break for good while its process lives on."""

    @property
    def failure(self) -> str | None:
        """Why it can run no model any more; None while it can."""
        ...
