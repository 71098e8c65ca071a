"""A model's answer to a question of yes or no, read from its next-token probabilities: no text is
sampled, so the same question always gets the same answer."""

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
    """The tokens that Yes and No begin with in one model's vocabulary."""

    yes: tuple[int, ...]
    no: tuple[int, ...]

    @classmethod
    def of(cls, info: ModelInfo) -> YesNo:
        """Raises ConfigError for a model whose tokens for both are the same."""
        yes, no = (_first_tokens(info, words) for words in (YES, NO))
        yes, no = yes - no, no - yes  # a token of the space before both says nothing
        if not yes or not no:
            raise ConfigError(f"the judge {info.name} has no tokens that tell Yes from No")
        return cls(tuple(sorted(yes)), tuple(sorted(no)))

    @property
    def choices(self) -> list[int]:
        """The tokens to be scored."""
        return [*self.yes, *self.no]

    def share(self, logprobs: Sequence[float]) -> float | None:
        """The probability of Yes among the two, from the natural-log probabilities of `choices`;
        None where neither is possible. Raises NotANumberError for one that is no number."""
        check_logprobs(logprobs, "the judge")
        top = max(logprobs)
        if top == -inf:
            return None
        weights = [exp(p - top) for p in logprobs]
        return sum(weights[: len(self.yes)]) / sum(weights)


def _first_tokens(info: ModelInfo, words: Sequence[str]) -> set[int]:
    return {ids[0] for word in words if (ids := info.codec.encode(word))}
