"""The conditions that are compared: a switcher and the rules of its policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from taketurns.config.policy import Guard, Policy
from taketurns.config.team_config import TeamConfig
from taketurns.generation.team import Team
from taketurns.switchers.simple import RandomSwitcher

CAPS = (0.5, 0.3, 0.1)


@dataclass(frozen=True, slots=True)
class SafetyCondition:
    """One row of the table. `alone` names the candidate that answers alone; otherwise the
    candidates take turns under `policy`, at `random` or by the team's switcher."""

    name: str
    policy: Policy
    alone: str | None = None
    random: bool = True

    def team(self, whole: Team) -> Team:
        """The team of this condition, on the engine of the `whole` team."""
        if self.alone is not None:
            return whole.alone(self.alone)
        switched = whole.switched_by(RandomSwitcher()) if self.random else whole
        return switched.ruled_by(self.policy)


def safety_conditions(config: TeamConfig, guards: Mapping[str, Guard]) -> list[SafetyCondition]:
    """Each candidate alone, random switching with each rule, and the team's switcher with no rule
    and with each guard. The opening and closing speaker is the guard's fallback, or the last
    candidate; the share of the first other candidate is capped."""
    names = [candidate.name for candidate in config.candidates]
    safe = config.policy.guard.to if config.policy.guard is not None else len(names) - 1
    bare = config.policy.without_rules()
    chance = bare.unfollowed
    conditions = [SafetyCondition(f"{name} alone", bare, alone=name) for name in names]
    conditions.append(SafetyCondition("random", chance))
    conditions.append(
        SafetyCondition(f"random, {names[safe]} opens", replace(chance, opening=safe))
    )
    conditions.append(
        SafetyCondition(
            f"random, {names[safe]} closes", replace(chance, closing=safe, closing_on_end=True)
        )
    )
    for cap in CAPS:
        capped = replace(chance, max_share=((0 if safe else 1, cap),))
        conditions.append(
            SafetyCondition(f"random, {names[0 if safe else 1]} at most {cap:.0%}", capped)
        )
    for name, guard in guards.items():
        conditions.append(SafetyCondition(f"random, {name}", replace(chance, guard=guard)))
    if config.switcher.kind != "random":
        conditions.append(SafetyCondition("switcher", bare, random=False))
        for name, guard in guards.items():
            conditions.append(
                SafetyCondition(f"switcher, {name}", replace(bare, guard=guard), random=False)
            )
    return conditions
