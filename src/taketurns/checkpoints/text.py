"""Token ids to text and back, exactly.

`TextCodec` wraps a transformers tokenizer. An id has a meaning only with its codec: other models
may read it only if they have a `SharedVocabulary`. `TextStream` decodes ids as they arrive: a
character whose bytes are spread over several tokens appears with the token that completes it, and
the text of a whole stream equals the text of its pieces. `StopFilter` holds back text that may be
the beginning of a stop string, so no text that was shown must be removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from re import Pattern
from typing import Any

from taketurns.checkpoints.control_tokens import START, OrdinaryEncoder, RenderedPrompt, after
from taketurns.checkpoints.grammar_vocabulary import GrammarVocabulary, decode_each
from taketurns.checkpoints.tokenizer_files import load_tokenizer
from taketurns.checkpoints.tool_calls.templates import TemplateTools, template_tools
from taketurns.types import ModelSpec

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# Tokens before a piece of text that are enough for every decoder to see its left context.
PRIME_TOKENS = 6
_UNFINISHED = 3  # at most so many tokens of an incomplete character: UTF-8 has up to four bytes
_FALLBACK = re.compile("<0x([0-9A-F]{2})>")  # the token of a byte in a sentencepiece vocabulary


class TextCodec:
    """A model's tokenizer: encodes and decodes ordinary text, without special tokens."""

    def __init__(self, tokenizer: Any, note: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.note = note  # for the user, about the tokenizer's origin

    @classmethod
    def load(cls, spec: ModelSpec) -> TextCodec:
        """Load the tokenizer of a model, or of its adapter if that has one, without weights. Raises
        ConfigError if there is none."""
        return cls(*load_tokenizer(spec))

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids of `text`, always ordinary ones; `special` adds the tokens that the tokenizer
        puts before a text."""
        return self._less_end(self._encoder.encode(text, special), special)

    def encode_rendered(self, prompt: RenderedPrompt, special: bool = False) -> list[int]:
        """Token ids of a prompt, with the control tokens that its template wrote; `special` as in
        `encode`."""
        return self._less_end(self._encoder.encode_rendered(prompt, special), special)

    @property
    def control_pattern(self) -> Pattern[str]:
        """Finds text that is spelled like a control token of this tokenizer."""
        return self._encoder.pattern

    @cached_property
    def _encoder(self) -> OrdinaryEncoder:
        return OrdinaryEncoder(self.tokenizer)

    def _less_end(self, ids: list[int], special: bool) -> list[int]:
        end = self._encoder.ends[1] if special else []
        return ids[: len(ids) - len(end)] if end and len(ids) > len(end) else ids

    def encode_after(self, text: str) -> list[int]:
        """Token ids of a text that continues another one and decode to exactly this text there.
        Tokenizers that put a space before a first word would put one between the two."""
        ids, start = self.encode(text), self.encode(START)
        for candidate in (ids, after(text, self.encode)):
            if self.decode([*start, *candidate]) == self.decode(start) + text:
                return candidate
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special tokens, with unchanged spaces."""
        return self._decode(ids, skip_special_tokens=True)

    def spell(self, ids: Iterable[int]) -> str:
        """The text of ids, including special tokens, for a server that reads text."""
        return self._decode(ids, skip_special_tokens=False)

    def _decode(self, ids: Iterable[int], **options: bool) -> str:
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False, **options))

    @cached_property
    def size(self) -> int:
        """One more than the greatest token id."""
        return max(map(int, self.tokenizer.get_vocab().values())) + 1

    def single(self, text: str) -> int | None:
        """The id of the token whose text is `text`; None if the text takes several tokens."""
        ids = self.encode(text)
        if len(ids) == 2 and not self.decode(ids[:1]).strip():
            ids = ids[1:]  # a sentencepiece model puts a bare space mark before a first word
        return ids[0] if len(ids) == 1 and self.decode(ids).strip() == text else None

    def unfinished(self, ids: Sequence[int]) -> int:
        """The number of ids at the end that belong to an incomplete character."""
        if not self.decode(ids[-PRIME_TOKENS:]).endswith(REPLACEMENT):
            return 0
        tail = b""
        for begun in range(1, min(_UNFINISHED, len(ids)) + 1):
            tail = self._bytes(ids[-begun]) + tail
            if _begins_a_character(tail):
                return begun
        return 0  # these bytes are not a character

    def prime(self, ids: Sequence[int]) -> list[int]:
        """The last ids, enough for every decoder to see the left context of the next ones. The
        first of them begins a character: decoders with byte fallback drop a whole run of bytes that
        begins inside one."""
        start = max(0, len(ids) - PRIME_TOKENS)
        for _ in range(_UNFINISHED):
            if start and _continues_a_character(self._bytes(ids[start])):
                start -= 1
        return list(ids[start:])

    def _bytes(self, token: int) -> bytes:
        """The UTF-8 bytes of a token."""
        text = self.tokenizer.convert_ids_to_tokens(token)
        if isinstance(text, bytes) or text is None:
            return text or b""
        if (fallback := _FALLBACK.fullmatch(text)) is not None:
            return bytes.fromhex(fallback[1])
        alphabet = self._alphabet
        if alphabet and all(letter in alphabet for letter in text):
            return bytes(alphabet[letter] for letter in text)
        return str(text).encode("utf-8", "ignore")

    @cached_property
    def template_tools(self) -> TemplateTools:
        """What the tokenizer's chat template knows of tools."""
        known = self.tokenizer.chat_template is not None
        return template_tools(self.tokenizer, self.control_pattern) if known else TemplateTools()

    @cached_property
    def grammar_vocabulary(self) -> GrammarVocabulary:
        """The bytes that each ordinary token adds to a text before it."""
        size = self.size
        tokens = [b""] * size
        added = {int(i): token.content for i, token in self.tokenizer.added_tokens_decoder.items()}
        in_context = sorted(self.ordinary_ids)
        if self._alphabet:  # each letter of a token is a byte, in every context
            for token in in_context:
                text = added.get(token)
                tokens[token] = self._bytes(token) if text is None else text.encode()
            return GrammarVocabulary(tuple(tokens))
        start = self.encode(START) or in_context[:1]
        before = self.decode(start)
        for token, text in zip(
            in_context, decode_each(self.tokenizer, start, in_context), strict=True
        ):
            if (name := self.tokenizer.convert_ids_to_tokens(token)) and _FALLBACK.fullmatch(name):
                tokens[token] = self._bytes(token)
            elif text.startswith(before) and not text.endswith(REPLACEMENT):
                tokens[token] = text[len(before) :].encode("utf-8", "ignore")
        return GrammarVocabulary(tuple(tokens))

    @cached_property
    def _alphabet(self) -> Mapping[str, int]:
        """The byte for each letter of a byte-level vocabulary; empty for other vocabularies."""
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
        space = next(letter for letter, byte in letters.items() if byte == ord(" "))
        return letters if space in self.tokenizer.get_vocab() else {}

    def is_control(self, token: int) -> bool:
        """Whether this is a control token of the tokenizer, which is not part of a text."""
        return token in self._encoder.control_ids

    @cached_property
    def ordinary_ids(self) -> frozenset[int]:
        """The ids of this tokenizer's ordinary tokens."""
        known = frozenset(map(int, self.tokenizer.get_vocab().values()))
        return known - self._encoder.control_ids

    @cached_property
    def fingerprint(self) -> str:
        """A hash that is equal for tokenizers whose ordinary tokens have equal ids; special tokens
        may differ."""
        vocabulary = self.tokenizer.get_vocab()
        ordinary = sorted(
            (int(i), token) for token, i in vocabulary.items() if int(i) in self.ordinary_ids
        )
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        # Only the decoder: reading all of a large tokenizer's JSON takes minutes.
        backend_decoder = getattr(backend, "decoder", None)
        decoder = (
            json.loads(backend_decoder.__getstate__()) if backend_decoder is not None else None
        )
        return sha256(json.dumps([ordinary, decoder]).encode()).hexdigest()[:16]

    def stream(self, before: Sequence[int] = (), *, special: bool = False) -> TextStream:
        """A stream that decodes the tokens after the ids `before`; `special` writes control tokens
        out."""
        return TextStream(self, before, special=special)


