"""An answer while it is written: what each speaker reads next, and the text that may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

from taketurns.control import Rendered
from taketurns.engines.base import ModelInfo
from taketurns.errors import LengthError
from taketurns.prompts import encode_speaker, render_speaker
from taketurns.text import StopFilter, TextStream
from taketurns.types import Candidate, Patch, Query, Trace


@dataclass(frozen=True, slots=True)
class Reader:
    """A candidate and what its model is like."""

    candidate: Candidate
    info: ModelInfo

    def prompt(self, query: Query) -> Rendered:
        """What it continues before anything is written. Raises LengthError if it is too long."""
        return self.read(query)[0]

    def read(self, query: Query) -> tuple[Rendered, list[int]]:
        """That text and its token ids. Raises as `prompt` does."""
        text = render_speaker(self.candidate.spec, self.info.codec, query)
        ids = self.encode(text)
        if len(ids) + 1 > self.info.context:
            raise LengthError(
                f"the prompt has {len(ids)} tokens for {self.candidate.name}, "
                f"whose context has {self.info.context}",
                query.id,
            )
        return text, ids

    def encode(self, prompt: Rendered, written: str = "") -> list[int]:
        """The token ids of a prompt, and of what is written after it."""
        return encode_speaker(self.candidate.spec, self.info.codec, prompt, written)


class Draft:
    """The patches so far. Tokens are handed from speaker to speaker as ids where all tokenizers
    give ordinary tokens equal ids and whatever runs them tells the ids (`exact`), otherwise as
    exact text."""

    def __init__(self, query: Query, readers: Sequence[Reader], stops: Sequence[str]) -> None:
        self.query = query
        prints = {reader.info.codec.fingerprint for reader in readers}
        ids = all("token_ids" in reader.info.capabilities for reader in readers)
        self.exact = ids and len(prints) == 1
        self.patches: list[Patch] = []
        self.tokens = 0
        self.scores: tuple[float, ...] | None = None  # `Completion.scores`, of what is written now
        self._readers = tuple(readers)
        read = [reader.read(query) for reader in readers]
        self._prompts = [text for text, _ in read]
        self._prompt_ids = [ids for _, ids in read]
        self._special = frozenset().union(*(r.info.codec.special_ids for r in readers))
        self._ids: list[int] = []
        self._text = ""
        self._stops = StopFilter(stops)
        self._stream: TextStream | None = None

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt, before anything is written."""
        return max(map(len, self._prompt_ids))

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """Any speaker's end token ends the answer, where ids mean the same to all."""
        if not self.exact:
            return ()
        return tuple(sorted(frozenset().union(*(r.info.end_token_ids for r in self._readers))))

    @property
    def unfinished_stop(self) -> str:
        """The end of the text that may be the beginning of a stop string."""
        return self._stops.held

    @property
    def stopped(self) -> bool:
        """A stop string was met."""
        return self._stops.stopped

    @property
    def mid_character(self) -> bool:
        """The tokens so far end inside a character."""
        return self._stream is not None and self._stream.pending

    def room(self, speaker: int) -> int:
        """How many more tokens fit the speaker's context."""
        return self._readers[speaker].info.context - len(self.prompt(speaker))

    def prompt(self, speaker: int) -> list[int]:
        """What the speaker continues: its own prompt and the answer so far."""
        if self.exact:
            return self._prompt_ids[speaker] + self._ids
        return self._readers[speaker].encode(self._prompts[speaker], self._text)

    def start_patch(self, speaker: int) -> None:
        """The speaker's tokens follow."""
        self.scores = None
        if self._stream is None or not self.exact:
            self._stream = self.stream(speaker)

    def stream(self, speaker: int) -> TextStream:
        """Decodes what the speaker writes next."""
        return self._readers[speaker].info.codec.stream(self.prompt(speaker))

    def read(self, token_ids: Sequence[int], text: str | None = None) -> str:
        """Take in written tokens; returns the text that may be shown now."""
        assert self._stream is not None, "start_patch() before read()"
        self.tokens += len(token_ids)
        ordinary = [token for token in token_ids if token not in self._special]
        self._ids += ordinary
        whole = self._stream.push(*ordinary) if text is None else text
        self._text += whole
        return self._stops.push(whole)

    def spell(self, speaker: int, text: str) -> list[int]:
        """The tokens that the speaker's tokenizer makes of a text."""
        return self._readers[speaker].info.codec.encode(text) if text else []

    def force(self, speaker: int, text: str) -> Patch:
        """Put text that nobody wrote into the answer; it is not part of the budget."""
        ids = self._readers[speaker].info.codec.encode_after(text)
        shown = self.end()
        self._stream = None
        self.scores = None
        self._ids += ids
        self._text += text
        patch = Patch(None, tuple(ids), shown + text, "length", "forced")
        self.patches.append(patch)
        return patch

    def resume(self, patches: Sequence[Patch]) -> None:
        """Take up an answer of which these patches are written, as if it had been written here."""
        for patch in patches:
            self.tokens += len(patch.token_ids) if patch.speaker is not None else 0
            self._ids += [token for token in patch.token_ids if token not in self._special]
            self._text += patch.text
            self._stops.push(patch.text)
            self.patches.append(patch)

    def replay(self, patch: Patch, tokens: int) -> None:
        """Take up the first `tokens` tokens of a speaker's patch, and as many more as finish a
        character where the next speaker can only be given whole ones."""
        assert patch.speaker is not None, "nobody wrote a forced patch"
        self.start_patch(patch.speaker)
        taken, text = 0, ""
        for token in patch.token_ids:
            if taken >= tokens and (self.exact or not self.mid_character):
                break
            text += self.read((token,))
            taken += 1
        self.patches.append(
            replace(patch, token_ids=patch.token_ids[:taken], text=text, finish="length")
        )

    def end(self) -> str:
        """No more tokens: the text that was held back after all."""
        rest = self._stream.flush() if self._stream is not None else ""
        self._text += rest
        return self._stops.push(rest) + self._stops.flush()

    def copy(self) -> Draft:
        """A draft that goes on from here by itself."""
        twin = copy(self)
        twin.patches, twin._ids = list(self.patches), list(self._ids)
        twin._stops = copy(self._stops)
        twin._stream = None if self._stream is None else self._stream.copy()
        return twin

    def called(self, identifier: str) -> Draft:
        """A copy for the same query by another id, which decides the draws."""
        twin = self.copy()
        twin.query = replace(self.query, id=identifier)
        return twin

    def back_to(self, earlier: Draft) -> None:
        """Undo all that was written since `earlier` was copied from this."""
        vars(self).update(vars(earlier.copy()))

    def trace(self, seed: int, error: str | None = None) -> Trace:
        """The record of what has been written."""
        return Trace(self.query, tuple(self.patches), seed, self.exact, error)
