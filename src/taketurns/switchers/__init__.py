"""Who writes next: a switcher gives each candidate a probability, given the query and the trace."""

from typing import Any

from taketurns.switchers.baco import BacoSwitcher
from taketurns.switchers.base import (
    ComparingDecide,
    CorrectingDecide,
    Decide,
    GenerationView,
    PatchEndingDecide,
    Switcher,
    TokenLevelSwitcher,
)
from taketurns.switchers.deferral import DeferralSwitcher
from taketurns.switchers.factory import make_switcher
from taketurns.switchers.folded import FoldedSwitcher
from taketurns.switchers.fusionroute import FusionRouteSwitcher
from taketurns.switchers.head import HeadSwitcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.mentor import MentorSwitcher
from taketurns.switchers.nudging import NudgingSwitcher
from taketurns.switchers.pair import PairSwitcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher, SubsetSwitcher
from taketurns.utils.old_paths import old_name

__all__ = [
    "BacoSwitcher",
    "ComparingDecide",
    "CorrectingDecide",
    "Decide",
    "DeferralSwitcher",
    "FixedSwitcher",
    "FoldedSwitcher",
    "FusionRouteSwitcher",
    "GenerationView",
    "HeadSwitcher",
    "LMSwitcher",
    "MentorSwitcher",
    "NudgingSwitcher",
    "PairSwitcher",
    "PatchEndingDecide",
    "RandomSwitcher",
    "SubsetSwitcher",
    "Switcher",
    "TokenLevelSwitcher",
    "make_switcher",
]


def __getattr__(name: str) -> Any:
    return old_name(__name__, name)
