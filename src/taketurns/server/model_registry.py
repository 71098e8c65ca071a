"""The models that a server offers: the team under its name, and each candidate under its own.

If the team's policy has a guard or limits shares, only the team is offered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from time import time
from typing import Any

from taketurns.config.answer_format import format_to_json
from taketurns.config.policy import Policy
from taketurns.config.sampling import sampling_entry
from taketurns.engines.base import ModelInfo
from taketurns.errors import ConfigError
from taketurns.generation.team import Team
from taketurns.server.errors import ApiError


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model that clients can name. `chat` writes answers, `plain` continues a text."""

    name: str
    chat: Team
    plain: Team

    @property
    def speakers(self) -> list[str]:
        """The names of the candidates that may write, by index."""
        return [candidate.name for candidate in self.chat.candidates]


class ModelRegistry:
    """The models of a server, the team first. Raises ConfigError if a candidate has the team's
    name."""

    def __init__(self, team: Team, name: str) -> None:
        candidates = [candidate.name for candidate in team.candidates]
        if name in candidates:
            raise ConfigError(
                f"the team and one of its candidates have the name {name!r}: give the team another "
                "--name"
            )
        self.team = team
        self._created = int(time())
        self._served = {name: RegisteredModel(name, team, team.verbatim())}
        if team.policy.guard or team.policy.max_share:
            return  # a candidate that is restricted in the team must not be served alone
        for candidate in candidates:
            alone = team.alone(candidate)
            # Write in patches, as the team does: the engine admits other answers between patches,
            # and the text does not depend on them.
            alone.policy = replace(alone.policy, patch_size=team.policy.patch_size)
            self._served[candidate] = RegisteredModel(candidate, alone, alone.verbatim())

    def __iter__(self) -> Iterator[RegisteredModel]:
        return iter(self._served.values())

    def find(self, name: str | None) -> RegisteredModel:
        """A model by its name; None means the team. Raises ApiError."""
        if name is None:
            return next(iter(self))
        if name not in self._served:
            known = ", ".join(self._served)
            raise ApiError(
                404,
                f"there is no model {name!r}; the models are {known}",
                param="model",
                code="model_not_found",
            )
        return self._served[name]

    async def infos(self, served: RegisteredModel) -> list[ModelInfo]:
        """The engine's facts about each candidate of `served`."""
        return [await self.team.engine.info(name) for name in served.speakers]

    async def prepare(self) -> None:
        """Load every model. Raises ConfigError or EngineError."""
        await self.team.prepare()
        for served in self:
            await served.chat.prepare()
            await served.plain.prepare()

    async def describe(self) -> list[dict[str, Any]]:
        """The entries of /v1/models."""
        return [await self._entry(served) for served in self]

    async def _entry(self, served: RegisteredModel) -> dict[str, Any]:
        return {
            "id": served.name,
            "object": "model",
            "created": self._created,
            "owned_by": "taketurns",
            "max_model_len": min(info.context for info in await self.infos(served)),
            "taketurns": {
                "candidates": served.speakers,
                "policy": policy_to_json(served.chat.policy, served.speakers),
            },
        }


def policy_to_json(policy: Policy, speakers: Sequence[str]) -> dict[str, Any]:
    """The part of a policy that clients may see, with the candidates' names."""
    return {
        "patch_size": policy.patch_size,
        "patch": None if policy.patch is None else asdict(policy.patch),
        "top_p": policy.top_p,
        "greedy_switcher": policy.greedy_switcher,
        "opening": None if policy.opening is None else speakers[policy.opening],
        "closing": None if policy.closing is None else speakers[policy.closing],
        "max_tokens": policy.max_tokens,
        "temperature": policy.temperature,
        "speaker_top_p": policy.speaker_top_p,
        "sampling": sampling_entry(policy.sampling),
        "max_share": {speakers[index]: share for index, share in policy.max_share},
        "guard": None if policy.guard is None else {"to": speakers[policy.guard.to]},
        "format": None if policy.format is None else format_to_json(policy.format),
    }
