"""A base model defers to another one where a linear head on its states says so.

Two papers train such a head: Co-LLM (arXiv 2403.03870) by the likelihood of texts under both
models, R2R (2505.21600) by where the models' answers part. Both decode in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from taketurns.config.pair_rules import DeferralRule
from taketurns.engines.base import Engine, ModelInfo
from taketurns.errors import ConfigError
from taketurns.switchers.head import Head, HeadDecide, View
from taketurns.switchers.pair import BaseGivesWay, EndWhere, PairSwitcher
from taketurns.switchers.words import WordBoundaries
from taketurns.types import NextToken, Patch, StoppingCriterion

if TYPE_CHECKING:
    from torch import Tensor


class DeferralSwitcher(PairSwitcher):
    """The candidate whose states the head reads writes the tokens at which the head gives the other
    one at most `rule.threshold`; the other one writes the rest, token by token, or word by word
    between two tokenizers. `source` is the head's folder or hub id, or the head itself, of mode
    "candidate"."""

    def __init__(self, source: str | Head, rule: DeferralRule | None = None) -> None:
        self.rule = rule or DeferralRule()
        self._source = source
        self._head: Head | None = None
        super().__init__(_never, anywhere=True)

    async def prepare(self, engine: Engine, candidates: Sequence[ModelInfo]) -> None:
        await super().prepare(engine, candidates)
        head = self._source if isinstance(self._source, Head) else Head.load(self._source)
        if head.config.mode != "candidate":
            raise ConfigError(
                "this head reads the last speaker, but a base that defers always reads itself: "
                "train a head with taketurns train --switcher deferral, or --switcher head "
                "--mode candidate"
            )
        names = [info.name for info in candidates]
        self._head = head.ordered(names)
        self._base = names.index(head.config.reader)
        if "hidden" not in candidates[self._base].capabilities:
            raise ConfigError(
                "the head reads hidden states at every token, which the engine of "
                f"{head.config.reader} does not give: use engine.kind local, or a switcher of kind "
                "nudging"
            )

    def base_ends(
        self, words: WordBoundaries, before: bytes | None, last: Patch | None
    ) -> StoppingCriterion:
        assert self._head is not None, "prepare() before begin()"
        decide, base, other = HeadDecide(self._head), self._base, 1 - self._base
        begins = 2 if last is None or last.speaker is None else last.speaker

        def defers(states: Tensor, begun: bool) -> bool:
            view = View(base, base if begun else begins, states.flatten())
            return decide.weigh(view)[other] > self.rule.threshold

        return BaseDefers(defers, self._head.config.layers[words.model], words, before)

    def other_ends(self, words: WordBoundaries, before: bytes) -> StoppingCriterion:
        return EndWhere(_at_once) if self._shared else super().other_ends(words, before)


class BaseDefers(BaseGivesWay):
    """Ends a patch of the base before the first token that it leaves to the other one, by the
    hidden states of `layers` at the token before. `defers` also gets whether the patch has
    begun."""

    def __init__(
        self,
        defers: Callable[[Tensor, bool], bool],
        layers: tuple[int, ...],
        words: WordBoundaries,
        before: bytes | None,
    ) -> None:
        super().__init__(self._keeps, words, before)
        self.layers = layers
        self._defers_by = defers
        self._defers = False

    def should_stop(self, entropy: float | None, states: Tensor | None) -> bool:  # type: ignore[override]
        assert states is not None, "prepare() refuses engines without states"
        self._defers = self._defers_by(states, self.begun)
        return False

    def _keeps(self, next_token: NextToken, text: str | None) -> bool:
        return not self._defers


def _never(next_token: NextToken, text: str | None) -> bool:
    raise AssertionError("a head decides")


def _at_once(tokens: int) -> bool:
    return True
