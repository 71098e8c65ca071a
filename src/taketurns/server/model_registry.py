"""What is served: the team under its name, and each of its candidates under theirs; where the
team's policy has a guard or shares, the team alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from time import time
from typing import Any

from taketurns.config.policy import Policy
from taketurns.errors import ConfigError
from taketurns.generation.team import Team
from taketurns.server.errors import ApiError


@dataclass(frozen=True, slots=True)
class Served:
    """A model that clients can name. `chat` writes answers, `plain` continues bare text."""

    name: str
    chat: Team
    plain: Team

    @property
    def speakers(self) -> list[str]:
        """Who may write, by index."""
        return [candidate.name for candidate in self.chat.candidates]


class ModelRegistry:
    """The models of a server, the team first."""

    def __init__(self, team: Team, name: str) -> None:
        names = [candidate.name for candidate in team.candidates]
        if name in names:
            raise ConfigError(
                f"the team is served as {name!r}, which one of its candidates is called: "
                "give it another --name"
            )
        self.team = team
        self._began = int(time())
        self._served = {name: _served(name, team)}
        # Who may not write freely in the team may not be had without it.
        for one in () if team.policy.guard or team.policy.max_share else names:
            self._served[one] = _served(one, _in_patches(team.alone(one), team.policy.patch_size))

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def find(self, name: str | None) -> Served:
        """A model by its name; None is the team. Raises ApiError."""
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

    async def prepare(self) -> None:
        """Load every model. Raises ConfigError or EngineError."""
        await self.team.prepare()
        for served in self:
            await served.chat.prepare()
            await served.plain.prepare()

    async def describe(self) -> list[dict[str, Any]]:
        """The entries of /v1/models."""
        return [await self._entry(served) for served in self]

    async def _entry(self, served: Served) -> dict[str, Any]:
        infos = [await self.team.engine.info(name) for name in served.speakers]
        return {
            "id": served.name,
            "object": "model",
            "created": self._began,
            "owned_by": "taketurns",
            "max_model_len": min(info.context for info in infos),
            "taketurns": {
                "candidates": served.speakers,
                "policy": policy_to_json(served.chat.policy, served.speakers),
            },
        }


def policy_to_json(policy: Policy, speakers: list[str]) -> dict[str, Any]:
    """What a client may want to know of a policy, speakers by their names."""
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
        "max_share": {speakers[index]: share for index, share in policy.max_share},
        "guard": None if policy.guard is None else {"to": speakers[policy.guard.to]},
    }


def _served(name: str, team: Team) -> Served:
    return Served(name, team, team.verbatim())


def _in_patches(team: Team, size: int) -> Team:
    """A candidate alone writes in patches too: between them the engine lets others in, and what it
    writes does not depend on them."""
    team.policy = replace(team.policy, patch_size=size)
    return team
