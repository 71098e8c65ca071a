"""BACo (arXiv 2511.05650): a base model writes where it is uncertain, an aligned one the rest."""

from __future__ import annotations

import re

from taketurns.config.pair_rules import BacoRule
from taketurns.switchers.pair import PairSwitcher
from taketurns.types import NextToken

# The closed classes of English: determiners, pronouns, prepositions, conjunctions, auxiliaries.
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a an the this that these those each every either neither some any no all both half such what
    which whose another other i me my mine myself you your yours yourself yourselves he him his
    himself she her hers herself it its itself we us our ours ourselves they them their theirs
    themselves who whom one oneself somebody someone something anybody anyone anything nobody none
    nothing everybody everyone everything about above across after against along among around as at
    before behind below beneath beside besides between beyond by despite down during except for from
    in inside into like near of off on onto out outside over past per since through throughout till
    to toward towards under underneath until unto up upon via with within without and but or nor so
    yet if unless because although though while whereas whether than when whenever where wherever
    why how be am is are was were been being have has had having do does did doing done can could
    may might must shall should will would ought not there then thus hence therefore however
        """,
    )
)


class BacoSwitcher(PairSwitcher):
    """The base writes what may differ from answer to answer; `rule` says where. By "probability" a
    greater `rule.gamma` gives the base more tokens and so leads from quality to diversity; by
    "entropy" a smaller one does."""

    def __init__(self, rule: BacoRule | None = None) -> None:
        self.rule = rule or BacoRule()
        super().__init__(self._varies, self.rule.base, spaces_alone=True)

    def _varies(self, next_token: NextToken, text: str | None) -> bool:
        rule = self.rule
        if "punctuation" in rule.content and not any(map(str.isalnum, text or "")):
            return False
        if "function_words" in rule.content and (text or "").strip().lower() in FUNCTION_WORDS:
            return False
        if rule.uncertainty == "probability":
            return next_token.probability < rule.gamma
        return rule.uncertainty == "none" or next_token.entropy > rule.gamma
