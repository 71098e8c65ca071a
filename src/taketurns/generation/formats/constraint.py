"""Which tokens of one speaker go on with an answer in its format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taketurns.errors import FormatError
from taketurns.generation.formats.spelling import wanted_next
from taketurns.types import AnswerFormat

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from taketurns.checkpoints.grammar_vocabulary import GrammarVocabulary

_SHOWN = 40  # characters of an answer in an error


class GrammarConstraint:
    """A `TokenConstraint`: `matcher` stands after what is `written`, and reads the tokens of
    `speaker`, whose vocabulary is given."""

    def __init__(
        self,
        answer_format: AnswerFormat,
        written: bytes,
        matcher: LLMatcher,
        vocabulary: GrammarVocabulary,
        speaker: str,
    ) -> None:
        self.format = answer_format
        self.written = written
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._speaker = speaker
        self._patch = b""

    def allowed(self) -> NDArray[np.uint8] | None:
        matcher = self._matcher
        if matcher.is_stopped():
            self._check()
            return None
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        self._check()
        bits = _of_tokens(bits, self._vocabulary.size)
        if bits.any():
            return bits
        if matcher.is_accepting():
            return None
        text = (self.written + self._patch).decode("utf-8", "replace")
        piece = wanted_next(matcher, self._vocabulary)
        raise FormatError(
            f"{self._speaker} has no token for {piece}, which the answer's format asks for after "
            f"{text[-_SHOWN:]!r}: use a model whose vocabulary has it, or another format"
        )

    def may_end(self) -> bool:
        return self._matcher.is_accepting()

    def leads_on(self, token: int) -> bool:
        if self._vocabulary.spells_all or token >= self._vocabulary.size:
            return True
        after = self._matcher.deep_copy()
        after.consume_token(token)
        if after.is_accepting():
            return True
        bits = np.frombuffer(after.compute_bitmask(), np.uint8)
        return bool(_of_tokens(bits, self._vocabulary.size).any())

    def advance(self, token: int) -> bool:
        self._matcher.consume_token(token)
        self._check()
        self._patch += self._vocabulary.tokens[token]
        return self._matcher.is_stopped()

    def _check(self) -> None:
        """Raise FormatError where the grammar cannot be followed any further, at its limits."""
        if self._matcher.is_error():
            raise FormatError(
                f"the answer's format cannot be followed for {self._speaker}: "
                f"{first_line(self._matcher.get_error())}; use a simpler one"
            )


def _of_tokens(bits: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The bits of the tokenizer's own ids, behind which are those of single bytes."""
    bits = bits[: (size + 7) // 8].copy()
    if size % 8:
        bits[-1] &= (1 << size % 8) - 1
    return bits


def first_line(error: str) -> str:
    """What llguidance says of an error, less the state that it adds."""
    return error.strip().partition("\n")[0].rstrip(": ")
