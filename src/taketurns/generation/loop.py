"""The loop that writes one answer: select a speaker, write its patch, and end the answer.

`GenerationLoop.write` is the loop and `GenerationLoop.step` a round of it. A rule of the policy may
select the speaker; otherwise it is drawn by top-p from the switcher's probabilities (`_select`).
The speaker continues the answer as if it were its own (`_speak`). The answer ends when its speaker
ends it, at a stop string, or when the budget is spent (`_conclude`). A fork continues from the
current state with its own draws.

A guard checks each patch before any of it is given out. A patch that fails is discarded, and the
guard's fallback candidate writes in its place; if that patch fails too, the answer ends without it.

If no server of the speaker's model works any more, if the model computes NaN for the next token, or
if it has no token for the answer's format, the most probable other candidate stands in. The text
that the speaker had given out becomes a separate patch, so nothing is repeated or lost. A switcher
that gives NaN ends the answer.

At the token level (`switchers.base.PatchEndingDecide`) the switcher ends patches by the speaker's
next-token distribution, so a speaker may decline: it writes nothing, and the switcher is asked
again. It may also let several candidates write the next patch and choose one of the patches
(`ComparingDecide`, `_compare`), or correct the speaker's logits (`CorrectingDecide`)."""

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
from taketurns.switchers.base import (
    ComparingDecide,
    CorrectingDecide,
    Decide,
    PatchEndingDecide,
    ask,
    checked,
)
from taketurns.switchers.sampling import normalise, pick
from taketurns.types import (
    HANDED_OVER,
    Delta,
    Finish,
    Patch,
    Reason,
    RejectedPatch,
    StoppingCriterion,
    Timing,
)
from taketurns.utils.seeds import derive, generator

_FAILURES = (UnavailableError, NotANumberError, FormatError)  # of one candidate, not of all
_ROUNDING = 1e-9  # so that 0.3 of 10 tokens is 3 in floating point


@dataclass(frozen=True, slots=True)
class _Selection:
    speaker: int
    reason: Reason
    probabilities: tuple[float, ...] | None = None
    seconds: float = 0.0


