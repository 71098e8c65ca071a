"""A model's answer to a yes-or-no question, from its next-token probabilities. No text is sampled,
so the same question always gets the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf

from taketurns.engines.base import ModelInfo
from taketurns.errors import ConfigError
from taketurns.utils.finite import check_logprobs

YES, NO = ("Yes", " Yes", "yes", " yes"), ("No", " No", "no", " no")


@dataclass(frozen=True, slots=True)
class YesNo:
    """The first tokens of Yes and No in one model's vocabulary."""

    yes: tuple[int, ...]
    no: tuple[int, ...]

    @classmethod
    def of(cls, info: ModelInfo) -> YesNo:
        """The tokens of a model. Raises ConfigError if Yes and No begin with the same tokens."""
        yes, no = (_first_tokens(info, words) for words in (YES, NO))
        yes, no = yes - no, no - yes  # a common first token, as of a space, does not distinguish
        if not yes or not no:
            raise ConfigError(
                f"the judge {info.name} begins Yes and No with the same tokens, so it cannot "
                "judge: use another model"
            )
        return cls(tuple(sorted(yes)), tuple(sorted(no)))

    @property
    def choices(self) -> list[int]:
        """The tokens to score."""
        return [*self.yes, *self.no]

    def share(self, logprobs: Sequence[float]) -> float | None:
        """The probability of Yes relative to both, from the natural-log probabilities of `choices`;
        None if both have probability 0. Raises NotANumberError for an invalid log-probability."""
        check_logprobs(logprobs, "the judge")
        top = max(logprobs)
        if top == -inf:
            return None
        weights = [exp(p - top) for p in logprobs]
        return sum(weights[: len(self.yes)]) / sum(weights)


def _first_tokens(info: ModelInfo, words: Sequence[str]) -> set[int]:
    return {ids[0] for word in words if (ids := info.codec.encode(word))}
