"""The state of one answer: what each speaker reads next, and the text that may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from taketurns.checkpoints.text import StopFilter, TextStream
from taketurns.generation.formats.state import FormatState
from taketurns.generation.handover import CandidateRuntime, PromptOptions, handover
from taketurns.types import Patch, Query, SamplingOptions, Token, TokenConstraint, Trace


class GenerationState:
    """The patches so far and their hand-over to the next speaker: as token ids if `exact`, else as
    exact text (`handover`). `format_state` is the answer's place in its format, if it has one.
    `prompts` says how the query becomes prompts; `options` are the policy's sampling options, some
    of which concern the text."""

    def __init__(
        self,
        query: Query,
        readers: Sequence[CandidateRuntime],
        stops: Sequence[str],
        format_state: FormatState | None = None,
        *,
        prompts: PromptOptions | None = None,
        options: SamplingOptions | None = None,
    ) -> None:
        self.query = query
        options = options or SamplingOptions()
        self.patches: list[Patch] = []
        self.tokens = 0
        self.declined: frozenset[int] = frozenset()  # `GenerationView.declined`
        self.scores: tuple[float, ...] | None = None  # `Completion.scores` after the last token
        self.end_token: Token | None = None  # `Completion.end`, of the last that was written
        self._readers = tuple(readers)
        encoded = [reader.prompt(query, prompts) for reader in readers]
        self._longest_prompt = max(len(prompt.ids) for prompt in encoded)
        special = not options.skip_special_tokens
        self._written = handover(self._readers, encoded, special=special)
        self._stops = StopFilter(stops)
        self._min_tokens = options.min_tokens
        self._format = format_state

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates' names, by index."""
        return tuple(reader.candidate.name for reader in self._readers)

    @property
    def text(self) -> str:
        """The text written so far."""
        return "".join(patch.text for patch in self.patches)

    @property
    def exact(self) -> bool:
        """Token ids are handed over, not text."""
        return self._written.exact

    @property
    def longest_prompt(self) -> int:
        """The length of the longest prompt in tokens, before anything is written."""
        return self._longest_prompt

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The end tokens of all speakers, if ids are handed over: each of them ends the answer.
        Only control tokens count, because an ordinary token that ends one model's text is text to
        the others."""
        if not self.exact:
            return ()
        infos = [reader.info for reader in self._readers]
        ends = {i for info in infos for i in info.end_token_ids if info.codec.is_control(i)}
        return tuple(sorted(ends))

    @property
    def unfinished_stop(self) -> str:
        """The end of the text that may be the beginning of a stop string."""
        return self._stops.held

    @property
    def stopped(self) -> bool:
        """Whether the text has reached a stop string."""
        return self._stops.stopped

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the text."""
        return self._stops.found

    @property
    def mid_character(self) -> bool:
        """Whether the tokens so far end inside a character."""
        return self._written.pending

    def continued(self) -> list[int]:
        """The token ids that the speaker continues within its current patch."""
        return self._written.continued()

    def answer_start(self, ids: Sequence[int]) -> int:
        """Where the answer begins in `ids`, which the speaker of the patch continues."""
        return self._written.answer_start(ids)

    def room(self, speaker: int) -> int:
        """The number of tokens that still fit the speaker's context."""
        return self._readers[speaker].info.context - len(self.prompt(speaker))

    def prompt(self, speaker: int) -> list[int]:
        """The token ids that the speaker continues: its own prompt and the answer so far."""
        return self._written.prompt(speaker)

    def start_patch(self, speaker: int) -> None:
        """Start a patch of this speaker."""
        self.scores = None
        self._written.begin(speaker)

    def decline(self, speaker: int) -> None:
        """The speaker was asked and its patch ended before its first token."""
        self.declined |= {speaker}

    def constraint(self, speaker: int) -> TokenConstraint | None:
        """The constraint on the speaker's next patch; None without a format. Raises FormatError if
        the answer so far is not in its format."""
        if self._format is None:
            return None
        return self._format.constraint(speaker, self._written.written)

    def stream(self, speaker: int) -> TextStream:
        """A stream that decodes the speaker's next tokens."""
        return self._readers[speaker].info.codec.stream(self.prompt(speaker))

    def read(self, token_ids: Sequence[int]) -> str:
        """Add tokens that the speaker wrote. Returns the text that may be shown now."""
        if token_ids:
            self.declined = frozenset()
        if self.tokens < self._min_tokens:  # where stop strings end nothing yet
            unstopped, token_ids = self._split(token_ids)
            self.tokens += len(unstopped)
            shown = self._stops.push(self._written.take(unstopped), looking=False)
            return shown + (self.read(token_ids) if token_ids else "")
        self.tokens += len(token_ids)
        return self._stops.push(self._written.take(token_ids))

    def _split(self, token_ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Tokens of the answer before it has as many as it must have, and those after."""
        left = self._min_tokens - self.tokens
        return token_ids[:left], token_ids[left:]

    def read_text(self, text: str) -> str:
        """Add text that the speaker wrote, if its tokens are unknown. Returns the text that may be
        shown now."""
        self.declined = frozenset()
        self._written.take_text(text)
        return self._stops.push(text)

    def count(self, tokens: int) -> None:
        """Count `tokens` tokens for text that was added without them."""
        self.tokens += tokens

    def spell(self, speaker: int, text: str) -> list[int]:
        """The token ids of a text in the speaker's tokenizer."""
        return self._readers[speaker].info.codec.encode(text) if text else []

    def force(self, speaker: int, text: str) -> Patch:
        """Add text that no candidate wrote; it does not count against the budget. If text is handed
        over, the patch has no token ids, because ids belong to one tokenizer."""
        shown = self.end()
        self.scores, self.declined = None, frozenset()
        ids = self._written.force(speaker, text)
        patch = Patch(None, ids, shown + text, "length", "forced")
        self.patches.append(patch)
        return patch

    def resume(self, patches: Sequence[Patch]) -> None:
        """Add patches that were written before, as if they had been written here."""
        self._written.resume(patches)
        for patch in patches:
            self.tokens += len(patch.token_ids) if patch.speaker is not None else 0
            early = self._min_tokens > 0 and self.tokens <= self._min_tokens
            self._stops.push(patch.text, looking=not early)
            self.patches.append(patch)

    def replay(self, patch: Patch, tokens: int) -> None:
        """Add the first `tokens` tokens of a speaker's patch. If text is handed over, also add the
        tokens that finish a character."""
        assert patch.speaker is not None, "no candidate wrote a forced patch"
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
        """End the tokens. Returns the text that was held back."""
        return self._stops.push(self._written.flush()) + self._stops.flush()

    def copy(self) -> GenerationState:
        """An independent copy."""
        twin = copy(self)
        twin.patches = list(self.patches)
        twin._stops = copy(self._stops)
        twin._written = self._written.copy()
        twin._format = None if self._format is None else self._format.copy()
        return twin

    def called(self, identifier: str) -> GenerationState:
        """A copy whose query has another id; the id determines the draws."""
        twin = self.copy()
        twin.query = replace(self.query, id=identifier)
        return twin

    def restore(self, earlier: GenerationState) -> None:
        """Undo everything written since `earlier` was copied from this state."""
        vars(self).update(vars(earlier.copy()))

    def trace(self, seed: int, error: str | None = None) -> Trace:
        """The trace of the answer so far."""
        return Trace(self.query, tuple(self.patches), seed, self.exact, error)
