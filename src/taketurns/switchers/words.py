"""Where words begin and end in a model's tokens.

A word is a run of letters and digits of any alphabet. Every place outside a word is a boundary, so
punctuation and white space stand alone. Bytes are compared, because a token may be a part of a
character.
"""

from __future__ import annotations

from taketurns.engines.base import ModelInfo
from taketurns.types import Finish, NextToken, Token


class WordBoundaries:
    """The boundaries in the tokens of one model. Making it reads its whole vocabulary."""

    def __init__(self, info: ModelInfo) -> None:
        self.model = info.name
        self._tokens = info.codec.grammar_vocabulary.tokens
        self._ends = info.end_token_ids

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to a text, in UTF-8; nothing for control tokens and unused ids."""
        return self._tokens[token] if token < len(self._tokens) else b""

    def text_of(self, token: int) -> str | None:
        """A token's text; None if it ends the answer."""
        if token in self._ends:
            return None
        return self.bytes_of(token).decode("utf-8", "replace")

    def between(self, before: bytes, token: int) -> bool:
        """Whether a token after the text `before` stands outside the word that ends there, if one
        does. Within a character there is no boundary."""
        added = self.bytes_of(token)
        if added and 0x80 <= added[0] < 0xC0:
            return False
        return not (_ends_in_letter(before) and _begins_with_letter(added))


class WordEnd:
    """Ends a patch after one word or punctuation mark: before the place where the most probable
    next token stands outside the word. White space goes with the word after it, or, with
    `spaces_alone`, counts as a word. An answer's end is not cut off: where it is most probable, the
    speaker goes on. `before` is the beginning of the word, if the speaker has written it."""

    finish: Finish = "switcher"
    entropy = False
    layers: tuple[int, ...] = ()

    def __init__(
        self, words: WordBoundaries, before: bytes = b"", *, spaces_alone: bool = False
    ) -> None:
        self._words = words
        self._word = before
        self._spaces_alone = spaces_alone
        self._begun = False

    def on_token(self, token: Token) -> bool:
        assert token.id is not None, "prepare() refuses engines without token ids"
        self._word += self._words.bytes_of(token.id)
        self._begun = True
        return False

    def should_stop(self, entropy: float | None, states: object) -> bool:
        return False

    def should_stop_before(self, next_token: NextToken) -> bool:
        if not self._begun or self._words.text_of(next_token.id) is None:
            return False
        if not self._spaces_alone and not self._word.strip():
            return False
        return self._words.between(self._word, next_token.id)


def _ends_in_letter(text: bytes) -> bool:
    return bool(text) and text[-4:].decode("utf-8", "ignore")[-1:].isalnum()


def _begins_with_letter(text: bytes) -> bool:
    if not text:
        return False
    whole = text[:4].decode("utf-8", "ignore")
    return whole[0].isalnum() if whole else True  # the beginning of a character: most are letters
