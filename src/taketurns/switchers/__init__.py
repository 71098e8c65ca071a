"""Who writes next: a switcher gives each candidate a probability, given the query and the trace."""

from taketurns.switchers.base import Decide, GenerationView, Switcher, TokenLevelSwitcher
from taketurns.switchers.factory import make_switcher
from taketurns.switchers.folded import FoldedSwitcher
from taketurns.switchers.head import HeadSwitcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import FixedSwitcher, RandomSwitcher, SubsetSwitcher

__all__ = [
    "Decide",
    "FixedSwitcher",
    "FoldedSwitcher",
    "GenerationView",
    "HeadSwitcher",
    "LMSwitcher",
    "RandomSwitcher",
    "SubsetSwitcher",
    "Switcher",
    "TokenLevelSwitcher",
    "make_switcher",
]
