"""The switcher that a team file asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from taketurns.config.pair_rules import BacoRule, DeferralRule, MentorRule, NudgingRule
from taketurns.config.team_config import SwitcherConfig
from taketurns.switchers.baco import BacoSwitcher
from taketurns.switchers.base import Switcher, require_switcher
from taketurns.switchers.deferral import DeferralSwitcher
from taketurns.switchers.folded import FoldedSwitcher
from taketurns.switchers.fusionroute import FusionRouteSwitcher
from taketurns.switchers.head import HeadSwitcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.mentor import MentorSwitcher
from taketurns.switchers.nudging import NudgingSwitcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher
from taketurns.types import ModelSpec
from taketurns.utils.parts import make_part


def make_switcher(config: SwitcherConfig, model: str) -> Switcher:
    """The switcher that a team file asks for; `model` is the name of its model in the engine.
    Raises UsageError or ConfigError if a user's own switcher cannot be made."""
    makers: Mapping[str, Callable[[], Switcher]] = {
        "random": RandomSwitcher,
        "fixed": lambda: FixedSwitcher(config.sequence),
        "lm": lambda: LMSwitcher(
            model,
            chat_template=config.chat_template,
            candidates=config.candidates or config.spec or (),
        ),
        "head": lambda: HeadSwitcher(config.path or ""),
        "folded": lambda: FoldedSwitcher(config.tokens, config.reader or 0),
        "nudging": lambda: NudgingSwitcher(cast(NudgingRule | None, config.pair)),
        "baco": lambda: BacoSwitcher(cast(BacoRule | None, config.pair)),
        "deferral": lambda: DeferralSwitcher(
            config.path or "", cast(DeferralRule | None, config.pair)
        ),
        "mentorcollab": lambda: MentorSwitcher(cast(MentorRule | None, config.pair), config.path),
        "fusionroute": lambda: FusionRouteSwitcher(
            model, cast(ModelSpec, config.spec), config.path or ""
        ),
    }
    if config.kind in makers:
        return makers[config.kind]()
    switcher: Switcher = make_part("switchers", config.kind, config.settings)
    require_switcher(switcher)
    return switcher