@dataclass(frozen=True, slots=True)
class SharedVocabulary:
    """The vocabulary of models whose ordinary tokens have equal ids. Only `of` makes one, so
    without it ids of one model cannot reach another."""

    ordinary_ids: frozenset[int]

    @classmethod
    def of(cls, codecs: Iterable[TextCodec]) -> SharedVocabulary | None:
        """The vocabulary that all codecs share; None if an id has different meanings."""
        every = tuple(codecs)
        if len({codec.fingerprint for codec in every}) != 1:
            return None
        return cls(every[0].ordinary_ids)

    def ordinary(self, token_ids: Iterable[int]) -> list[int]:
        """The ids without control tokens, which differ between tokenizers, and without ids of no
        token."""
        return [token for token in token_ids if token in self.ordinary_ids]


def _begins_a_character(data: bytes) -> bool:
    """Whether UTF-8 bytes end inside a character."""
    for length in range(1, min(_UNFINISHED, len(data)) + 1):
        lead = data[-length]
        if not 0x80 <= lead < 0xC0:
            needed = 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4
            return 0xC2 <= lead < 0xF5 and length < needed
    return False


def _continues_a_character(data: bytes) -> bool:
    return bool(data) and 0x80 <= data[0] < 0xC0


class TextStream:
    """Incremental decoding: pass ids to `push`, one or several at a time, and join the returned
    texts. A character that is incomplete before the first id comes with the id that completes
    it."""

    def __init__(
        self, codec: TextCodec, before: Sequence[int] = (), *, special: bool = False
    ) -> None:
        self._codec = codec
        self._decode = codec.spell if special else codec.decode
        begun = codec.unfinished(before)
        primed = codec.prime(before[: len(before) - begun])
        self._ids = [*primed, *before[len(before) - begun :]]
        self._start = 0
        self._shown = len(primed)

    def copy(self) -> TextStream:
        """An independent stream that continues from here."""
        twin = copy(self)
        twin._ids = list(self._ids)
        return twin

    def push(self, *token_ids: int) -> str:
        """The text that is complete with these tokens; "" while a character is incomplete."""
        self._ids.extend(token_ids)
        text = self._hidden()
        if not text or self._breaks_off(text):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return text

    @property
    def pending(self) -> bool:
        """Whether the last tokens end inside a character."""
        return self._shown < len(self._ids) and self._breaks_off(self._hidden())

    def flush(self) -> str:
        """At the end of an answer: the complete characters that are still held; the bytes of an
        incomplete one are dropped."""
        text = self._hidden()
        self._start, self._shown = self._shown, len(self._ids)
        return text.rstrip(REPLACEMENT)

    def _breaks_off(self, text: str) -> bool:
        return text.endswith(REPLACEMENT) and self._codec.unfinished(self._ids) > 0

    def _hidden(self) -> str:
        """The text of the tokens that are not shown yet, decoded after those that are."""
        known = self._decode(self._ids[self._start : self._shown])
        text = self._decode(self._ids[self._start :])
        if text.startswith(known):
            return text[len(known) :]
        # In a decoder with byte fallback, invalid bytes change the text of the bytes before them.
        return self._decode(self._ids[self._shown :])


