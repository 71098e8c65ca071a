"""The hand-over of the answer so far to the next speaker: as token ids, or as exact text.

Ids are handed over if all speakers share a vocabulary and the engine gives the ids that it wrote.
Otherwise each speaker's ids are decoded by that speaker's own tokenizer, and only the text is
handed over: no tokenizer ever reads ids of another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

from taketurns.checkpoints.control_tokens import RenderedPrompt
from taketurns.checkpoints.prompts import AS_USUAL, Rendering, encode_speaker, render_speaker
from taketurns.checkpoints.text import SharedVocabulary, TextStream
from taketurns.engines.base import ModelInfo
from taketurns.errors import LengthError
from taketurns.types import Candidate, Patch, Query

_CHARACTERS = 8  # per token, for a text that is encoded at once; ordinary tokens have 3 to 5
_CUT = 256  # at most so many tokens more if a text is cut inside a token


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A speaker's prompt before anything is written, as text and as token ids."""

    rendered: RenderedPrompt
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """How a query becomes a prompt: chat templates by `rendering`, or `token_ids` as they are, of
    which the query has the text. They are of the one candidate there is."""

    rendering: Rendering = AS_USUAL
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class CandidateRuntime:
    """A candidate with the facts about its model."""

    candidate: Candidate
    info: ModelInfo

    def prompt(self, query: Query, how: PromptOptions | None = None) -> EncodedPrompt:
        """The prompt for a query. Raises LengthError if it is too long."""
        how = how or PromptOptions()
        if how.token_ids is not None:
            text, ids = RenderedPrompt(query.text or ""), list(how.token_ids)
        else:
            text = render_speaker(self.candidate.spec, self.info.codec, query, how.rendering)
            self._check_beginning(text.text, query)
            ids = self.encode(text)
        if len(ids) + 1 > self.info.context:
            raise self._too_long(f"{len(ids)}", query)
        return EncodedPrompt(text, tuple(ids))

    def _check_beginning(self, text: str, query: Query) -> None:
        """Raise LengthError for a text whose beginning alone is too long. Encoding a text takes
        hundreds of times its size in memory. So an unusually long text for this context is encoded
        from its beginning, in pieces of doubling length."""
        size, context = _CHARACTERS * self.info.context, self.info.context
        while size < len(text):
            tokens = len(self.info.codec.encode(text[:size])) - _CUT
            if tokens > context:
                raise self._too_long(f"more than {tokens}", query)
            size *= 2

    def _too_long(self, tokens: str, query: Query) -> LengthError:
        return LengthError(
            f"the prompt has {tokens} tokens for {self.candidate.name}, but its context has "
            f"{self.info.context}: shorten the query",
            query.id,
        )

    def encode(self, prompt: RenderedPrompt, written: str = "") -> list[int]:
        """The token ids of a prompt and of the answer `written` after it."""
        return encode_speaker(self.candidate.spec, self.info.codec, prompt, written)


class Handover(ABC):
    """The answer so far, in the form that each speaker reads. `exact`: as token ids."""

    exact: bool
    special = False  # control tokens that are written are part of the answer

    def __init__(
        self, readers: Sequence[CandidateRuntime], prompts: Sequence[EncodedPrompt]
    ) -> None:
        self._readers = tuple(readers)
        self._prompts = tuple(prompts)
        self._speaker = 0
        self._stream: TextStream | None = None

    @abstractmethod
    def prompt(self, speaker: int) -> list[int]:
        """The ids that a speaker continues: its own prompt and the answer so far."""

    @abstractmethod
    def begin(self, speaker: int) -> None:
        """Start a patch of this speaker."""

    @abstractmethod
    def continued(self) -> list[int]:
        """The ids that the speaker continues within its patch. Its part of the patch is in the
        tokens that it wrote, which may end inside a character."""

    @abstractmethod
    def take(self, token_ids: Sequence[int]) -> str:
        """Add tokens of the speaker. Returns the text that they complete."""

    @abstractmethod
    def take_text(self, text: str) -> None:
        """Add text of a speaker whose engine gives no ids."""

    @abstractmethod
    def force(self, speaker: int, text: str) -> tuple[int, ...]:
        """Add text that no candidate wrote. Returns its token ids if ids are handed over."""

    @abstractmethod
    def resume(self, patches: Sequence[Patch]) -> None:
        """Add patches that this team wrote before."""

    def answer_start(self, ids: Sequence[int]) -> int:
        """Where the answer begins in `ids` that the speaker continues: after its prompt, as far as
        it reads that as it would alone."""
        prompt = self._prompts[self._speaker].ids
        if tuple(ids[: len(prompt)]) == prompt:
            return len(prompt)
        pairs = zip(ids, prompt, strict=False)
        return next(at for at, (one, other) in enumerate(pairs) if one != other)

    @property
    @abstractmethod
    def written(self) -> bytes:
        """The answer so far, unfinished characters included, before the patch under way."""

    @property
    def pending(self) -> bool:
        """Whether the tokens so far end inside a character."""
        return self._stream is not None and self._stream.pending

    def flush(self) -> str:
        """End the patch's tokens. Returns the whole characters that were held back."""
        return self._stream.flush() if self._stream is not None else ""

    def copy(self) -> Self:
        """An independent copy."""
        twin = copy(self)
        twin._stream = None if self._stream is None else self._stream.copy()
        return twin


