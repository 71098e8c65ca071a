"""Who writes next: a switcher gives each candidate a probability, given the query and the trace."""

from taketurns.switchers.base import (
    Decide,
    FixedSwitcher,
    FoldedSwitcher,
    Follower,
    LMSwitcher,
    PartSwitcher,
    RandomSwitcher,
    Switcher,
    make_switcher,
)

__all__ = [
    "Decide",
    "FixedSwitcher",
    "FoldedSwitcher",
    "Follower",
    "LMSwitcher",
    "PartSwitcher",
    "RandomSwitcher",
    "Switcher",
    "make_switcher",
]
