"""The conditions under which the same questions are answered: parts of the pool, random switching,
changed pools."""

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
    """The candidates of `coalition` with the switcher of `config`, or with random switching
    (`by_chance`). `name` is the name of the file of answers."""

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
        """The settings that decide the answers: the team, without its switcher where the switcher
        is not used."""
        silent = self.by_chance or len(self.coalition) == 1
        return replace(self.config, switcher=SwitcherConfig()) if silent else self.config


def whole(config: TeamConfig, name: str = WHOLE) -> Condition:
    """All candidates with the team's switcher."""
    return Condition(name, config, Coalition(range(len(config.candidates))))


def by_chance(config: TeamConfig, name: str = RANDOM) -> Condition:
    """All candidates with random switching."""
    return replace(whole(config, name), by_chance=True)


def of_coalition(config: TeamConfig, coalition: Coalition, kind: str = "part") -> Condition:
    """Some of the candidates; `kind` distinguishes switchers. A single candidate has the same name
    for every kind; all candidates with the team's own switcher ("part") are the condition
    `whole`."""
    if kind == "part" and len(coalition) == len(config.candidates):
        return whole(config)
    label = "alone" if len(coalition) == 1 else kind
    return Condition(f"{label}-{'-'.join(map(str, sorted(coalition)))}", config, coalition)


def permuted(config: TeamConfig) -> TeamConfig:
    """Every candidate in the place of the next one, under its own name."""
    count = len(config.candidates)
    order = [(place - 1) % count for place in range(count)]
    return replace(
        config,
        candidates=tuple(config.candidates[index] for index in order),
        policy=_moved(config.policy, order),
    )


def renamed(config: TeamConfig) -> TeamConfig:
    """Every candidate in its place, under a neutral name ("candidate 1")."""
    names = [f"candidate {place + 1}" for place in range(len(config.candidates))]
    candidates = [replace(c, name=name) for c, name in zip(config.candidates, names, strict=True)]
    return replace(config, candidates=tuple(candidates))


def replaced(config: TeamConfig, changes: Sequence[str]) -> TeamConfig:
    """Another model for a candidate, "NAME=MODEL", with the same name and prompt. Raises UsageError
    for an unknown name."""
    candidates = list(config.candidates)
    names = [candidate.name for candidate in candidates]
    for change in changes:
        name, equals, model = change.partition("=")
        if not (name and equals and model) or name not in names:
            raise UsageError(
                f"--replace takes NAME=MODEL with NAME one of {', '.join(names)}, not {change!r}"
            )
        at = names.index(name)
        spec = replace(candidates[at].spec, adapter=None).with_model(model)
        candidates[at] = Candidate(name, spec, candidates[at].endpoint)
    return replace(config, candidates=tuple(candidates))


def _without(policy: Policy, gone: set[int], there: Coalition) -> Policy:
    """The policy without rules that name an absent candidate. Shares are kept if at least one
    present candidate has no cap."""
    if policy.opening in gone:
        policy = replace(policy, opening=None)
    if policy.closing in gone:
        policy = replace(policy, closing=None, closing_on_end=False, closing_cue=None)
    if policy.guard is not None and policy.guard.to in gone:
        policy = replace(policy, guard=None)
    if policy.max_share and gone:
        kept = [(who, share) for who, share in policy.max_share if who in there]
        kept = kept if len(kept) < len(there) else []
        nothing = [(who, 0.0) for who in sorted(gone)]  # absent candidates write nothing
        policy = replace(policy, max_share=(*kept, *nothing))
    return policy


def _moved(policy: Policy, order: Sequence[int]) -> Policy:
    """The policy with its candidate indices changed for this order of candidates."""
    place = {old: new for new, old in enumerate(order)}
    guard = policy.guard
    return replace(
        policy,
        opening=None if policy.opening is None else place[policy.opening],
        closing=None if policy.closing is None else place[policy.closing],
        max_share=tuple((place[index], share) for index, share in policy.max_share),
        guard=None if guard is None else replace(guard, to=place[guard.to]),
    )
