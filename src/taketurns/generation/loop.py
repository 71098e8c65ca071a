"""One answer while it is written: who speaks next, what they write, and when it is over.

`GenerationLoop.write` is the loop and `GenerationLoop.step` a round of it: the rules speak first,
then the switcher (`_select`); the speaker is drawn from the top of its distribution and continues
the answer as its own (`_speak`). The answer ends when its speaker ends it, at a stop string, or
when the budget is spent (`_conclude`). A fork goes on from here with draws of its own.

A guard checks each patch before any of it is given out. One that fails is thrown away and the
guard's fallback candidate writes in its place; if that fails too, the answer ends without it.

Where no server of the speaker's model answers any more, or the model computes NaN for the next
token, the most probable of the other candidates stands in. What the speaker had given out is a
patch of its own, so nothing is repeated or lost. A switcher that gives NaN ends the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import InitVar, dataclass, replace
from time import perf_counter

from taketurns.config.policy import Policy
from taketurns.engines.base import Session, SharingSession
from taketurns.errors import (
    ConfigError,
    EngineError,
    FormatError,
    NotANumberError,
    UnavailableError,
)
from taketurns.generation import stopping
from taketurns.generation.guards import GuardCheck
from taketurns.generation.patch_writer import Emit, PatchWriter, emit_events
from taketurns.generation.state import GenerationState
from taketurns.switchers.base import Decide, ask
from taketurns.switchers.sampling import normalise, pick
from taketurns.types import HANDED_OVER, Delta, Finish, Patch, Reason, RejectedPatch, Timing
from taketurns.utils.seeds import derive, generator

_ROUNDING = 1e-9  # 0.3 of 10 tokens is 3


@dataclass(frozen=True, slots=True)
class _Selection:
    speaker: int
    reason: Reason
    probabilities: tuple[float, ...] | None = None
    seconds: float = 0.0


@dataclass(kw_only=True, eq=False)
class GenerationLoop:
    """Writes onto `state` within `session`. `models` are the candidates' names by index, `begin`
    starts the switcher, `seed` decides who is drawn. `emit` sees the answer as it is written, with
    `logprobs` as in `Sampling`; `check` is there exactly where the policy has a guard; `choices`
    are the tokens whose log-probabilities after each patch the switcher decides by, if it does;
    `begun` is what `begin` gave, where it was called elsewhere. Without `stand_ins` the answer
    fails where its speaker does."""

    models: Sequence[str]
    session: Session
    state: GenerationState
    begin: Callable[[], Decide]
    policy: Policy
    seed: InitVar[int]
    emit: Emit | None = None
    logprobs: int | None = None
    check: GuardCheck | None = None
    stand_ins: bool = True
    choices: tuple[int, ...] = ()
    begun: InitVar[Decide | None] = None

    def __post_init__(self, seed: int, begun: Decide | None) -> None:
        self.ended = False
        self._decide = self.begin() if begun is None else begun
        self._speakers = generator(seed)
        self._end_removed = False  # the closing speaker is to write once more
        self._final = False  # and what is written now is that
        self._most = self.policy.longest
        self._rule = self.policy.patch

    @property
    def text(self) -> str:
        """What has been written."""
        return "".join(patch.text for patch in self.state.patches)

    async def write(self) -> None:
        """The loop: take turns until the answer ends. Raises EngineError; the state keeps what was
        written."""
        while not self.ended:
            await self.step()

    async def step(self, speaker: int | None = None, tokens: int | None = None) -> Patch:
        """One patch: the rules or the switcher select a speaker, who writes, and that may have been
        the answer's end. A given `speaker` writes whatever the rules say, and no other stands in
        for it. The patch has at most `tokens` tokens, or as many as the policy allows."""
        selected = await self._select() if speaker is None else _Selection(speaker, "chosen")
        self._limit(selected, tokens)
        patch = await self._write_patch(selected, stand_ins=self.stand_ins and speaker is None)
        self._conclude(selected, patch)
        return patch

    async def switcher_probabilities(self) -> tuple[float, ...]:
        """What the switcher says as the answer stands, whatever the rules would say: one
        probability a candidate; nothing is drawn. Raises NotANumberError where that is no
        distribution, ConfigError where it is not one probability a candidate."""
        return await ask(self._decide, self.session, self.state, len(self.models))

    def _limit(self, selected: _Selection, tokens: int | None) -> None:
        """By which rule the next patch ends, and how long it may get."""
        closes = selected.reason == "closing"
        self._rule = None if closes else self.policy.patch
        self._most = self._length() if tokens is None else tokens
        self._final = closes and self._end_removed

    async def _write_patch(self, selected: _Selection, *, stand_ins: bool) -> Patch:
        """The patch of the selected speaker, or of the one that stands in where its model has
        failed: no server of it answers, it computes what is no number, or it has no token for
        the answer's format."""
        tried: tuple[int, ...] = ()
        while True:
            try:
                if self.check is None or self.policy.guard is None:
                    return await self._speak(selected)
                return await self._guarded(selected, self.check, self.policy.guard.to)
            except (UnavailableError, NotANumberError, FormatError):
                tried += (selected.speaker,)
                left = self._free_to_speak(tried)
                if not stand_ins or not left:
                    raise
                selected = await self._stand_in(selected, left)

    def _conclude(self, selected: _Selection, patch: Patch) -> None:
        """Is the answer over? Where the closing speaker is to follow the one that ended it, that
        end is removed, once: what is written then is the last patch, however and by whom it
        ends."""
        policy = self.policy
        over = self._final or patch.finish not in HANDED_OVER
        self._end_removed = (
            policy.closing_on_end
            and patch.finish == "stop"
            and not self.state.stopped
            and selected.reason != "closing"
            and patch.speaker != policy.closing
        )
        over = over and not self._end_removed
        self.ended = over or self.state.tokens >= policy.max_tokens

    def _length(self) -> int:
        """The most tokens that the next patch may have, if the budget allows."""
        if self._rule is not None and self._rule.until == "random":
            return self._rule.draw(self._speakers.random())
        return self.policy.longest

    async def _select(self) -> _Selection:
        """Who writes the next patch: the rules first, then the switcher."""
        policy, state = self.policy, self.state
        uniform = self._speakers.random()  # one a step, whether it is asked for or not
        if policy.closing is not None and (self._end_removed or self._closes_at(state.tokens)):
            return _Selection(policy.closing, "closing")
        if policy.opening is not None and not state.patches:
            return _Selection(policy.opening, "opening")
        begun = perf_counter()
        probabilities = await self.switcher_probabilities()
        open_to = _among(self._free_to_speak(), probabilities)
        if policy.greedy_switcher:
            speaker = max(range(len(open_to)), key=open_to.__getitem__)
        else:
            speaker = pick(open_to, policy.top_p, uniform)
        return _Selection(speaker, "chosen", probabilities, perf_counter() - begun)

    def _closes_at(self, tokens: int) -> bool:
        """May the patch that begins after so many tokens be the last that the budget allows?"""
        return self.policy.max_tokens - tokens <= self.policy.longest

    def _free_to_speak(self, tried: Sequence[int] = ()) -> list[int]:
        """Who may be selected: not those that have failed, nor those whose longest patch would give
        them more than their share."""
        policy = self.policy
        caps = dict(policy.max_share)
        wanted = min(policy.longest, policy.max_tokens - self.state.tokens)
        spoken = [0] * len(self.models)
        for patch in self.state.patches:
            if patch.speaker is not None:
                spoken[patch.speaker] += len(patch.token_ids)
        most = [
            caps.get(index, 1.0) * (self.state.tokens + wanted) + _ROUNDING
            for index in range(len(self.models))
        ]
        return [i for i, had in enumerate(spoken) if i not in tried and had + wanted <= most[i]]

    async def _stand_in(self, selected: _Selection, left: Sequence[int]) -> _Selection:
        """The most probable of those that are left. Nothing is drawn for it, so later turns are
        drawn as they would have been."""
        begun = perf_counter()
        probabilities = selected.probabilities or await self.switcher_probabilities()
        speaker = max(left, key=probabilities.__getitem__)
        return _Selection(speaker, "fallback", probabilities, perf_counter() - begun)

    @property
    def _wanted(self) -> int:
        """The most tokens of the next patch."""
        return min(self._most, self.policy.max_tokens - self.state.tokens)

    async def _guarded(self, selected: _Selection, check: GuardCheck, fallback: int) -> Patch:
        """The selected speaker's patch if it passes the check, else that of the `fallback` if it
        passes, else an empty one that ends the answer. Nothing is given out unchecked."""
        emit, begun = self.emit, perf_counter()
        before, withheld = self.state.copy(), tuple[RejectedPatch, ...]()
        for writer in (selected, replace(selected, speaker=fallback, reason="guard")):
            held: list[Delta | Patch] = []
            self.emit = held.append if emit is not None else None
            passes = False
            try:
                patch = await self._speak(writer)
                # The beginning of a stop string is not shown yet, but its tokens are given out; and
                # if the next patch may not stand, what is shown now is the answer.
                shown, hidden = self.text, self.state.unfinished_stop
                passes = await check(self.session, shown, hidden)
            finally:
                self.emit = emit
                if not passes:
                    self.state.restore(before)
            if passes:
                timing = replace(patch.timing, guard=perf_counter() - begun - patch.timing.write)
                patch = replace(patch, timing=timing, withheld=withheld)
                self.state.patches[-1] = patch
                emit_events(emit, *held[:-1], patch)
                return patch
            withheld += (RejectedPatch(writer.speaker, len(patch.token_ids)),)
        timing = Timing(selected.seconds, 0.0, perf_counter() - begun)
        return self._record(
            Patch(fallback, (), "", "guard", "guard", selected.probabilities, timing, withheld)
        )

    async def _speak(self, selected: _Selection) -> Patch:
        """Let the chosen speaker write one patch onto the state. Raises EngineError when its model
        fails; what it has given out by then is on the state."""
        policy, state, speaker = self.policy, self.state, selected.speaker
        if selected.reason == "closing" and policy.closing_cue is not None:
            forced = state.force(speaker, policy.closing_cue)
            emit_events(self.emit, Delta(None, forced.text), forced)
        begun = perf_counter()
        after = state.tokens + self._wanted
        ruled = self._final or (policy.closing is not None and self._closes_at(after))
        writer = PatchWriter(
            self.session,
            self.models[speaker],
            state,
            speaker,
            self.emit,
            self.logprobs,
            () if ruled or after >= policy.max_tokens else self.choices,
        )
        criterion = None
        if self._rule is not None:
            criterion = stopping.criterion_of(self._rule, self._decide, state, speaker)
        try:
            finish = await writer.write(self._wanted, policy, criterion)
        except EngineError:
            if writer.token_ids or writer.text:
                writer.finish("")
                self._record(_patch_of(writer, selected, "error", begun))
            raise
        over = self._final or finish not in HANDED_OVER or state.tokens >= policy.max_tokens
        writer.finish(state.end() if over else "")
        return self._record(_patch_of(writer, selected, finish, begun))

    def _record(self, patch: Patch) -> Patch:
        if patch.speaker is not None:
            patch = replace(patch, name=self.state.names[patch.speaker])
        self.state.patches.append(patch)
        emit_events(self.emit, patch)
        return patch

    @asynccontextmanager
    async def fork(
        self, seed: int, state: GenerationState | None = None
    ) -> AsyncIterator[GenerationLoop]:
        """The same answer with draws of its own, going on from here or from an earlier `state` of
        it. What the models have read of it is shared. A fork is a sample: no other stands in for a
        speaker that fails in it."""
        state = (state or self.state).copy()
        async with self.session.fork(derive(seed, "tokens")) as session:
            yield replace(
                self,
                session=session,
                state=state,
                seed=derive(seed, "speakers"),
                emit=None,
                logprobs=None,
                stand_ins=False,
                begun=None,
            )

    async def read(self) -> None:
        """Let every candidate and the switcher read what is written, so that no fork has to."""
        if isinstance(self.session, SharingSession):
            await asyncio.gather(
                *(
                    self.session.read(model, self.state.prompt(index))
                    for index, model in enumerate(self.models)
                    if self.state.room(index) > 0
                ),
                self.begin()(self.session, self.state),
            )


def _patch_of(writer: PatchWriter, selected: _Selection, finish: Finish, begun: float) -> Patch:
    return Patch(
        speaker=selected.speaker,
        token_ids=tuple(writer.token_ids),
        text=writer.text,
        finish=finish,
        reason=selected.reason,
        probabilities=selected.probabilities,
        timing=Timing(selected.seconds, perf_counter() - begun),
    )


def _among(free: Sequence[int], probabilities: Sequence[float]) -> Sequence[float]:
    """The probabilities of those that are free to speak, 0 for the others; equal ones if all of
    theirs are 0. Raises ConfigError if none is free."""
    if len(free) == len(probabilities):
        return probabilities
    if not free:
        raise ConfigError("max_share leaves nobody to write: give one candidate no share")
    kept = [p if index in free else 0.0 for index, p in enumerate(probabilities)]
    return normalise(kept if any(kept) else [float(index in free) for index in range(len(kept))])
