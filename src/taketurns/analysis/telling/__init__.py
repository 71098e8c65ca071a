"""Results as sections: what is said of each, with its tables, its charts and its caveat."""

from taketurns.analysis.numbers import named
from taketurns.analysis.telling.beyond import of_beyond
from taketurns.analysis.telling.diagnosis import of_signs, of_switcher
from taketurns.analysis.telling.effects import of_effects
from taketurns.analysis.telling.sequences import of_sequences
from taketurns.analysis.telling.shares import of_shares
from taketurns.analysis.telling.skills import of_skills

__all__ = [
    "named",
    "of_beyond",
    "of_effects",
    "of_sequences",
    "of_shares",
    "of_signs",
    "of_skills",
    "of_switcher",
]
