"""Turns a request into jobs: one for each choice of the request."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taketurns.checkpoints.text import TextCodec
from taketurns.config.policy import Guard, Policy
from taketurns.engines.base import ModelInfo
from taketurns.errors import ConfigError
from taketurns.generation.state import GenerationState
from taketurns.generation.team import Team
from taketurns.server.answer_formats import requested_format
from taketurns.server.config import ServeConfig
from taketurns.server.echo import EchoRequest, check_echo, echo_request
from taketurns.server.errors import bad_request
from taketurns.server.model_registry import ModelRegistry, RegisteredModel
from taketurns.server.sampling import (
    check_models,
    prompt_options,
    prompt_text,
    sampling_options,
)
from taketurns.server.schemas import (
    ChatRequest,
    CompletionRequest,
    GuardOptions,
    TurnOptions,
)
from taketurns.server.tool_plan import ToolPlan, plan_tools
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import Query

_SEED_BITS = 48  # every client reads a JSON number of so many bits exactly

AnyRequest = ChatRequest | CompletionRequest


@dataclass(frozen=True, slots=True)
class CompletionJob:
    """An answer to write: choice `index` of a request.

    `prompts` are the token ids that each candidate continues, `codecs` their tokenizers. Only one
    of the choices of a prompt has `counts_prompt`, so that usage counts the prompt once. `length`
    is the session's limit in tokens, for `Engine.session`.
    `echo` is what goes before the answer; without `writes` nothing follows it. Tokens that have
    log-probabilities are named by their text, or without `names_tokens` by their ids. `tools` is
    how calls of tools are found in the answer.
    """

    index: int
    team: Team
    draft: GenerationState
    policy: Policy
    seed: int
    logprobs: int | None
    prompts: tuple[tuple[int, ...], ...]
    codecs: tuple[TextCodec, ...]
    counts_prompt: bool
    length: int
    echo: EchoRequest | None = None
    writes: bool = True
    names_tokens: bool = True
    tools: ToolPlan | None = None

    @property
    def speakers(self) -> list[str]:
        """The candidates' names, by index."""
        return [candidate.name for candidate in self.team.candidates]

    def prompt_of(self, speaker: int | None) -> tuple[int, ...]:
        """The prompt as `speaker` reads it; None, before the first patch, means candidate 0."""
        return self.prompts[speaker or 0]


async def make_jobs(
    request: AnyRequest, registry: ModelRegistry, limits: ServeConfig
) -> list[CompletionJob]:
    """The jobs of a request, one per choice. Raises ApiError, and PromptError for a prompt that
    does not fit."""
    served = registry.find(request.model)
    count, prompts = request.n or 1, request.prompts
    if count * len(prompts) > limits.most_choices:
        raise bad_request(
            f"a request may ask for at most {limits.most_choices} choices, not "
            f"{count * len(prompts)}",
            "n",
        )
    team = served.chat if isinstance(request, ChatRequest) else served.plain
    team = _with_switcher(team, served, request.taketurns)
    policy = _policy(request, served, limits)
    seed = secrets.randbits(_SEED_BITS) if request.seed is None else request.seed
    infos = [await team.engine.info(candidate.name) for candidate in team.candidates]
    answer_format, field = requested_format(request)
    plan = None
    if isinstance(request, ChatRequest):
        # In a thread, because the first time it renders every template.
        plan = await asyncio.to_thread(plan_tools, request, team.candidates, infos, policy)
        prompts = [plan]
        if plan.callable:
            field = field or "tools"
            asked = answer_format or policy.format
            answer_format = await asyncio.to_thread(plan.answer_format, asked, infos)
    if answer_format is not None:
        policy = replace(policy, format=answer_format)
    check_models(policy, infos)
    check_echo(request, served.speakers, infos)
    codecs = tuple(info.codec for info in infos)
    await team.prepare()
    if policy.format is not None and len(infos) == 1 and "format" not in infos[0].capabilities:
        # A server keeps to a format from its beginning: one candidate writes all in one patch.
        policy = replace(policy, patch_size=policy.max_tokens, patch=None)

    def jobs_of(first: int, prompt: Any) -> list[CompletionJob]:
        """The choices of one prompt, which is encoded once; their indices give different draws."""
        query = _query(str(first), prompt, infos)
        try:
            draft = team.blank(query, policy, prompt_options(request, prompt, infos))
        except ConfigError as error:
            raise bad_request(f"{field}: {error}" if field else str(error), field) from error
        for name in ("return_token_ids", "return_tokens_as_token_ids"):
            if getattr(request, name) and not draft.exact:
                raise bad_request(
                    f"{served.name!r} has no common token ids, because "
                    f"its candidates' tokenizers "
                    "differ or its servers report no ids: leave out {name}, or use one "
                    "candidate as the model",
                    name,
                )
        limit = limits.max_prompt_tokens
        if limit is not None and draft.longest_prompt > limit:
            raise bad_request(
                f"the prompt has {draft.longest_prompt} tokens, but this server accepts at most "
                f"{limit}: shorten it",
                code="context_length_exceeded",
            )
        own = tuple(tuple(draft.prompt(index)) for index in range(len(team.candidates)))
        job = CompletionJob(
            index=first,
            team=team,
            draft=draft,
            policy=policy,
            seed=seed,
            logprobs=request.wanted_logprobs,
            prompts=own,
            codecs=codecs,
            counts_prompt=True,
            length=team.longest(draft, policy),
            echo=echo_request(request, query, team.candidates[0].name, own[0]),
            writes=request.wanted_tokens != 0,
            names_tokens=not request.return_tokens_as_token_ids,
            tools=plan,
        )
        others = range(first + 1, first + count)
        return [
            job,
            *(
                replace(job, index=i, draft=draft.called(str(i)), counts_prompt=False)
                for i in others
            ),
        ]

    jobs: list[CompletionJob] = []
    for number, prompt in enumerate(prompts):
        # In a thread, because a long prompt or a slow template would delay all streams, which are
        # written in this event loop.
        jobs += await asyncio.to_thread(jobs_of, number * count, prompt)
    return jobs