class StopFilter:
    """Passes text on up to the first stop string, and holds back what may be the start of one."""

    def __init__(self, stops: Sequence[str], written: str = "") -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = self._possible(written)
        self.found: str | None = None  # the stop string that ended the text

    @property
    def stopped(self) -> bool:
        """Whether the text has reached a stop string."""
        return self.found is not None

    def push(self, text: str, *, looking: bool = True) -> str:
        """The text that may be shown now; "" after a stop string. A stop string that is complete in
        text which was pushed without `looking` does not count."""
        if self.stopped:
            return ""
        before, text = len(self._held), self._held + text
        self._held = ""
        stops = self._stops if looking else ()
        searched = ((stop, max(0, before - len(stop) + 1)) for stop in stops)
        places = [(at, stop) for stop, start in searched if (at := text.find(stop, start)) >= 0]
        if places:
            at, self.found = min(places)
            return text[:at]
        self._held = self._possible(text)
        return text[: len(text) - len(self._held)]

    @property
    def held(self) -> str:
        """The end of the text so far that may be the beginning of a stop string."""
        return self._held

    def flush(self) -> str:
        """At the end of an answer: the text that is still held back."""
        text, self._held = self._held, ""
        return text

    def _possible(self, text: str) -> str:
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return text[-size:]
        return ""
