"""The bodies of requests: OpenAI's fields, checked strictly, and the `taketurns` extension.

A field that is not here is refused by name. Fields for features that no team has are here with the
one value that asks for nothing, so that clients which always send them are served.

A list stops at its first error (`fail_fast`), and the number of objects in it is limited: a body
has room for half a million, and they are made on the event loop, where all streams wait meanwhile.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from taketurns.server.answer_formats import FormatFields

_MAX_LIST = 8192  # in a list
_MAX_NAME = 64  # characters of an unknown field that are compared with the known ones


def _whole_characters(text: str) -> str:
    """JSON can spell half of a surrogate pair; no tokenizer can read one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "text", "Input should be text without unpaired surrogates"
        ) from None
    return text


Text = Annotated[str, AfterValidator(_whole_characters)]
Stop = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_whole_characters)]
Word = Annotated[Stop, StringConstraints(pattern=r"\S")]
ShareLimit = Annotated[float, Field(ge=0, le=1)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Zero = Annotated[float, Field(ge=0, le=0)]
Nothing = Annotated[list[Any], Field(max_length=0)]
Tokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class Strict(BaseModel):
    """Refuses unknown fields and values of another type."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key in cls.model_fields:
                continue
            start = str(key)[:_MAX_NAME]
            name = start.encode(errors="backslashreplace").decode()  # as in Text
            near = get_close_matches(name, cls.model_fields, n=1, cutoff=0.7)
            cure = f"; did you mean {near[0]!r}?" if near else ""
            raise PydanticCustomError(
                "unknown_field",
                "unknown field {field}{cure}",
                {"field": repr(start), "name": name, "cure": cure},
            )
        return data


class TextPart(Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


Parts = Annotated[list[TextPart], Field(min_length=1, max_length=_MAX_LIST, fail_fast=True)]


class ChatMessage(Strict):
    """One turn. `developer` is read as `system`; a last turn of the assistant is continued. The
    fields after `name` are those of an answer sent back: they may be there, empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Parts
    name: Text | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Nothing | None = None
    annotations: Nothing | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=_MAX_LIST, fail_fast=True)]


class StreamOptions(Strict):
    """`include_usage` adds a last chunk with the usage."""

    include_usage: bool = False
    include_obfuscation: bool = False


class GuardOptions(Strict):
    """Words and phrases that this answer must not contain, beside what the team's own guard goes
    by. `to` names the candidate that writes in place of what fails, where the team has no guard."""

    words: Annotated[list[Word], Field(min_length=1, max_length=64, fail_fast=True)]
    to: Text | int | None = None


class TurnOptions(Strict):
    """How the candidates take turns in this answer, where it shall differ from the team's own
    policy.

    `patch_size` is in tokens, `top_p` over speakers; `opening` and `closing` name a candidate, or
    none with null. `switcher` is "team" (its own), "random", or a list of candidates who write in
    that order, over and over. `max_share` and `guard` add to the team's own and take nothing away.
    """

    patch_size: int | None = Field(None, ge=1, le=1 << 20)
    top_p: float | None = Field(None, gt=0, le=1)
    greedy_switcher: bool | None = None
    opening: Text | int | None = None
    closing: Text | int | None = None
    closing_on_end: bool | None = None
    closing_cue: Stop | None = None
    max_share: Annotated[dict[str, ShareLimit], Field(max_length=64, fail_fast=True)] | None = None
    guard: GuardOptions | None = None
    switcher: (
        Literal["team", "random"]
        | Annotated[list[Text | int], Field(min_length=1, max_length=64, fail_fast=True)]
        | None
    ) = None


class GenerationRequest(Strict, FormatFields):
    """The fields that both ways of asking have.

    `model` is the team (the default) or one of its candidates. `seed` makes an answer repeatable:
    choice `i` is what `team.generate` writes for the query id `str(i)` with it; without one a seed
    is drawn and returned. `user` and the fields beside it are accepted and have no effect.
    """

    model: Text | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1)
    stop: Stop | Annotated[list[Stop], Field(max_length=16, fail_fast=True)] | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    taketurns: TurnOptions | None = None

    user: Text | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: Text | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None

    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0, fail_fast=True)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def with_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True)] | None = None
    tools: Nothing | None = None
    functions: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None

    @property
    def wanted_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def prompts(self) -> list[Any]:
        return [self.messages]


class CompletionRequest(GenerationRequest):
    """POST /v1/completions: every speaker continues the prompt as it stands.

    Token ids are taken where they are what the models would read of their text.
    """

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, fail_fast=True)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=_MAX_LIST, fail_fast=True)]
    )
    logprobs: int | None = Field(None, ge=0, le=20)

    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None

    @property
    def wanted_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_tokens

    @property
    def prompts(self) -> list[Any]:
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class TokenizeRequest(Strict):
    """POST /tokenize: a prompt as it stands, or messages as the model is given them."""

    model: Text | None = None
    prompt: Text | None = None
    messages: Messages | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False


class DetokenizeRequest(Strict):
    """POST /detokenize."""

    model: Text | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