@dataclass(kw_only=True, eq=False)
class GenerationLoop:
    """Writes onto `state` within `session`.

    `models` are the candidates' names by index, `begin` starts the switcher, and `seed` determines
    the draws of speakers. `emit` receives the answer's events, with `logprobs` as in `Sampling`.
    `check` is set if and only if the policy has a guard. `choices` are the tokens whose
    log-probabilities after each patch a folded switcher needs, empty for others. `begun` is the
    result of `begin` if it was called already. Without `stand_ins` the answer fails if its speaker
    fails.
    """

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
        self._end_removed = False  # the closing speaker must write one more patch
        self._final = False  # the current patch is that patch
        self._most = self.policy.longest
        self._rule = self.policy.patch

    @property
    def text(self) -> str:
        """The text written so far."""
        return "".join(patch.text for patch in self.state.patches)

    async def write(self) -> None:
        """The loop: take turns until the answer ends. Raises EngineError; the state keeps the text
        written so far."""
        while not self.ended:
            await self.step()

    async def step(self, speaker: int | None = None, tokens: int | None = None) -> Patch:
        """One round: select a speaker, write its patch, decide whether the answer is over. If
        `speaker` is given, it writes without regard to the rules, and no other stands in for it.
        The patch has at most `tokens` tokens, by default as many as the policy allows."""
        patch, spent = None, 0.0
        while patch is None:
            begun = perf_counter()
            selected = await self._select() if speaker is None else _Selection(speaker, "chosen")
            selected = replace(selected, seconds=selected.seconds + spent)
            self._limit(selected, tokens)
            patch = await self._write_patch(selected, stand_ins=self.stand_ins and speaker is None)
            spent += perf_counter() - begun  # if the speaker declined, it was part of the decision
        self._conclude(selected, patch)
        return patch

    async def switcher_probabilities(self) -> tuple[float, ...]:
        """The switcher's probabilities for the answer so far, one per candidate, without regard to
        the rules; nothing is drawn. Raises NotANumberError if they are not a distribution,
        ConfigError if their number is wrong."""
        return await ask(self._decide, self.session, self.state, len(self.models))

    def _limit(self, selected: _Selection, tokens: int | None) -> None:
        """Set the rule that ends the next patch, and its greatest length."""
        closes = selected.reason == "closing"
        self._rule = None if closes else self.policy.patch
        self._most = self._length() if tokens is None else tokens
        self._final = closes and self._end_removed

    async def _write_patch(self, selected: _Selection, *, stand_ins: bool) -> Patch | None:
        """Write the patch of the selected speaker, or of a stand-in if the speaker's model fails:
        no server of it works, it computes NaN or infinity, or it has no token for the answer's
        format. None if the speaker declines."""
        tried: tuple[int, ...] = ()
        while True:
            try:
                if self.check is None or self.policy.guard is None:
                    return await self._speak(selected)
                return await self._guarded(selected, self.check, self.policy.guard.to)
            except _FAILURES:
                tried += (selected.speaker,)
                left = self._free_to_speak(tried)
                if not stand_ins or not left:
                    raise
                selected = await self._stand_in(selected, left)

    def _conclude(self, selected: _Selection, patch: Patch) -> None:
        """Decide whether the answer is over. If the closing speaker must follow the speaker that
        ended the answer, that end is removed, once; the next patch is then the last one."""
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
        """The greatest length of the next patch in tokens, apart from the budget."""
        if self._rule is not None and self._rule.until == "random":
            return self._rule.draw(self._speakers.random())
        return self.policy.longest

    async def _select(self) -> _Selection:
        """Select the next speaker: by a rule if one applies, else by the switcher."""
        policy, state = self.policy, self.state
        uniform = self._speakers.random()  # one per step, even if no draw follows
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
        """Whether a patch that begins after `tokens` tokens may use up the budget."""
        return self.policy.max_tokens - tokens <= self.policy.longest

    def _free_to_speak(self, tried: Sequence[int] = ()) -> list[int]:
        """The candidates that may be selected: without those `tried` that failed, and without those
        whose longest patch would exceed their share."""
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
        """Select the most probable of the candidates `left`. It uses no draw, so the draws of later
        turns stay the same."""
        begun = perf_counter()
        probabilities = selected.probabilities or await self.switcher_probabilities()
        speaker = max(left, key=probabilities.__getitem__)
        return _Selection(speaker, "fallback", probabilities, perf_counter() - begun)

    @property
    def _wanted(self) -> int:
        """The greatest length of the next patch in tokens, within the budget."""
        return min(self._most, self.policy.max_tokens - self.state.tokens)

    async def _guarded(
        self, selected: _Selection, check: GuardCheck, fallback: int
    ) -> Patch | None:
        """The selected speaker's patch if it passes the check, else the patch of `fallback` if that
        passes, else an empty patch that ends the answer. Nothing is given out unchecked. None if
        the selected speaker declines."""
        emit, begun = self.emit, perf_counter()
        before, withheld = self.state.copy(), tuple[RejectedPatch, ...]()
        for writer in (selected, replace(selected, speaker=fallback, reason="guard")):
            held: list[Delta | Patch] = []
            self.emit = held.append if emit is not None else None
            passes = False
            try:
                patch = await self._speak(writer)
                if patch is None:
                    passes = True  # there is nothing to undo
                    return None
                # Check with and without the possible beginning of a stop string: its text is not
                # shown yet, but its tokens are given out. If the next patch fails, the text shown
                # now is the whole answer.
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

    async def _speak(self, selected: _Selection) -> Patch | None:
        """Let the selected speaker write one patch onto the state, or the best of several
        candidates, if the switcher compares them here; None if the speaker declines. Raises
        EngineError if its model fails; the state then has what the speaker gave out."""
        if self._rule is None and _by_switcher(selected):
            decide: object = self._decide
            if isinstance(decide, ComparingDecide) and (rivals := await self.rivals()):
                return await self._compare(selected, decide, rivals)
        return await self._continue(selected, self._criterion(selected))

    async def rivals(self) -> tuple[int, ...]:
        """The candidates of whose patches the switcher would keep one here; empty where it compares
        none."""
        decide: object = self._decide
        if not isinstance(decide, ComparingDecide):
            return ()
        free = self._free_to_speak()
        rivals = tuple(i for i in await decide.rivals(self.session, self.state) if i in free)
        return rivals if len(rivals) > 1 else ()

    async def trial(self, speaker: int) -> Patch:
        """One round in which `speaker`, one of the `rivals`, writes what it would be compared
        by."""
        decide: object = self._decide
        assert isinstance(decide, ComparingDecide), "only a switcher that compares has rivals"
        selected = _Selection(speaker, "chosen")
        self._limit(selected, None)
        patch = await self._continue(selected, decide.trial(speaker, self.state))
        patch = patch or await self._continue(selected, None)
        assert patch is not None, "without a criterion a speaker cannot decline"
        self._conclude(selected, patch)
        return patch

    async def _compare(
        self, selected: _Selection, decide: ComparingDecide, rivals: Sequence[int]
    ) -> Patch | None:
        """Let each rival write the next patch, and keep the one that the switcher prefers. Nothing
        is given out before that. If a rival's model fails, the others compete; with one left there
        is nothing to compare. Raises EngineError if all fail."""
        emit, begun = self.emit, perf_counter()
        before = self.state.copy()
        written: dict[int, tuple[Patch, GenerationState, list[Delta | Patch]]] = {}
        failure: EngineError | None = None
        for rival in rivals:
            events: list[Delta | Patch] = []
            self.emit = events.append if emit is not None else None
            try:
                criterion = decide.trial(rival, self.state)
                patch = await self._continue(replace(selected, speaker=rival), criterion)
                if patch is not None:
                    written[rival] = patch, self.state.copy(), events
            except _FAILURES as error:
                if not self.stand_ins:
                    raise
                failure = error
            finally:
                self.emit = emit
                self.state.restore(before)
        if not written:
            if failure is not None:
                raise failure
            return await self._continue(selected, None)  # all declined
        probabilities = selected.probabilities
        if len(written) > 1:
            ends = {rival: end for rival, (_, end, _) in written.items()}
            compared = await decide.compare(self.session, self.state, ends)
            probabilities = checked(compared, len(self.models))
        best = max(written, key=lambda rival: probabilities[rival] if probabilities else 0.0)
        patch, after, events = written[best]
        self.state.restore(after)
        timing = Timing(
            selected.seconds + perf_counter() - begun - patch.timing.write, patch.timing.write
        )
        patch = replace(patch, probabilities=probabilities, timing=timing)
        self.state.patches[-1] = patch
        emit_events(emit, *events[:-1], patch)
        return patch

    async def _continue(
        self, selected: _Selection, criterion: StoppingCriterion | None
    ) -> Patch | None:
        """Let the selected speaker write one patch onto the state, until `criterion` ends it; None
        if it declines. Raises EngineError if its model fails; the state then has what the speaker
        gave out."""
        policy, state, speaker = self.policy, self.state, selected.speaker
        if selected.reason == "closing" and policy.closing_cue is not None:
            forced = state.force(speaker, policy.closing_cue)
            emit_events(self.emit, Delta(None, forced.text), forced)
        begun = perf_counter()
        before, after = state.tokens, state.tokens + self._wanted
        ruled = self._final or (policy.closing is not None and self._closes_at(after))
        writer = PatchWriter(
            self.session,
            self.models[speaker],
            state,
            speaker,
            self.emit,
            self.logprobs,
            () if ruled or after >= policy.max_tokens else self.choices,
            self._correction(selected),
        )
        try:
            finish = await writer.write(self._wanted, policy, criterion)
        except EngineError:
            if writer.token_ids or writer.text:
                writer.finish("")
                self._record(_patch_of(writer, selected, "error", begun))
            raise
        if criterion is not None and finish == criterion.finish and state.tokens == before:
            state.decline(speaker)
            return None
        over = self._final or finish not in HANDED_OVER or state.tokens >= policy.max_tokens
        writer.finish(state.end() if over else "")
        return self._record(_patch_of(writer, selected, finish, begun))

    def _criterion(self, selected: _Selection) -> StoppingCriterion | None:
        """What ends the patch before its full length: the policy's rule, or a switcher that ends
        patches itself, if it was this switcher that chose the speaker and the speaker has not
        declined."""
        if self._rule is not None:
            return stopping.criterion_of(self._rule, self._decide, self.state, selected.speaker)
        if not _by_switcher(selected) or selected.speaker in self.state.declined:
            return None
        decide: object = self._decide
        if not isinstance(decide, PatchEndingDecide):
            return None
        return decide.criterion(selected.speaker, self.state)

    def _correction(self, selected: _Selection) -> object:
        """What the switcher adds to the logits of the speaker that it chose; None for nothing."""
        decide: object = self._decide
        if not isinstance(decide, CorrectingDecide) or not _by_switcher(selected):
            return None
        return decide.correction(selected.speaker, self.state)

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
        """A continuation of the same answer with its own draws, from the current state or from an
        earlier `state`. It shares the models' caches of the text so far. A fork is a sample, so no
        candidate stands in for a speaker that fails."""
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
        """Let every candidate and the switcher read the answer so far, so that no fork has to."""
        if isinstance(self.session, SharingSession):
            await asyncio.gather(
                *(
                    self.session.read(model, self.state.prompt(index))
                    for index, model in enumerate(self.models)
                    if self.state.room(index) > 0
                ),
                self.begin()(self.session, self.state),
            )


def _by_switcher(selected: _Selection) -> bool:
    """Whether the switcher chose the speaker, rather than a rule or a caller."""
    return selected.reason == "chosen" and selected.probabilities is not None


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
    """The probabilities of the candidates that are free to speak, renormalised, and 0 for others.
    If the free ones all have probability 0, they become equal. Raises ConfigError if none is free.
    """
    if len(free) == len(probabilities):
        return probabilities
    if not free:
        raise ConfigError(
            "max_share allows no candidate to write the next patch: leave at least one candidate "
            "out of max_share"
        )
    kept = [p if index in free else 0.0 for index, p in enumerate(probabilities)]
    return normalise(kept if any(kept) else [float(index in free) for index in range(len(kept))])
