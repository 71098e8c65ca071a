"""The bodies of requests: OpenAI's fields, checked strictly, and the `taketurns` extension.

A field that is not here is refused by name. Fields for features that no team has are accepted with
the values that ask for nothing (`compatibility`), so that clients which always send them are
served.

A list stops at its first error (`fail_fast`), and the number of objects in it is limited: a body
has room for half a million, and they are made on the event loop, where all streams wait meanwhile.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from taketurns.config.sampling import BIAS, PENALTY, REPETITION
from taketurns.server.answer_formats import FormatFields
from taketurns.server.compatibility import (
    InertChatFields,
    InertCompletionFields,
    InertTemplateFields,
)
from taketurns.server.message_schemas import Messages
from taketurns.server.schema_base import (
    MAX_LIST,
    MAX_NAME,
    Request,
    Strict,
    Text,
    check_values,
    whole_characters,
)
from taketurns.server.tool_schemas import ToolChoice, Tools

_MAX_DIGITS = 10  # of a token id
REQUEST_ID = r"^[!-~]{1,128}$"
_MAX_VARIABLES = 1024  # values in what is handed to chat templates
_MAX_DEPTH = 16  # of lists and objects in it
_ONES_OWN = frozenset(  # names that a chat template is given anyway, and arguments beside
    (
        *("self", "conversation", "messages", "tools", "documents", "chat_template", "tokenize"),
        *("add_generation_prompt", "continue_final_message", "sanitize_control_tokens", "padding"),
        *("truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"),
        "return_assistant_tokens_mask",
    )
)

Stop = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(whole_characters)]
Word = Annotated[Stop, StringConstraints(pattern=r"\S")]
ShareLimit = Annotated[float, Field(ge=0, le=1)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Tokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Penalty = Annotated[float, Field(ge=-PENALTY, le=PENALTY)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
RequestId = Annotated[str, Field(pattern=REQUEST_ID)]


def _token_key(key: str) -> str:
    if not (key.isascii() and key.isdigit() and len(key) <= _MAX_DIGITS):
        raise PydanticCustomError(
            "token_key", 'Input should be by token id, a whole number, as in {"42": -100}'
        )
    return key


def _template_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """As many values as a template can need, in names that are not taken."""
    for name in variables:
        if name in _ONES_OWN or not name.isidentifier():
            raise PydanticCustomError(
                "variable",
                "Input should not have {name}: this is no name that a request can give a chat "
                "template, or the request has a field for it",
                {"name": repr(name[:MAX_NAME].encode(errors="backslashreplace").decode())},
            )
    check_values(variables, _MAX_VARIABLES, _MAX_DEPTH)
    return variables


LogitBias = Annotated[
    dict[Annotated[str, AfterValidator(_token_key)], Annotated[float, Field(ge=-BIAS, le=BIAS)]],
    Field(max_length=MAX_LIST, fail_fast=True),
]
TemplateVariables = Annotated[dict[str, Any], AfterValidator(_template_variables)]


class StreamOptions(Strict):
    """`include_usage` adds a last chunk with the usage, and `continuous_usage_stats` beside it the
    usage so far to every chunk."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


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


class GenerationRequest(Request, FormatFields):
    """The fields that both ways of asking have.

    `model` is the team (the default) or one of its candidates. `seed` makes an answer repeatable:
    choice `i` is what `team.generate` writes for the query id `str(i)` with it; without one a seed
    is drawn and returned. The fields from `top_k` on are vLLM's, and mean the same.
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
    return_tokens_as_token_ids: bool | None = None
    request_id: RequestId | None = None
    taketurns: TurnOptions | None = None

    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    top_k: int | None = Field(None, ge=-1, le=1 << 30)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=REPETITION[0], le=REPETITION[1])
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=256, fail_fast=True)] | None = None
    skip_special_tokens: bool | None = None
    echo: bool | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def with_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def with_usage_so_far(self) -> bool:
        options = self.stream_options
        return options is not None and self.with_usage and bool(options.continuous_usage_stats)


class ChatRequest(GenerationRequest, InertChatFields):
    """POST /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None
    reasoning_effort: Effort | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @property
    def wanted_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def wanted_tokens_field(self) -> str:
        return "max_completion_tokens" if self.max_completion_tokens else "max_tokens"

    @property
    def prompts(self) -> list[Any]:
        return [self.messages]


class CompletionRequest(GenerationRequest, InertCompletionFields):
    """POST /v1/completions: every speaker continues the prompt as it stands.

    A single candidate continues token ids as they are, a team those that are what all of it would
    read of their text. `echo` puts the prompt before the answer; with it, `max_tokens` may be 0.
    """

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, fail_fast=True)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_LIST, fail_fast=True)]
    )
    logprobs: int | None = Field(None, ge=0, le=20)
    max_tokens: int | None = Field(None, ge=0)

    @property
    def wanted_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_tokens

    @property
    def wanted_tokens_field(self) -> str:
        return "max_tokens"

    @property
    def prompts(self) -> list[Any]:
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class TokenizeRequest(Request, InertTemplateFields):
    """POST /tokenize: a prompt as it stands, or messages as the model is given them."""

    model: Text | None = None
    prompt: Text | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None
    tools: Tools | None = None


class DetokenizeRequest(Request):
    """POST /detokenize."""

    model: Text | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