def candidate_index(name: str | int, served: RegisteredModel, param: str) -> int:
    """The index of a candidate from its name or index. Raises ApiError, which names `param`."""
    if isinstance(name, str) and name in served.speakers:
        return served.speakers.index(name)
    if isinstance(name, int) and 0 <= name < len(served.speakers):
        return name
    known = ", ".join(f"{speaker} ({index})" for index, speaker in enumerate(served.speakers))
    raise bad_request(f"there is no candidate {name!r}; the candidates are {known}", param)


def _query(identifier: str, prompt: Any, infos: Sequence[ModelInfo]) -> Query:
    if isinstance(prompt, str):
        return Query(identifier, text=prompt)
    if isinstance(prompt, ToolPlan):
        return prompt.query(identifier)
    return Query(identifier, text=prompt_text(prompt, infos))


def _with_switcher(team: Team, served: RegisteredModel, options: TurnOptions | None) -> Team:
    switcher = None if options is None else options.switcher
    if switcher is None or switcher == "team":
        return team
    if switcher == "random":
        return team.switched_by(RandomSwitcher())
    sequence = [candidate_index(name, served, "taketurns.switcher") for name in switcher]
    return team.switched_by(FixedSwitcher(sequence))


def _policy(request: AnyRequest, served: RegisteredModel, limits: ServeConfig) -> Policy:
    """The team's policy with the changes of the request."""
    policy = served.chat.policy
    if request.wanted_tokens is not None and request.wanted_tokens > limits.max_tokens:
        field = request.wanted_tokens_field
        raise bad_request(
            f"{field} is {request.wanted_tokens}, but this server writes up to {limits.max_tokens}",
            field,
        )
    if isinstance(request, ChatRequest) and request.top_logprobs and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs: true", "top_logprobs")
    max_tokens = request.wanted_tokens
    if max_tokens is None:
        max_tokens = min(policy.max_tokens, limits.max_tokens)
    settings: dict[str, Any] = {
        "max_tokens": max(1, max_tokens),
        "sampling": sampling_options(request, policy, max_tokens),
        "temperature": request.temperature,
        "speaker_top_p": request.top_p,
        "stop": request.stops or None,
    }
    changes = {key: value for key, value in settings.items() if value is not None}
    if request.taketurns is not None:
        changes |= _turn_changes(request.taketurns, served)
    try:
        return replace(policy, **changes)
    except ConfigError as error:
        raise bad_request(str(error), "taketurns") from error


def _turn_changes(options: TurnOptions, served: RegisteredModel) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key in options.model_fields_set - {"switcher"}:
        value = getattr(options, key)
        if key in ("opening", "closing") and value is not None:
            value = candidate_index(value, served, f"taketurns.{key}")
        elif key == "max_share":
            value = _max_share(value or {}, served)
        elif key == "guard":
            value = _guard(value, served)
        if value is not None or key in ("opening", "closing", "closing_cue"):
            changes[key] = value
    if options.switcher not in (None, "team"):
        changes["patch"] = served.chat.policy.unfollowed.patch
    if "patch_size" in changes:
        changes["patch"] = None  # fixed sizes in place of the team's rule
    return changes


def _max_share(
    shares: Mapping[str, float], served: RegisteredModel
) -> tuple[tuple[int, float], ...]:
    """For each candidate the lower of the team's and the request's limits."""
    lowest = dict(served.chat.policy.max_share)
    for name, share in shares.items():
        index = candidate_index(name, served, "taketurns.max_share")
        lowest[index] = min(share, lowest.get(index, 1.0))
    if len(lowest) == len(served.speakers):
        raise bad_request(
            f"max_share caps all {len(served.speakers)} candidates: leave out at least one of "
            "them, so that it can always write",
            "taketurns.max_share",
        )
    return tuple(lowest.items())


def _guard(options: GuardOptions | None, served: RegisteredModel) -> Guard | None:
    """The team's guard, which also rejects the request's words."""
    guard = served.chat.policy.guard
    if options is None:
        return guard
    param = "taketurns.guard.to"
    to = None if options.to is None else candidate_index(options.to, served, param)
    if guard is None and to is None:
        raise bad_request("a guard needs to, the candidate that replaces rejected patches", param)
    if guard is None:
        return Guard(to or 0, tuple(options.words))
    if to not in (None, guard.to):
        raise bad_request(
            f"the team's guard has {served.speakers[guard.to]} write instead: leave out to", param
        )
    return replace(guard, words=(*guard.words, *options.words))
