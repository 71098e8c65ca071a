"""When the first of two candidates writes the next token: the settings of token-level switchers."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from taketurns.errors import ConfigError

Uncertainty = Literal["probability", "entropy", "none"]
Content = Literal["punctuation", "function_words"]

_require = ConfigError.unless


@dataclass(frozen=True, slots=True)
class NudgingRule:
    """Nudging (arXiv 2410.09300): the candidate with index `base` writes where the probability of
    its most probable next token is at least `gamma`; elsewhere the other one writes words."""

    gamma: float = 0.4
    base: int = 0

    def __post_init__(self) -> None:
        _check_base(self.base)
        _check_probability(self.gamma)


@dataclass(frozen=True, slots=True)
class BacoRule:
    """BACo (arXiv 2511.05650): the candidate with index `base` writes the tokens that may differ
    from answer to answer, the other, aligned one the rest.

    `content` comes first: the aligned one writes where the base's most probable next token is
    punctuation, layout or an end token ("punctuation"), or an English function word
    ("function_words"). Elsewhere the base writes if it is uncertain: by `uncertainty`
    "probability", if that token's probability is below `gamma`; by "entropy", if the entropy of its
    distribution is above `gamma` nats; with "none", always, whatever `gamma` is.
    """

    gamma: float = 0.5
    uncertainty: Uncertainty = "probability"
    content: tuple[Content, ...] = ("punctuation",)
    base: int = 0

    def __post_init__(self) -> None:
        _check_base(self.base)
        if self.uncertainty == "probability":
            _check_probability(self.gamma)
        _require(
            isfinite(self.gamma) and self.gamma >= 0,
            f"gamma, an entropy in nats, must be 0 or more, not {self.gamma}",
        )
        _require(
            self.uncertainty != "none" or bool(self.content),
            "uncertainty none needs a rule in content, else the base would write everything: name "
            "punctuation or function_words",
        )


@dataclass(frozen=True, slots=True)
class MentorRule:
    """MentorCollab (arXiv 2602.05307): the candidate with index `base` writes; a share `rate` of
    the places between its tokens is sampled, where the other one, its mentor, may offer a patch of
    `lookahead` tokens."""

    rate: float = 0.25
    lookahead: int = 16
    base: int = 0

    def __post_init__(self) -> None:
        _check_base(self.base)
        _require(0 <= self.rate <= 1, f"rate, a share, must be from 0 to 1, not {self.rate}")
        _require(self.lookahead >= 1, f"lookahead must be 1 or more, not {self.lookahead}")


@dataclass(frozen=True, slots=True)
class DeferralRule:
    """Co-LLM (arXiv 2403.03870) and R2R (2505.21600): a head on the base's states gives the next
    token to the other candidate where that one's probability is above `threshold`."""

    threshold: float = 0.5

    def __post_init__(self) -> None:
        _require(
            0 <= self.threshold <= 1,
            f"threshold, a probability, must be from 0 to 1, not {self.threshold}",
        )


PairRule = NudgingRule | BacoRule | MentorRule | DeferralRule


def _check_base(base: int) -> None:
    _require(base in (0, 1), f"base must be the index of one of two candidates, 0 or 1, not {base}")


def _check_probability(gamma: float) -> None:
    _require(0 <= gamma <= 1, f"gamma, a probability, must be from 0 to 1, not {gamma}")