def handover(
    readers: Sequence[CandidateRuntime],
    prompts: Sequence[EncodedPrompt],
    *,
    special: bool = False,
) -> Handover:
    """By ids if they mean the same to all readers and their engine gives them, else by text.
    `special` makes written control tokens part of the answer, if there is one reader."""
    vocabulary = SharedVocabulary.of(reader.info.codec for reader in readers)
    by_ids = all("token_ids" in reader.info.capabilities for reader in readers)
    if vocabulary is not None and by_ids:
        return IdHandover(vocabulary, readers, prompts, special=special)
    return TextHandover(readers, prompts)


class IdHandover(Handover):
    """Hands over ordinary token ids; nothing is tokenised twice."""

    exact = True

    def __init__(
        self,
        vocabulary: SharedVocabulary,
        readers: Sequence[CandidateRuntime],
        prompts: Sequence[EncodedPrompt],
        *,
        special: bool = False,
    ) -> None:
        super().__init__(readers, prompts)
        self.special = special
        self._vocabulary = vocabulary
        self._ids: list[int] = []

    def prompt(self, speaker: int) -> list[int]:
        return [*self._prompts[speaker].ids, *self._ids]

    @property
    def written(self) -> bytes:
        tokens = self._readers[0].info.codec.grammar_vocabulary.tokens
        return b"".join(tokens[token] for token in self._ids)

    def continued(self) -> list[int]:
        return self.prompt(self._speaker)

    def begin(self, speaker: int) -> None:
        self._speaker = speaker
        if self._stream is None:
            codec = self._readers[speaker].info.codec
            self._stream = codec.stream(self.prompt(speaker), special=self.special)

    def take(self, token_ids: Sequence[int]) -> str:
        assert self._stream is not None, "begin() before take()"
        ids = self._kept(token_ids)
        self._ids += ids
        return self._stream.push(*ids)

    def _kept(self, token_ids: Sequence[int]) -> list[int]:
        """Those that are part of the answer."""
        if not self.special:
            return self._vocabulary.ordinary(token_ids)
        (codec,) = (reader.info.codec for reader in self._readers)
        known = self._vocabulary.ordinary_ids
        return [token for token in token_ids if token in known or codec.is_control(token)]

    def take_text(self, text: str) -> None:
        raise AssertionError("ids are handed over, and an engine gave text without them")

    def force(self, speaker: int, text: str) -> tuple[int, ...]:
        ids = self._readers[speaker].info.codec.encode_after(text)
        self._stream = None
        self._ids += ids
        return tuple(ids)

    def resume(self, patches: Sequence[Patch]) -> None:
        for patch in patches:
            if patch.text and not patch.token_ids:  # forced where text was handed over
                self._ids += self._readers[0].info.codec.encode_after(patch.text)
            self._ids += self._kept(patch.token_ids)

    def copy(self) -> Self:
        twin = super().copy()
        twin._ids = list(self._ids)
        return twin


class TextHandover(Handover):
    """Hands over text. Each speaker reads all of it, its own patches included, in its own tokens;
    its own tokenizer decodes what it writes."""

    exact = False

    def __init__(
        self, readers: Sequence[CandidateRuntime], prompts: Sequence[EncodedPrompt]
    ) -> None:
        super().__init__(readers, prompts)
        self._text = ""
        self._under_way: list[int] | None = None  # ids that the speaker read and wrote in its patch
        self._read: dict[int, tuple[str, list[int]]] = {}  # the text that each read last, and ids

    def prompt(self, speaker: int) -> list[int]:
        if not self._text:
            return list(self._prompts[speaker].ids)
        text, ids = self._read.get(speaker, ("", []))
        if text != self._text:  # a patch asks several times, and encoding a long text is slow
            ids = self._readers[speaker].encode(self._prompts[speaker].rendered, self._text)
            self._read[speaker] = self._text, ids
        return list(ids)

    @property
    def written(self) -> bytes:
        return self._text.encode("utf-8", "ignore")

    def continued(self) -> list[int]:
        return self.prompt(self._speaker) if self._under_way is None else list(self._under_way)

    def begin(self, speaker: int) -> None:
        self._speaker = speaker
        self._under_way = self.prompt(speaker)
        self._stream = self._readers[speaker].info.codec.stream(self._under_way)

    def take(self, token_ids: Sequence[int]) -> str:
        assert self._stream is not None, "begin() before take()"
        assert self._under_way is not None, "a speaker's text came with ids and without"
        self._under_way += token_ids
        whole = self._stream.push(*token_ids)
        self._text += whole
        return whole

    def take_text(self, text: str) -> None:
        self._under_way = None
        self._text += text

    def force(self, speaker: int, text: str) -> tuple[int, ...]:
        self._stream = self._under_way = None
        self._text += text
        return ()

    def resume(self, patches: Sequence[Patch]) -> None:
        self._text += "".join(patch.text for patch in patches)

    def flush(self) -> str:
        rest = super().flush()
        self._text += rest
        return rest

    def copy(self) -> Self:
        twin = super().copy()
        twin._read = dict(self._read)
        twin._under_way = None if self._under_way is None else list(self._under_way)
        return twin
