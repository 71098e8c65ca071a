"""A tokenizer's tokens as bytes, the form in which llguidance reads a vocabulary for grammars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llguidance import LLTokenizer

BYTES = 256
# The bytes of ordinary text: ASCII, and the bytes of all other characters in use.
_USUAL = (9, 10, *range(32, 127), *range(128, 192), *range(194, 241))


@dataclass(frozen=True, eq=False)
class GrammarVocabulary:
    """`tokens` are the bytes that each id adds to a text; empty for control tokens and for ids
    without a token.

    For llguidance the vocabulary has 257 further ids: one per byte, to read a text that is written
    in other tokens, and an end token that is never drawn.
    """

    tokens: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """One more than the greatest token id of the tokenizer."""
        return len(self.tokens)

    def spell(self, text: bytes) -> list[int]:
        """The ids of a text's single bytes."""
        return [self.size + byte for byte in text]

    @cached_property
    def single_bytes(self) -> frozenset[int]:
        """The bytes that have a token of one byte."""
        return frozenset(token[0] for token in self.tokens if len(token) == 1)

    @cached_property
    def spells_all(self) -> bool:
        """Whether all ordinary text can be written in tokens of one byte."""
        return self.single_bytes.issuperset(_USUAL)

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        """The vocabulary for llguidance. Making it takes a second per 200,000 tokens."""
        from llguidance import LLTokenizer, TokenizerWrapper

        return LLTokenizer(TokenizerWrapper(_Spelling(self)))


class _Spelling:
    """The interface that llguidance needs of a tokenizer."""

    bos_token_id = None

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        self.tokens = [*vocabulary.tokens, *(bytes([byte]) for byte in range(BYTES)), b"<end>"]
        self.eos_token_id = len(self.tokens) - 1
        self.special_token_ids = [self.eos_token_id]
        self._spell = vocabulary.spell

    def __call__(self, text: bytes | str) -> Sequence[int]:
        return self._spell(text if isinstance(text, bytes) else text.encode())


@cache
def byte_vocabulary() -> GrammarVocabulary:
    """A vocabulary without tokens, in which every text is a sequence of bytes."""
    return GrammarVocabulary(())


def decode_each(tokenizer: Any, start: Sequence[int], ids: Sequence[int]) -> list[str]:
    """For each id, the text of the ids `start` followed by it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    texts = [[*start, token] for token in ids]
    if backend is not None:
        return list(backend.decode_batch(texts, skip_special_tokens=True))
    return [
        tokenizer.decode(text, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for text in texts
    ]
