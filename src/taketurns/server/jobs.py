"""From a request to what is to be written: one order a choice."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taketurns.checkpoints.text import TextCodec
from taketurns.config.policy import Guard, Policy
from taketurns.errors import ConfigError
from taketurns.generation.state import GenerationState
from taketurns.generation.team import Team
from taketurns.server.config import ServeConfig
from taketurns.server.errors import refused
from taketurns.server.model_registry import ModelRegistry, Served
from taketurns.server.schemas import ChatMessage, ChatRequest, CompletionRequest, Turns, Words
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import Message, Query

_SEED_BITS = 48  # every client's numbers can hold it

AnyRequest = ChatRequest | CompletionRequest


@dataclass(frozen=True, slots=True)
class CompletionJob:
    """An answer to be written: choice `index` of a request.

    `prompts` are the token ids that each speaker continues, `codecs` their tokenizers; `first` says
    that no other choice has the same prompt before it, so usage counts it once. `length` is how
    many tokens its session may get, as `Engine.session` takes it.
    """

    index: int
    team: Team
    draft: GenerationState
    policy: Policy
    seed: int
    logprobs: int | None
    prompts: tuple[tuple[int, ...], ...]
    codecs: tuple[TextCodec, ...]
    first: bool
    length: int

    @property
    def speakers(self) -> list[str]:
        return [candidate.name for candidate in self.team.candidates]


async def orders(
    request: AnyRequest, roster: ModelRegistry, limits: ServeConfig
) -> list[CompletionJob]:
    """What a request asks for, by choice. Raises ApiError, and PromptError for a prompt that does
    not fit."""
    served = roster.find(request.model)
    count, prompts = request.n or 1, request.prompts
    if count * len(prompts) > limits.most_choices:
        raise refused(
            f"a request may ask for {limits.most_choices} choices, not {count * len(prompts)}", "n"
        )
    team = served.chat if isinstance(request, ChatRequest) else served.plain
    team = _switched(team, served, request.taketurns)
    policy = _policy(request, served, limits)
    seed = secrets.randbits(_SEED_BITS) if request.seed is None else request.seed
    infos = [await team.engine.info(candidate.name) for candidate in team.candidates]
    codecs = tuple(info.codec for info in infos)
    await team.prepare()

    def choices(first: int, prompt: Any) -> list[CompletionJob]:
        """Of one prompt, which is read once; those after the first have other draws."""
        draft = team.blank(_query(str(first), prompt, codecs), policy)
        if request.return_token_ids and not draft.exact:
            raise refused(
                f"there is no list of token ids that means the same to all of {served.name!r}: its "
                "candidates' tokenizers differ, or its servers give no ids; leave return_token_ids "
                "out, or name one candidate as the model",
                "return_token_ids",
            )
        if limits.max_prompt_tokens is not None:
            _within(draft.longest_prompt, limits.max_prompt_tokens)
        order = CompletionJob(
            index=first,
            team=team,
            draft=draft,
            policy=policy,
            seed=seed,
            logprobs=request.wanted_logprobs,
            prompts=tuple(tuple(draft.prompt(one)) for one in range(len(team.candidates))),
            codecs=codecs,
            first=True,
            length=team.longest(draft, policy),
        )
        more = range(first + 1, first + count)
        return [
            order,
            *(replace(order, index=i, draft=draft.called(str(i)), first=False) for i in more),
        ]

    made: list[CompletionJob] = []
    for number, prompt in enumerate(prompts):
        first = number * count
        # All streams are written on this loop: they would wait for a long prompt, and for a
        # template that takes its time over a short one.
        made += await asyncio.to_thread(choices, first, prompt)
    return made


def asked(identifier: str, turns: Sequence[ChatMessage]) -> Query:
    """A conversation as a query; a single question is a plain text, as it is everywhere else."""
    if len(turns) == 1 and turns[0].role == "user":
        return Query(identifier, text=turns[0].text)
    said = (
        Message("system" if turn.role == "developer" else turn.role, turn.text) for turn in turns
    )
    return Query(identifier, messages=tuple(said))


def index_of(who: str | int, served: Served, param: str) -> int:
    """A candidate by name or index. Raises ApiError."""
    if isinstance(who, str) and who in served.speakers:
        return served.speakers.index(who)
    if isinstance(who, int) and 0 <= who < len(served.speakers):
        return who
    known = ", ".join(f"{name} ({index})" for index, name in enumerate(served.speakers))
    raise refused(f"there is no candidate {who!r}; the candidates are {known}", param)


def _within(tokens: int, limit: int) -> None:
    if tokens > limit:
        raise refused(
            f"the prompt has {tokens} tokens, this server takes {limit}",
            code="context_length_exceeded",
        )


def _query(identifier: str, prompt: Any, codecs: Sequence[TextCodec]) -> Query:
    if isinstance(prompt, str):
        return Query(identifier, text=prompt)
    if isinstance(prompt[0], ChatMessage):
        return asked(identifier, prompt)
    text = codecs[0].decode(prompt)
    if any(codec.encode(text, special=True) != prompt for codec in codecs):
        raise refused(
            "these token ids are not what the models would read of their text: send the text",
            "prompt",
        )
    return Query(identifier, text=text)


def _switched(team: Team, served: Served, turns: Turns | None) -> Team:
    wanted = None if turns is None else turns.switcher
    if wanted is None or wanted == "team":
        return team
    if wanted == "random":
        return team.switched_by(RandomSwitcher())
    sequence = [index_of(who, served, "taketurns.switcher") for who in wanted]
    return team.switched_by(FixedSwitcher(sequence))


def _policy(request: AnyRequest, served: Served, limits: ServeConfig) -> Policy:
    """The team's policy with what the request changes."""
    policy = served.chat.policy
    given: dict[str, Any] = {
        "max_tokens": request.wanted_tokens,
        "temperature": request.temperature,
        "speaker_top_p": request.top_p,
        "stop": request.stops or None,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    if request.wanted_tokens is None:
        changes["max_tokens"] = min(policy.max_tokens, limits.max_tokens)
    elif request.wanted_tokens > limits.max_tokens:
        raise refused(
            f"max_tokens is {request.wanted_tokens}, this server writes up to {limits.max_tokens}",
            "max_tokens",
        )
    if isinstance(request, ChatRequest) and request.top_logprobs and not request.logprobs:
        raise refused("top_logprobs needs logprobs: true", "top_logprobs")
    if request.taketurns is not None:
        changes |= _turns(request.taketurns, served)
    try:
        return replace(policy, **changes)
    except ConfigError as error:
        raise refused(str(error), "taketurns") from error


def _turns(turns: Turns, served: Served) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key in turns.model_fields_set - {"switcher"}:
        value = getattr(turns, key)
        if key in ("opening", "closing", "closing_cue"):
            whom = value is None or key == "closing_cue"
            changes[key] = value if whom else index_of(value, served, f"taketurns.{key}")
        elif key == "max_share":
            changes[key] = _shares(value or {}, served)
        elif key == "guard":
            changes[key] = _guard(value, served)
        elif value is not None:
            changes[key] = value
    if turns.switcher not in (None, "team"):
        changes["patch"] = served.chat.policy.unfollowed.patch
    if "patch_size" in changes:
        changes["patch"] = None  # fixed sizes, whatever the team's rule
    return changes


def _shares(shares: Mapping[str, float], served: Served) -> tuple[tuple[int, float], ...]:
    """The least of what the team and the request leave each candidate."""
    least = dict(served.chat.policy.max_share)
    for name, share in shares.items():
        index = index_of(name, served, "taketurns.max_share")
        least[index] = min(share, least.get(index, 1.0))
    if len(least) == len(served.speakers):
        raise refused("somebody must be free to write any share", "taketurns.max_share")
    return tuple(least.items())


def _guard(words: Words | None, served: Served) -> Guard | None:
    """The team's guard, which also finds fault with the request's words."""
    guard = served.chat.policy.guard
    if words is None:
        return guard
    param = "taketurns.guard.to"
    to = None if words.to is None else index_of(words.to, served, param)
    if guard is None and to is None:
        raise refused("which candidate writes in place of what fails? Name it", param)
    if guard is None:
        return Guard(to or 0, tuple(words.words))
    if to not in (None, guard.to):
        raise refused(f"here it is {served.speakers[guard.to]} who writes instead", param)
    return replace(guard, words=(*guard.words, *words.words))
