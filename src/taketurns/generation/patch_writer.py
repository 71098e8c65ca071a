"""Writing one patch: the selected speaker continues the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from taketurns.config.policy import Policy
from taketurns.engines.base import Session
from taketurns.errors import EngineError
from taketurns.generation.sampling_options import PLAIN, patch_options
from taketurns.generation.state import GenerationState
from taketurns.types import (
    HANDED_OVER,
    Delta,
    Finish,
    Patch,
    Sampling,
    StoppingCriterion,
    Token,
    TokenConstraint,
)

_CHARACTER_TOKENS = 3  # to finish a character, because UTF-8 has at most four bytes for one

Emit = Callable[[Delta | Patch], None]
"""Receives an answer's events while it is written."""


@dataclass(eq=False)
class PatchWriter:
    """Collects the tokens and the text of a patch while `speaker`, with the model `model`, writes.
    `emit` receives them; `logprobs`, `choices` and `correction` are as in `Sampling`."""

    session: Session
    model: str
    state: GenerationState
    speaker: int
    emit: Emit | None
    logprobs: int | None = None
    choices: tuple[int, ...] = ()
    correction: object = None
    token_ids: list[int] = field(default_factory=list, init=False)
    text: str = field(default="", init=False)
    _unshown: list[Token] = field(default_factory=list, init=False)
    _streamed_text: str = field(default="", init=False)
    _constraint: TokenConstraint | None = field(default=None, init=False)

    async def write(
        self, wanted: int, policy: Policy, criterion: StoppingCriterion | None = None
    ) -> Finish:
        """Write up to `wanted` tokens, or until `criterion` ends the patch. If text is handed over
        and the patch ends inside a character, write the tokens that finish it, if the budget allows
        them. Returns why the patch ended."""
        self._constraint = self.state.constraint(self.speaker)
        self.state.start_patch(self.speaker)
        room = self.state.room(self.speaker)
        if room <= 0:
            return "context"
        finish = await self._generate(min(wanted, room), policy, criterion)
        if finish not in HANDED_OVER:
            return finish
        for _ in range(0 if self.state.exact else _CHARACTER_TOKENS):
            left = min(room - len(self.token_ids), policy.max_tokens - self.state.tokens)
            if not self.state.mid_character or left <= 0:
                break
            if (more := await self._generate(1, policy)) != "length":
                return more
        return "context" if room < wanted and finish == "length" else finish

    async def _generate(
        self, tokens: int, policy: Policy, criterion: StoppingCriterion | None = None
    ) -> Finish:
        prompt = self.state.continued()
        options = patch_options(policy.sampling, self.state.tokens)
        sampling = Sampling(
            max_tokens=tokens,
            temperature=policy.temperature,
            top_p=policy.speaker_top_p,
            stop=policy.stop,
            written=self.state.unfinished_stop,
            stop_token_ids=self.state.end_token_ids,
            logprobs=self.logprobs,
            choices=self.choices,
            stopping=criterion,
            constraint=self._constraint,
            options=options,
            answer_start=None if options is PLAIN else self.state.answer_start(prompt),
            correction=self.correction,
        )
        before = len(self.token_ids)
        on_token = self._take if self.emit is not None else None
        self._streamed_text = ""
        try:
            completion = await self.session.generate(self.model, prompt, sampling, on_token)
        except EngineError:
            self._retokenize(self._streamed_text)
            raise
        if completion.text is None:
            seen = len(self.token_ids) - before
            self._take_tokens([Token(i) for i in completion.token_ids[seen:]])
        else:
            self._take_text(completion.text[len(self._streamed_text) :])
            self._retokenize(completion.text)
        self.state.scores, self.state.end_token = completion.scores, completion.end
        if completion.scores is not None:
            # If a token is not handed over (a control token), the scores belong to another text
            # than the answer.
            read = self.state.prompt(self.speaker)
            if read != [*prompt, *completion.token_ids]:
                self.state.scores = None
        declined = criterion is not None and completion.finish == criterion.finish
        if len(self.token_ids) == before and completion.finish in HANDED_OVER and not declined:
            return "stop"  # else a server that writes nothing would be asked endlessly
        return "stop" if self.state.stopped else completion.finish

    def _take(self, token: Token) -> None:
        if token.id is not None:
            self._take_tokens((token,))
        elif token.text:
            self._take_text(token.text)

    def _take_text(self, text: str) -> None:
        """Add text from a server without token ids."""
        self._streamed_text += text
        if shown := self.state.read_text(text):
            self._show(shown)

    def _retokenize(self, text: str) -> None:
        """Count a streamed text in the tokens of the speaker's tokenizer."""
        ids = self.state.spell(self.speaker, text)
        self.token_ids += ids
        self._unshown += map(Token, ids)
        self.state.count(len(ids))

    def _take_tokens(self, tokens: Sequence[Token]) -> None:
        token_ids = [token.id for token in tokens if token.id is not None]
        self.token_ids += token_ids
        self._unshown += tokens
        if text := self.state.read(token_ids):
            self._show(text)

    def finish(self, text: str) -> None:
        """End the patch: show `text`, which was held back, and tokens without text."""
        if text or self._unshown:
            self._show(text)

    def _show(self, text: str) -> None:
        self.text += text
        emit_events(self.emit, Delta(self.speaker, text, tuple(self._unshown)))
        self._unshown.clear()


def emit_events(emit: Emit | None, *events: Delta | Patch) -> None:
    """Pass events to `emit`, if there is one."""
    if emit is not None:
        for event in events:
            emit(event)
