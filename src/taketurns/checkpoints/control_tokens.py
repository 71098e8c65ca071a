"""Text that is spelled like a control token is ordinary text, unless a template wrote it.

A tokenizer reads `</s>` as its control token everywhere: in a question, in a model's text, in a
server's reply. `OrdinaryEncoder` tokenises it as text. A rendered prompt has both kinds, so the
query's are marked while it is rendered (`marked`), and `RenderedPrompt` has their places in the
rendered text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from taketurns.types import Query

_MARKS = tuple(map(chr, range(0x10FF00, 0x10FFFE)))  # characters for private use
_PROBES = ("a", "1", "\n")  # every tokenizer makes tokens of one of these
START = "\n"  # a text that no tokenizer joins with the word after it


class OrdinaryEncoder:
    """Encodes text with a transformers tokenizer, without making control tokens of it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def control_texts(self) -> tuple[str, ...]:
        """The texts of the control tokens, the longest first."""
        added = self._tokenizer.added_tokens_decoder.values()
        texts = {str(token.content) for token in added if token.special}
        return tuple(sorted({*texts, *self._tokenizer.all_special_tokens}, key=len, reverse=True))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds text that is spelled like a control token."""
        return re.compile("|".join(map(re.escape, self.control_texts)) or "(?!)")

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text, without control tokens; `special` adds the tokens that the tokenizer
        puts around a text."""
        ids = self._ids(self._tokenizer, text)
        if self._finds_control(ids, text):
            ids = self._ids(self._splitting, text)
            if self._finds_control(ids, text):
                ids = self._in_pieces(text)
        return self._surrounded(ids) if special else ids

    def encode_pair(self, first: str, second: str) -> list[int]:
        """The ids of a pair of texts, joined by the tokenizer; the texts are ordinary, as in
        `encode`."""
        plain = self.pattern.search(first + second) is None
        tokenizer = self._tokenizer if plain else self._splitting
        split = tokenizer.split_special_tokens
        return list(map(int, tokenizer(first, second, split_special_tokens=split)["input_ids"]))

    def encode_rendered(self, rendered: RenderedPrompt, special: bool = False) -> list[int]:
        """The ids of a prompt, with the control tokens that its template wrote; `special` as in
        `encode`."""
        if not rendered.quoted:
            return self._ids(self._tokenizer, rendered.text, special)
        ids: list[int] = []
        for text, control in self._parts(rendered):
            if control:
                ids.append(int(self._tokenizer.convert_tokens_to_ids(text)))
            else:
                ids += after(text, self.encode) if ids else self.encode(text)
        return self._surrounded(ids) if special else ids

    def _parts(self, rendered: RenderedPrompt) -> Iterator[tuple[str, bool]]:
        """The template's control tokens and the texts between them, each with whether it is a
        control token; spaces that belong to a token are removed from the text."""
        text, done = rendered.text, 0
        for match in self.pattern.finditer(text):
            if any(begin < match.end() and match.start() < end for begin, end in rendered.quoted):
                continue
            token = self._added.get(match.group())
            before = text[done : match.start()]
            if token is not None and token.lstrip:
                before = before.rstrip()
            if before:
                yield before, False
            yield match.group(), True
            done = match.end()
            if token is not None and token.rstrip:
                done += len(text[done:]) - len(text[done:].lstrip())
        if done < len(text):
            yield text[done:], False

    @cached_property
    def _added(self) -> dict[str, Any]:
        return {
            str(token.content): token for token in self._tokenizer.added_tokens_decoder.values()
        }

    def _finds_control(self, ids: Sequence[int], text: str) -> bool:
        """Whether a text's ids include a control token. The id of unknown words counts only if the
        text spells it: many tokenizers have no unknown words and use their end token as it."""
        name, unknown = self._tokenizer.unk_token, self._tokenizer.unk_token_id
        if name is not None and name in text:
            unknown = None
        return any(i in self.control_ids and i != unknown for i in ids)

    def _surrounded(self, ids: list[int]) -> list[int]:
        begin, end = self.ends
        return [*begin, *ids, *end]

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """The ids of the control tokens."""
        added = self._tokenizer.added_tokens_decoder
        marked = {int(i) for i, token in added.items() if token.special}
        return frozenset(marked | {int(i) for i in self._tokenizer.all_special_ids})

    @cached_property
    def ends(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after a text."""
        for text in _PROBES:
            plain = self._ids(self._tokenizer, text)
            whole = self._ids(self._tokenizer, text, special=True)
            for at in range(len(whole) if plain else 0):
                if whole[at : at + len(plain)] == plain:
                    return whole[:at], whole[at + len(plain) :]
        return [], []

    @cached_property
    def _splitting(self) -> Any:
        """A copy of the tokenizer that does not find control tokens. The setting holds for a whole
        tokenizer, which other threads may be using."""
        twin = deepcopy(self._tokenizer)
        twin.split_special_tokens = True
        return twin

    def _in_pieces(self, text: str) -> list[int]:
        """The ids for a vocabulary that has a control token's text as one piece: each such text is
        cut after its first character."""
        cuts = [match.start() + 1 for match in self.pattern.finditer(text)]
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        encode = partial(self._ids, self._splitting)
        return [*encode(pieces[0]), *(i for piece in pieces[1:] for i in after(piece, encode))]

    @staticmethod
    def _ids(tokenizer: Any, text: str, special: bool = False) -> list[int]:
        split = tokenizer.split_special_tokens
        ids = tokenizer.encode(
            text, add_special_tokens=special, split_special_tokens=split, verbose=False
        )
        return list(map(int, ids))


def after(text: str, encode: Callable[[str], list[int]]) -> list[int]:
    """The ids of a text that continues another one: without the space that some tokenizers put
    before a first word."""
    whole, start = encode(START + text), encode(START)
    return whole[len(start) :] if whole[: len(start)] == start else encode(text)


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt's text. The ranges `quoted` (begin, end in characters) are spelled like control
    tokens, but come from the query, so they are ordinary text."""

    text: str
    quoted: tuple[tuple[int, int], ...] = ()

    def followed_by(self, text: str, pattern: re.Pattern[str]) -> RenderedPrompt:
        """The prompt with further text that no template wrote; `pattern` finds control tokens'
        texts in it."""
        start = len(self.text)
        more = [(start + match.start(), start + match.end()) for match in pattern.finditer(text)]
        # A token's text that only begins in the prompt was not written by the template either.
        across = (match.span() for match in pattern.finditer(self.text + text))
        more += [(begin, end) for begin, end in across if begin < start < end]
        return RenderedPrompt(self.text + text, (*self.quoted, *more))


@dataclass(frozen=True, slots=True)
class Marks:
    """Two characters that surround quoted text while a template renders it."""

    begin: str
    end: str

    def around(self, pattern: re.Pattern[str], text: str) -> str:
        """The text with marks around what the pattern finds."""
        return pattern.sub(lambda match: f"{self.begin}{match.group()}{self.end}", text)

    def read(self, text: str) -> RenderedPrompt:
        """The rendered text without the marks."""
        kept: list[str] = []
        quoted: list[tuple[int, int]] = []
        length, begun = 0, None
        for piece in re.split(f"([{self.begin}{self.end}])", text):
            if piece == self.begin:
                begun = length
            elif piece == self.end:
                if begun is not None:  # else the template has cut the beginning off
                    quoted.append((begun, length))
                begun = None
            else:
                kept.append(piece)
                length += len(piece)
        return RenderedPrompt("".join(kept), tuple(quoted))


def marks_for(texts: Sequence[str], pattern: re.Pattern[str]) -> Marks | None:
    """Marks that none of the texts has; None where none of them spells a control token."""
    if not any(map(pattern.search, texts)):
        return None
    begin, end = [mark for mark in _MARKS if not any(mark in text for text in texts)][:2]
    return Marks(begin, end)


def marked(
    query: Query, pattern: re.Pattern[str], more: Sequence[str] = ()
) -> tuple[Query, Marks | None]:
    """The query with marks around each control token's text; the marks are None if there is
    none, in `more` texts of the same prompt neither."""
    marks = marks_for([*(turn.content for turn in query.conversation), *more], pattern)
    if marks is None:
        return query, None
    mark = partial(marks.around, pattern)
    if query.messages is None:
        return replace(query, text=mark(query.text or "")), marks
    turns = tuple(replace(turn, content=mark(turn.content)) for turn in query.messages)
    return replace(query, messages=turns), marks
