"""The prompt before its answer (`echo`), with its log-probabilities where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from taketurns.engines.base import ModelInfo, PromptScoringSession, Session
from taketurns.server.errors import bad_request
from taketurns.server.schemas import ChatRequest, CompletionRequest
from taketurns.types import Query, Token


@dataclass(frozen=True, slots=True)
class Echo:
    """What goes before an answer: its text, and the tokens of the prompt where they have
    log-probabilities."""

    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class EndToken:
    """The token that ended an answer, with its log-probability. It has no text. Who sums up the
    log-probabilities of a prompt counts the tokens after it, so this one must be among them."""

    token: Token


@dataclass(frozen=True, slots=True)
class EchoRequest:
    """What is to go before an answer: a text and, where `top` is given, the log-probabilities of
    the tokens of `prompt` and of so many of the most probable ones, as `model` says."""

    text: str
    model: str
    prompt: tuple[int, ...]
    top: int | None

    async def read(self, session: Session) -> Echo:
        """What goes before, as the answer's session reads it. Raises EngineError."""
        if self.top is None:
            return Echo(self.text)
        scoring = cast(PromptScoringSession, session)  # check_echo has seen that the engine can
        return Echo(self.text, await scoring.prompt_logprobs(self.model, self.prompt, self.top))


def check_echo(
    request: ChatRequest | CompletionRequest, names: Sequence[str], infos: Sequence[ModelInfo]
) -> None:
    """Raise ApiError where the prompt cannot go before the answer as the request asks. `infos` are
    the models that write, `names` those of its candidates."""
    if request.wanted_tokens == 0 and not request.echo:
        raise bad_request(
            "max_tokens is 0, and then there is no answer: raise it, or send echo: true to have "
            "the prompt alone",
            "max_tokens",
        )
    if _wanted_top(request) is None:
        return
    if len(infos) > 1:
        raise bad_request(
            "echo with logprobs is not supported for a team, whose candidates each give the prompt "
            f"another probability: name one of {', '.join(names)} as the model, or leave logprobs "
            "out",
            "echo",
        )
    if "prompt_logprobs" not in infos[0].capabilities:
        raise bad_request(
            f"echo with logprobs is not supported here: what runs {infos[0].name} does not say how "
            "probable a prompt is; leave logprobs or echo out",
            "echo",
        )


def echo_request(
    request: ChatRequest | CompletionRequest, query: Query, model: str, prompt: tuple[int, ...]
) -> EchoRequest | None:
    """What of the query is to go before its answer: as in vLLM the prompt, or of a conversation an
    assistant's last message. `prompt` is what `model` reads."""
    if not request.echo:
        return None
    text = query.text or ""
    if isinstance(request, ChatRequest):
        last = query.conversation[-1]
        if last.role != "assistant":
            return None
        text = last.content
    return EchoRequest(text, model, prompt, _wanted_top(request))


def _wanted_top(request: ChatRequest | CompletionRequest) -> int | None:
    """How many alternatives each token of the prompt is to have; None for no log-probabilities."""
    completes = isinstance(request, CompletionRequest) and request.echo
    return request.wanted_logprobs if completes else None
