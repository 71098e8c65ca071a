"""Nudging (arXiv 2410.09300): a base model writes, and an aligned one writes words where the base
is unsure."""

from __future__ import annotations

from taketurns.config.pair_rules import NudgingRule
from taketurns.switchers.pair import PairSwitcher
from taketurns.types import NextToken


class NudgingSwitcher(PairSwitcher):
    """The base writes where the probability of its most probable token is at least `rule.gamma`.
    Whether the answer ends is left to the other one."""

    def __init__(self, rule: NudgingRule | None = None) -> None:
        self.rule = rule or NudgingRule()
        super().__init__(self._sure, self.rule.base, anywhere=True)

    def _sure(self, next_token: NextToken, text: str | None) -> bool:
        return text is not None and next_token.probability >= self.rule.gamma
