"""A team as a model of inspect_ai, by its entry point.

    inspect eval task.py --model taketurns/pocket
    inspect eval task.py --model taketurns/path/to/team.yaml -M speaker=aligned

`-M` takes `speaker` (only this candidate) and any setting of the team, such as
`policy.patch_size=32`. The generation settings of the run (`max_tokens`, `temperature`, `top_p`,
`stop_seqs`, `seed`, `response_schema`) replace the team's own. Tools, images, and settings that a
team does not follow are refused by name. A prompt that does not fit ends only its own answer
(`stop_reason` "model_length").
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from taketurns.config.answer_format import read_format
from taketurns.errors import LengthError, UsageError
from taketurns.integrations.asking import answer_query, load_team, with_sampling
from taketurns.integrations.settings import check_settings
from taketurns.types import Message, Query

CONNECTIONS = 32
# Generation settings that this module or inspect_ai itself follows.
FOLLOWED = frozenset(
    {"max_tokens", "temperature", "top_p", "stop_seqs", "seed", "system_message", "max_retries",
     "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections", "adaptive_connections",
     "parallel_tool_calls", "internal_tools", "max_tool_output", "cache_prompt", "cache", "batch",
     "fallback_models", "fail_on_refusal", "reasoning_history", "modalities", "response_schema"}
)  # fmt: skip
READABLE = frozenset({"text", "reasoning"})  # kinds of content; a turn's text leaves out reasoning
_STOPS: dict[str | None, Any] = {"length": "max_tokens", "guard": "content_filter"}


class TeamAPI(ModelAPI):
    """Answers conversations; `model_name` is a team file, a folder with one, "pocket" or "smol"."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  # the harness's own default
        speaker: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._team = load_team(model_name, settings, speaker)
        self._epochs: Counter[str] = Counter()

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002  # the harness's name
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Raises UsageError for tools, for content that is not text and for settings that a team
        does not follow; EngineError if the answer fails."""
        if tools:
            raise UsageError(
                f"a team cannot call tools, such as {tools[0].name!r}; choose tasks without tools"
            )
        settings = config.model_dump(exclude_none=True)
        check_settings(settings, FOLLOWED, "inspect_ai", greedy=config.temperature == 0)
        policy = with_sampling(
            self._team.policy,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            stop=config.stop_seqs or (),
            seed=config.seed,
        )
        if config.response_schema is not None:
            schema = settings["response_schema"]["json_schema"]
            policy = replace(policy, format=read_format({"json": schema}))
        try:
            trace = await answer_query(self._team, self._query(input), policy)
        except LengthError as error:
            return ModelOutput.from_content(self.model_name, "", "model_length", str(error))
        output = ModelOutput.from_content(
            self.model_name,
            trace.text,
            stop_reason=_STOPS.get(trace.finish, "stop"),
        )
        output.usage = ModelUsage(output_tokens=trace.tokens, total_tokens=trace.tokens)
        names = [candidate.name for candidate in self._team.candidates]
        output.metadata = {
            "patches": [
                [None if patch.speaker is None else names[patch.speaker], patch.text]
                for patch in trace.patches
            ]
        }
        return output

    def max_connections(self) -> int:
        return CONNECTIONS

    async def aclose(self) -> None:
        await self._team.aclose()

    def _query(self, turns: list[ChatMessage]) -> Query:
        """A query whose id has the epoch of its question, so that each epoch has its own draws."""
        if wrong := [turn.role for turn in turns if turn.role == "tool"]:
            raise UsageError(
                f"a team cannot read turns of the role {wrong[0]!r}; choose tasks without tools"
            )
        for part in (
            part for turn in turns if not isinstance(turn.content, str) for part in turn.content
        ):
            if part.type not in READABLE:
                raise UsageError(
                    f"a team reads only text, and a turn has content of the type {part.type!r}; "
                    "choose tasks with text only"
                )
        messages = tuple(Message(turn.role, turn.text) for turn in turns)
        conversation = json.dumps([[turn.role, turn.content] for turn in messages])
        digest = sha256(conversation.encode()).hexdigest()[:16]
        self._epochs[digest] += 1
        return Query(f"{digest}/{self._epochs[digest]}", messages=messages)


@modelapi(name="taketurns")
def taketurns() -> type[ModelAPI]:
    """The model class for inspect_ai's entry point."""
    return TeamAPI
