"""Stopping criteria: one for each rule that ends a patch, made anew for every patch.

The engine calls the criterion while it writes the patch (`types.StoppingCriterion`), so a rule
needs no extra call and no patch is written in pieces. An engine's `Capability` values say which
rules it supports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taketurns.checkpoints.text import TextStream
from taketurns.config.policy import PatchRule
from taketurns.engines.base import ModelInfo
from taketurns.errors import ConfigError
from taketurns.generation.state import GenerationState
from taketurns.switchers.base import PatchEndingDecide, TokenLevelSwitcher
from taketurns.types import Finish, StoppingCriterion, Token

if TYPE_CHECKING:
    from torch import Tensor

# A full stop right after a digit or a lone letter may be inside a number or an abbreviation.
_SENTENCE = re.compile(
    r"""(?: (?<![0-9]) (?<!\b[^\W\d_]) \. | [!?\u2026\u3002\uff01\uff1f] )
    ["'\u201d\u2019»)\]]* \s* \Z | \n \s* \Z""",
    re.VERBOSE,
)


def check(rule: PatchRule, decide: object, models: Sequence[ModelInfo]) -> None:
    """Raise ConfigError if these models, or the switcher's `decide`, do not support the rule."""
    if isinstance(decide, PatchEndingDecide):
        raise ConfigError(
            f"policy.patch.until: {rule.until} ends patches, and so does this switcher: remove "
            "policy.patch, or use another switcher.kind"
        )
    if rule.until == "switcher":
        if not isinstance(decide, TokenLevelSwitcher):
            raise ConfigError(
                "policy.patch.until: switcher asks the switcher at every token, which only a "
                "switcher of kind head supports: train one with taketurns train --switcher head"
            )
        for speaker in range(len(models)):
            decide.layers(speaker)
    for info in models:
        if rule.until == "uncertainty" and "entropy" not in info.capabilities:
            raise ConfigError(
                f"policy.patch.until: uncertainty needs log-probabilities and ids of {info.name}'s "
                "tokens, which its servers do not report: use until: sentence"
            )


def criterion_of(
    rule: PatchRule, decide: object, state: GenerationState, speaker: int
) -> StoppingCriterion | None:
    """The criterion for the speaker's next patch on `state`; None if only its length ends it."""
    if rule.until == "sentence":
        return SentenceEnd(rule, state.stream(speaker))
    if rule.until == "uncertainty":
        return EntropyRise(rule)
    if rule.until == "switcher":
        assert isinstance(decide, TokenLevelSwitcher), "check() before the answer begins"
        return ChangeOfMind(rule, decide, speaker)
    return None


class _Criterion:
    """A criterion that never ends a patch and needs nothing."""

    finish: Finish
    entropy = False
    layers: tuple[int, ...] = ()

    def on_token(self, token: Token) -> bool:
        return False

    def should_stop(self, entropy: float | None, states: Tensor | None) -> bool:
        return False


class SentenceEnd(_Criterion):
    """Ends a patch after the token that ends a sentence or a line; `stream` decodes the tokens. For
    a server without token ids it reads the pieces of text instead."""

    finish: Finish = "sentence"

    def __init__(self, rule: PatchRule, stream: TextStream) -> None:
        self._rule = rule
        self._stream = stream
        self._written = 0
        self._text = ""

    def on_token(self, token: Token) -> bool:
        self._written += 1
        shown = self._stream.push(token.id) if token.id is not None else token.text
        self._text += shown or ""
        if not shown or self._written < self._rule.min:
            return False  # no text: the token ends inside a character
        return _SENTENCE.search(self._text) is not None


class EntropyRise(_Criterion):
    """Ends a patch before a token whose entropy is well above the mean of the patch so far."""

    finish: Finish = "uncertainty"
    entropy = True

    def __init__(self, rule: PatchRule) -> None:
        self._rule = rule
        self._sum = 0.0
        self._seen = 0

    def should_stop(self, entropy: float | None, states: Tensor | None) -> bool:
        """Called before every token, so the number of calls is the number of tokens written."""
        assert entropy is not None, "an engine with the capability gives it"
        written = self._seen
        if written >= self._rule.min and entropy - self._sum / written >= self._rule.rise:
            return True
        self._sum += entropy
        self._seen += 1
        return False


class ChangeOfMind(_Criterion):
    """Ends a patch when the switcher prefers another candidate by `margin` for `dwell` tokens in a
    row. Both prevent very short patches where the switcher is undecided."""

    finish: Finish = "switcher"

    def __init__(self, rule: PatchRule, decide: TokenLevelSwitcher, speaker: int) -> None:
        self.layers = decide.layers(speaker)
        self._rule = rule
        self._decide = decide
        self._speaker = speaker
        self._written = 0
        self._in_a_row = 0

    def on_token(self, token: Token) -> bool:
        self._written += 1
        return False

    def should_stop(self, entropy: float | None, states: Tensor | None) -> bool:
        if states is None or self._written <= self._rule.min - self._rule.dwell:
            return False  # too early to count
        probabilities = self._decide.follow(self._speaker, states)
        others = (p for index, p in enumerate(probabilities) if index != self._speaker)
        lead = max(others, default=0.0) - probabilities[self._speaker]
        self._in_a_row = self._in_a_row + 1 if lead >= self._rule.margin and lead > 0 else 0
        return self._in_a_row >= self._rule.dwell and self._written >= self._rule.min
