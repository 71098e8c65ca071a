"""One answer while it is written: who speaks next, what they write, and when it is over.

`Answer.turn` is the method: the rules speak first, then the switcher; the speaker is drawn from the
top of its distribution and continues the answer as its own. The answer ends when its speaker ends
it, at a stop string, or when the budget is spent. A fork goes on from here with draws of its own.

Where no server of the speaker's model answers any more, whoever is next in the switcher's favour
stands in. What the speaker had given out is a patch of its own, so nothing is repeated or lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

from taketurns import patches
from taketurns.draft import Draft
from taketurns.engines.base import Session, SharingSession
from taketurns.errors import EngineError, UnavailableError
from taketurns.policy import Policy
from taketurns.seeds import derive, generator
from taketurns.switchers import Decide, pick
from taketurns.types import HANDED_OVER, Delta, Finish, Patch, Reason, Timing
from taketurns.writer import Emit, PatchWriter, tell


@dataclass(frozen=True, slots=True)
class _Turn:
    speaker: int
    reason: Reason
    probabilities: tuple[float, ...] | None = None
    seconds: float = 0.0


class Answer:
    """Writes onto `draft` within `session`. `models` are the candidates' names by index, `begin`
    asks the switcher to start, `seed` decides who is drawn. `emit` sees the answer as it is
    written, with `logprobs` as in `Sampling`. Without `stand_ins` the answer fails where
    its speaker does."""

    def __init__(
        self,
        models: Sequence[str],
        session: Session,
        draft: Draft,
        begin: Callable[[], Decide],
        policy: Policy,
        seed: int,
        emit: Emit | None = None,
        logprobs: int | None = None,
        stand_ins: bool = True,
    ) -> None:
        self.draft = draft
        self.ended = False
        self._models = models
        self._session = session
        self._begin = begin
        self._decide = begin()
        self._policy = policy
        self._speakers = generator(seed)
        self._emit = emit
        self._logprobs = logprobs
        self._stand_ins = stand_ins
        self._closing = False
        self._most = policy.longest

    @property
    def text(self) -> str:
        """What has been written."""
        return "".join(patch.text for patch in self.draft.patches)

    async def write(self) -> None:
        """Take turns until the answer ends. Raises EngineError; the draft keeps what was
        written."""
        while not self.ended:
            await self.turn()

    async def turn(self, speaker: int | None = None, tokens: int | None = None) -> Patch:
        """Let the next speaker write a patch: the one who is due, or the given one, for whom nobody
        stands in. It has at most `tokens` tokens, or as many as the policy allows."""
        due = await self._choose() if speaker is None else _Turn(speaker, "chosen")
        closes = due.reason == "closing"
        self._most = self._length(closes) if tokens is None else tokens
        tried: tuple[int, ...] = ()
        while True:
            try:
                patch = await self._speak(due)
                break
            except UnavailableError:
                tried += (due.speaker,)
                if speaker is not None or not self._stand_ins or len(tried) == len(self._models):
                    raise
                due = await self._stand_in(due, tried)
        if patch.finish not in HANDED_OVER:
            self._closing = (
                self._policy.closing_on_end
                and patch.finish == "stop"
                and not self.draft.stopped
                and not closes
                and due.speaker != self._policy.closing
            )
        over = patch.finish not in HANDED_OVER and not self._closing
        self.ended = over or self.draft.tokens >= self._policy.max_tokens
        return patch

    def _length(self, closes: bool) -> int:
        """The most tokens that the next patch may have, if the budget allows."""
        rule = self._policy.patch
        if rule is not None and rule.until == "random" and not closes:
            return rule.draw(self._speakers.random())
        return self._policy.longest

    async def _choose(self) -> _Turn:
        """Who writes the next patch: the rules first, then the switcher."""
        policy, draft = self._policy, self.draft
        uniform = self._speakers.random()  # one a turn, whether it is asked for or not
        last = policy.max_tokens - draft.tokens <= policy.longest
        if policy.closing is not None and (self._closing or last):
            return _Turn(policy.closing, "closing")
        if policy.opening is not None and not draft.patches:
            return _Turn(policy.opening, "opening")
        begun = perf_counter()
        probabilities = await self._decide(self._session, draft)
        if policy.greedy_switcher:
            speaker = max(range(len(probabilities)), key=probabilities.__getitem__)
        else:
            speaker = pick(probabilities, policy.top_p, uniform)
        return _Turn(speaker, "chosen", probabilities, perf_counter() - begun)

    async def _stand_in(self, turn: _Turn, tried: Sequence[int]) -> _Turn:
        """The most probable of those who have not been tried. Nothing is drawn for it, so later
        turns are drawn as they would have been."""
        begun = perf_counter()
        probabilities = turn.probabilities or await self._decide(self._session, self.draft)
        left = [index for index in range(len(self._models)) if index not in tried]
        speaker = max(left, key=probabilities.__getitem__)
        return _Turn(speaker, "fallback", probabilities, perf_counter() - begun)

    async def _speak(self, turn: _Turn) -> Patch:
        """Let the chosen speaker write one patch onto the draft. Raises EngineError when its model
        fails; what it has given out by then is on the draft."""
        policy, draft, speaker = self._policy, self.draft, turn.speaker
        if turn.reason == "closing" and policy.closing_cue is not None:
            forced = draft.force(speaker, policy.closing_cue)
            tell(self._emit, Delta(None, forced.text), forced)
        begun = perf_counter()
        writer = PatchWriter(
            self._session, self._models[speaker], draft, speaker, self._emit, self._logprobs
        )
        wanted = min(self._most, policy.max_tokens - draft.tokens)
        watch = None
        if policy.patch is not None and turn.reason != "closing":
            watch = patches.watch(policy.patch, self._decide, draft, speaker)
        try:
            finish = await writer.write(wanted, policy, watch)
        except EngineError:
            if writer.token_ids or writer.text:
                writer.finish("")
                self._record(writer, turn, "error", begun)
            raise
        last = finish not in HANDED_OVER or draft.tokens >= policy.max_tokens
        writer.finish(draft.end() if last else "")
        return self._record(writer, turn, finish, begun)

    def _record(self, writer: PatchWriter, turn: _Turn, finish: Finish, begun: float) -> Patch:
        patch = Patch(
            speaker=turn.speaker,
            token_ids=tuple(writer.token_ids),
            text=writer.text,
            finish=finish,
            reason=turn.reason,
            probabilities=turn.probabilities,
            timing=Timing(turn.seconds, perf_counter() - begun),
        )
        self.draft.patches.append(patch)
        tell(self._emit, patch)
        return patch

    @asynccontextmanager
    async def fork(self, seed: int, draft: Draft | None = None) -> AsyncIterator[Answer]:
        """The same answer with draws of its own, going on from here or from an earlier `draft` of
        it. What the models have read of it is shared. A fork is a sample: nobody stands in for a
        speaker that fails in it."""
        draft = (draft or self.draft).copy()
        async with self._session.fork(derive(seed, "tokens")) as session:
            speakers = derive(seed, "speakers")
            yield Answer(
                self._models,
                session,
                draft,
                self._begin,
                self._policy,
                speakers,
                stand_ins=False,
            )

    async def read(self) -> None:
        """Let every candidate and the switcher read what is written, so that no fork has to."""
        if isinstance(self._session, SharingSession):
            await asyncio.gather(
                *(
                    self._session.read(model, self.draft.prompt(index))
                    for index, model in enumerate(self._models)
                    if self.draft.room(index) > 0
                ),
                self._begin()(self._session, self.draft),
            )
