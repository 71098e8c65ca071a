"""Results as sections: what is said of each, with its tables, its charts and its caveat."""

from taketurns.evaluation.analysis.numbers import named
from taketurns.evaluation.analysis.sections.beyond import of_beyond
from taketurns.evaluation.analysis.sections.diagnosis import of_signs, of_switcher
from taketurns.evaluation.analysis.sections.effects import of_effects
from taketurns.evaluation.analysis.sections.sequences import of_sequences
from taketurns.evaluation.analysis.sections.shares import of_shares
from taketurns.evaluation.analysis.sections.skills import of_skills

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
