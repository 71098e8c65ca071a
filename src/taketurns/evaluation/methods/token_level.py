"""Checkpoints take turns at the token level: two of them by Nudging (arXiv 2410.09300), BACo
(2511.05650), MentorCollab (2602.05307) or a deferral head, all of them by FusionRoute (2601.05106).

Of two, the base is the first candidate, the other one the last. Prompts, budget and sampling are
those of all methods; the policy's rules about speakers and patches are left out, because these
methods end patches themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from taketurns.config.pair_rules import BacoRule, DeferralRule, MentorRule, NudgingRule
from taketurns.config.policy import Policy
from taketurns.evaluation.methods.base import Ask, Dev, MethodContext, Plain, mean_score
from taketurns.evaluation.methods.switching import SwitchingTeam
from taketurns.generation.team import Team
from taketurns.switchers.baco import BacoSwitcher
from taketurns.switchers.base import Switcher
from taketurns.switchers.deferral import DeferralSwitcher
from taketurns.switchers.mentor import MentorSwitcher
from taketurns.switchers.nudging import NudgingSwitcher
from taketurns.tasks.base import Task
from taketurns.types import Patch, Query, Trace


def routed_tokens(context: MethodContext, switchers: Mapping[str, Switcher]) -> SwitchingTeam:
    """FusionRoute (2601.05106), with the router of each task: among all candidates the most
    probable one writes the next token. There is nothing to choose on dev."""
    policy = replace(_rules(context.policy), greedy_switcher=True)
    return SwitchingTeam(context, switchers, policy)


def _rules(policy: Policy) -> Policy:
    """The policy of a switcher that ends patches itself: their greatest length is the budget."""
    return replace(policy.without_rules(), patch=None, patch_size=policy.max_tokens)


class TokenLevelPair(Plain):
    """The first and the last candidate, with the one of `values` that has the best mean score on
    dev; the earlier one of equals. `switcher` makes the switcher of a value, `knob` says what the
    values are, and `name` names the dev answers."""

    def __init__(
        self,
        context: MethodContext,
        name: str,
        values: Sequence[float],
        switcher: Callable[[float], Switcher],
        knob: str = "gamma",
    ) -> None:
        super().__init__(context)
        self._name = name
        self._knob = knob
        self._teams = {value: self._team(switcher(value)) for value in values}
        self._value = values[0]

    @classmethod
    def nudging(cls, context: MethodContext) -> TokenLevelPair:
        return cls(
            context, "nudging", (0.2, 0.3, 0.4, 0.5), lambda g: NudgingSwitcher(NudgingRule(g))
        )

    @classmethod
    def baco(cls, context: MethodContext) -> TokenLevelPair:
        """By punctuation and probability, the paper's best router."""
        return cls(context, "baco", (0.1, 0.3, 0.5, 0.7, 0.9), lambda g: BacoSwitcher(BacoRule(g)))

    @classmethod
    def mentorcollab(
        cls,
        context: MethodContext,
        name: str = "mentorcollab",
        rule: MentorRule | None = None,
        judge: str | None = None,
    ) -> TokenLevelPair:
        """The last candidate is the mentor of the first, or as `rule` says; `judge` is a folder."""
        rates, of = (0.1, 0.25, 0.5), rule or MentorRule()

        def switcher(rate: float) -> MentorSwitcher:
            return MentorSwitcher(replace(of, rate=rate), judge)

        return cls(context, name, rates, switcher, knob="rate")

    @classmethod
    def deferral(cls, context: MethodContext, name: str, head: str) -> TokenLevelPair:
        """By the head in a folder."""
        values = (0.1, 0.3, 0.5, 0.7, 0.9)
        return cls(
            context, name, values, lambda t: DeferralSwitcher(head, DeferralRule(t)), "threshold"
        )

    async def check(self) -> None:
        await self._teams[self._value].check_prompt(Query(id="check", text="?"))

    async def prepare(self, dev: Dev) -> Mapping[str, Any]:
        scores = {
            value: mean_score(await dev.answers(f"{self._name} {value:g}", self._asking(value)))
            for value in self._teams
        }
        self._value = max(scores, key=scores.__getitem__)
        return {self._knob: self._value, "dev": scores[self._value]}

    async def answer(self, task: Task, query: Query, seed: int) -> Trace:
        return await self._asking(self._value)(task, query, seed)

    def _asking(self, value: float) -> Ask:
        async def ask(task: Task, query: Query, seed: int) -> Trace:
            trace = await self._teams[value].agenerate(query, seed=seed)
            return replace(trace, patches=tuple(map(self._signed, trace.patches)))

        return ask

    def _team(self, switcher: Switcher) -> Team:
        context = self._context
        first, *_, last = context.config.candidates
        return Team((first, last), context.engine, switcher, _rules(context.policy))

    def _signed(self, patch: Patch) -> Patch:
        """The patch with the indices of the whole team."""
        between = (0.0,) * (len(self._context.names) - 2)
        chances = patch.probabilities
        return replace(
            patch,
            speaker=patch.speaker and len(self._context.names) - 1,
            probabilities=chances and (chances[0], *between, *chances[1:]),
        )
