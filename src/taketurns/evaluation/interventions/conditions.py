"""The same held-out questions under many conditions: parts of the pool, chance, changed pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from taketurns.config.policy import Policy
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.errors import UsageError
from taketurns.evaluation.interventions.shapley import Coalition
from taketurns.generation.team import SWITCHER, Team
from taketurns.switchers.factory import make_switcher
from taketurns.switchers.simple import RandomSwitcher, SubsetSwitcher
from taketurns.types import Candidate

WHOLE, RANDOM = "whole", "random"


@dataclass(frozen=True, slots=True)
class Condition:
    """Who answers: the candidates of `coalition` under the switcher of `config`, or (`by_chance`)
    under none. `name` is that of its file of answers."""

    name: str
    config: TeamConfig
    coalition: Coalition
    by_chance: bool = False

    def on(self, team: Team) -> Team:
        """The team that answers, on the engine of a team of the same candidates."""
        count = len(self.config.candidates)
        if self.by_chance:
            return team.switched_by(RandomSwitcher())
        if len(self.coalition) == 1:
            (only,) = self.coalition
            return team.alone(self.config.candidates[only].name)
        switcher = make_switcher(self.config.switcher, SWITCHER)
        policy = _without(team.policy, set(range(count)) - self.coalition, self.coalition)
        if len(self.coalition) < count:
            switcher, policy = SubsetSwitcher(switcher, self.coalition), policy.unfollowed
        return Team(team.candidates, team.engine, switcher, policy, team.judge)

    @property
    def decided_by(self) -> TeamConfig:
        """What decides its answers: the team, its switcher left out where it has no say."""
        silent = self.by_chance or len(self.coalition) == 1
        return replace(self.config, switcher=SwitcherConfig()) if silent else self.config


def whole(config: TeamConfig, name: str = WHOLE) -> Condition:
    """All candidates under the team's switcher."""
    return Condition(name, config, Coalition(range(len(config.candidates))))


def by_chance(config: TeamConfig, name: str = RANDOM) -> Condition:
    """All candidates at random."""
    return replace(whole(config, name), by_chance=True)


def of_coalition(config: TeamConfig, coalition: Coalition, kind: str = "part") -> Condition:
    """Some of the candidates; `kind` tells switchers apart. Those who are alone, and all under the
    team's own switcher, are the same whatever the kind."""
    if kind == "part" and len(coalition) == len(config.candidates):
        return whole(config)
    label = "alone" if len(coalition) == 1 else kind
    return Condition(f"{label}-{'-'.join(map(str, sorted(coalition)))}", config, coalition)


def permuted(config: TeamConfig) -> TeamConfig:
    """Every candidate in another place, under its own name: each takes the next one's."""
    count = len(config.candidates)
    order = [(place - 1) % count for place in range(count)]
    return replace(
        config,
        candidates=tuple(config.candidates[index] for index in order),
        policy=_moved(config.policy, order),
    )


def renamed(config: TeamConfig) -> TeamConfig:
    """Every candidate in its place, under a name that says nothing."""
    names = [f"candidate {place + 1}" for place in range(len(config.candidates))]
    candidates = [replace(c, name=name) for c, name in zip(config.candidates, names, strict=True)]
    return replace(config, candidates=tuple(candidates))


def replaced(config: TeamConfig, changes: Sequence[str]) -> TeamConfig:
    """Another model for a candidate, "NAME=MODEL", under its name and with its prompt. Raises
    UsageError for a name that is none."""
    candidates = list(config.candidates)
    names = [candidate.name for candidate in candidates]
    for change in changes:
        name, equals, model = change.partition("=")
        if not (name and equals and model) or name not in names:
            raise UsageError(
                f"a candidate is replaced by NAME=MODEL, NAME one of {', '.join(names)}, "
                f"not {change!r}"
            )
        at = names.index(name)
        spec = replace(candidates[at].spec, adapter=None).with_model(model)
        candidates[at] = Candidate(name, spec, candidates[at].endpoint)
    return replace(config, candidates=tuple(candidates))


def _without(policy: Policy, gone: set[int], there: Coalition) -> Policy:
    """The rules without those that name a candidate who is gone. Shares are kept where they leave
    a candidate without a cap."""
    if policy.opening in gone:
        policy = replace(policy, opening=None)
    if policy.closing in gone:
        policy = replace(policy, closing=None, closing_on_end=False, closing_cue=None)
    if policy.guard is not None and policy.guard.to in gone:
        policy = replace(policy, guard=None)
    if policy.max_share and gone:
        kept = [(who, share) for who, share in policy.max_share if who in there]
        kept = kept if len(kept) < len(there) else []
        nothing = [(who, 0.0) for who in sorted(gone)]  # nor what the others may not write
        policy = replace(policy, max_share=(*kept, *nothing))
    return policy


def _moved(policy: Policy, order: Sequence[int]) -> Policy:
    """The rules for candidates in this order."""
    place = {old: new for new, old in enumerate(order)}
    guard = policy.guard
    return replace(
        policy,
        opening=None if policy.opening is None else place[policy.opening],
        closing=None if policy.closing is None else place[policy.closing],
        max_share=tuple((place[index], share) for index, share in policy.max_share),
        guard=None if guard is None else replace(guard, to=place[guard.to]),
    )
