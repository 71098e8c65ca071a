"""Continuous batching of jobs over the lanes of a KV pool. They are one model's, or those of a base
and of adapters on it, whose rows share each forward.

`LaneRunner.step` does one round: it takes waiting jobs into free lanes, encodes what they have not
seen, then samples one token for every lane that writes. Lanes stay dense: when one is freed the
last takes its place. Everything runs in the caller's thread; nothing here knows of asyncio.

In exact rounds every forward has one of the shapes of `engines/local/batch_invariant.py`, so that
an answer's tokens do not depend on what else is in the batch."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile

import numpy as np
import torch
from torch import Tensor

from taketurns.engines.local.batch_invariant import BLOCK, ROWS, Shapes, visible
from taketurns.engines.local.ensembles import EnsembleMember
from taketurns.engines.local.forward import Forward, Outputs
from taketurns.engines.local.lane_tensors import SPARE
from taketurns.engines.local.lanes import CacheShape, LanePool
from taketurns.engines.local.logits import corrected
from taketurns.engines.local.members import Member, ModelCounters, StepWork
from taketurns.engines.local.memory import CacheSize, lane_length
from taketurns.engines.local.next_token import draw_tokens
from taketurns.engines.local.requests import (
    UNNAMED,
    GenerateRequest,
    Job,
    PromptScoreRequest,
    ScoreRequest,
)
from taketurns.engines.local.shared_beginnings import SharedBeginnings, common_blocks
from taketurns.engines.local.states import Snapshot, Snapshots
from taketurns.engines.local.stopping import follows, over
from taketurns.errors import CapacityError

BLOCK_TOKENS = 2048  # of prompts in one forward
STEP_COST = 8  # a forward of one token takes as long as so many tokens that are encoded together
SCORED_TOKENS = 256  # of a prompt that is scored: each has a logit for every token there is


@dataclass(slots=True, eq=False)
class _Lane:
    """A row of the pool, for a job of `member`. The first `length` of its `tokens` are encoded, of
    which `start` came from the parked answer; while it writes, the last of `tokens` is the one just
    sampled. In a model with states, those after the first `pause` tokens are copied into
    `snapshots` on the way."""

    job: Job
    member: Member
    tokens: list[int]
    start: int
    length: int
    done: bool = False
    pause: int = 0
    snapshots: list[Snapshot] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return len(self.tokens) - self.length

    @property
    def ahead(self) -> int:
        """How many tokens to read before its states are copied or its prompt ends."""
        return (self.pause if self.length < self.pause else len(self.tokens)) - self.length


class BatchRunner(ABC):
    """Runs jobs, some of them side by side."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn."""
        self._waiting.append(job)

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a job waits or is under way."""

    @property
    def lane_bytes(self) -> int:
        """What the keys and values of the jobs under way take."""
        return 0

    @property
    def cache(self) -> CacheSize:
        """What the model keeps of an answer."""
        return CacheSize()

    @abstractmethod
    def counters_of(self, model: str) -> ModelCounters:
        """What one of its models has done so far."""

    @abstractmethod
    def step(self) -> None:
        """One round: take in what waits, write one token for each job that writes."""

    @abstractmethod
    def reject_all(self, error: Exception) -> None:
        """Give up: reject what is being computed and what waits."""

    @abstractmethod
    def forget(self) -> None:
        """Count from nothing. No job may be under way."""


class LaneRunner(BatchRunner):
    """Runs jobs over lanes. `max_lanes` bounds the batch. Its first `member` has the name `model`;
    others `join`, and the rows of all share each forward. `continues`: the model reads several
    tokens at once also after a state that is not 0. Rounds are exact where `exact` says which
    shapes they have; it may be changed while there are no jobs."""

    def __init__(
        self,
        forward: Forward,
        shape: CacheShape,
        *,
        max_lanes: int,
        model: str = UNNAMED,
        member: Member | None = None,
        continues: bool = True,
    ) -> None:
        super().__init__()
        self._members = {model: member or Member()}
        self._work = StepWork()
        self.forward = forward
        self.shape = shape
        self._pool = LanePool(shape)
        self._continues = continues
        self._exact: Shapes | None = None
        # What is encoded at once must not overwrite what its first token looks at.
        ringed = any(layer.sight.size for layer in shape.layers)
        self._most_tokens = SPARE if ringed else BLOCK_TOKENS
        self.forwards = 0
        self._max_lanes = max_lanes
        self._lanes: list[_Lane] = []
        self._beginnings = SharedBeginnings()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._lanes)

    @property
    def exact(self) -> Shapes | None:
        """The shapes of exact rounds."""
        return self._exact

    @exact.setter
    def exact(self, shapes: Shapes | None) -> None:
        self._exact = shapes
        self.forward.multiple = 1 if shapes is None else shapes.rows
        self._pool.round_by(visible if shapes is not None else int)
        self._pool.states.multiple = 1 if shapes is None else shapes.rows

    @property
    def most_lanes(self) -> int:
        """The most jobs that are under way at a time."""
        return self._max_lanes if self.exact is None else min(self._max_lanes, self.exact.most)

    @property
    def lane_bytes(self) -> int:
        return self._pool.nbytes

    @property
    def cache(self) -> CacheSize:
        """What the model keeps of an answer."""
        layers = ((layer.sight.size, layer.bytes_per_token) for layer in self.shape.layers)
        pool = self._pool
        return CacheSize(
            tuple(layers), pool.states.bytes_per_answer, self.exact is not None, pool.elastic
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose rows are in its forwards."""
        return tuple(self._members)

    def join(self, model: str, member: Member) -> None:
        """Let rows of another model share the forwards."""
        self._members[model] = member

    def take_over(self, runner: LaneRunner) -> None:
        """Let rows of the models of another runner of the same weights share the forwards, in the
        shapes and with the packed weights that it was made with last. There may be no jobs."""
        assert not self.busy, "sessions open when all models are loaded"
        for model, member in runner._members.items():
            self.join(model, member)
        self.forward.packed = runner.forward.packed
        self.exact = runner.exact

    def leave(self, model: str) -> None:
        """Have no more rows of a model. It may have no jobs."""
        del self._members[model]

    def counters_of(self, model: str) -> ModelCounters:
        return self._members[model].counters

    def bound(self, lane_bytes: int) -> None:
        """Let the lanes take at most so many bytes; what does not fit waits."""
        self._pool.max_bytes = lane_bytes

    def sweep(self) -> None:
        """Free the memory of answers that are gone."""
        self._pool.sweep()

    def forget(self) -> None:
        """Free the lanes too."""
        self._pool.clear()
        self._members = {
            model: replace(member, counters=ModelCounters())
            for model, member in self._members.items()
        }

    @torch.inference_mode()
    def step(self) -> None:
        """One round. A failure rejects every job in the batch and leaves the runner usable."""
        begun = time.perf_counter()
        self._work = StepWork()
        try:
            self._drop_cancelled()
            writing = len(self._lanes)
            taken = self._take_waiting()
            joining = sum(map(self._joins, taken)) if writing else 0  # they stand first
            for first, last in self._groups(taken[joining:]):
                self._encode(first, last)
            if writing:
                self._write(writing, joining)
            self._release_done()
        except Exception as error:  # whatever a model raises belongs to those who asked for it
            self._fail(error)
        self._work.charge(time.perf_counter() - begun, self._members.values())

    def reject_all(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._fail(error)
        for job in waiting:
            job.reject(error)

    # Who is in the batch

    def _drop_cancelled(self) -> None:
        self._waiting = deque(job for job in self._waiting if not job.cancelled)
        for lane in self._lanes:
            lane.done = lane.done or lane.job.cancelled or lane.job.ended
        self._release_done()

    def _take_waiting(self) -> list[_Lane]:
        """First come, first served, as many as there is memory for: room for all that they may
        write is made now, so that none of them has to wait in the middle. A prompt that begins like
        one that is encoded in this round waits for the next."""
        if not self._waiting:
            return []
        taken: list[_Lane] = []
        later: list[Job] = []
        live = len(self._lanes)
        length = max((self._length(lane.job.reach) for lane in self._lanes), default=0)
        while self._waiting:
            party = self._next_party()
            if live + len(taken) + len(party) > self.most_lanes:
                break
            if self._had_better_wait(party, taken):
                later.append(self._waiting.popleft())
                continue
            reach = max(job.reach for job in party)
            longer = max(length, self._length(reach))
            held = self._pool.holds(reach)
            if not held or not self._pool.fits(len(taken) + len(party), longer):
                if held and (live or taken):
                    break
                for job in party:
                    self._waiting.popleft()
                    job.reject(
                        CapacityError(
                            f"no memory for the keys and values of {reach} tokens: lower "
                            "max_tokens or raise engine.memory"
                        )
                    )
                continue
            for job in party:
                self._waiting.popleft()
                taken.append(self._lane(job))
            length = longer
        self._waiting.extendleft(reversed(later))
        taken.sort(key=lambda lane: (not self._joins(lane), _wants_hidden(lane), lane.missing))
        if taken:
            self._enter(taken, length)
        return taken

    def _next_party(self) -> list[Job]:
        """The first job that waits, with those after it that go on only together with it. If some
        of them had lanes and others had not, those that had might be what the others wait for."""
        first = self._waiting[0]
        if first.party is None:
            return [first]
        return list(takewhile(lambda job: job.party is first.party, self._waiting))

    def _had_better_wait(self, party: Sequence[Job], taken: Sequence[_Lane]) -> bool:
        """Whether a job could take over more once what was taken is encoded."""
        job = party[0]
        if job.party is not None or not taken or not self._shares(job):
            return False
        alike = (lane.tokens for lane in taken if lane.job.model == job.model)
        coming = max((common_blocks(job.prompt, tokens) for tokens in alike), default=0)
        return coming > 0 and coming > self._beginnings.encoded(job.model, job.prompt)

    def _shares(self, job: Job) -> bool:
        """Whether a job may take over the beginning of its prompt. States are those of one place,
        which is seldom where a common beginning ends."""
        return job.parked.holder is None and not self._pool.states and not _scores_prompt(job)

    def _lane(self, job: Job) -> _Lane:
        """A lane for a job: from where it goes on, and where its states are copied."""
        if self._shares(job):
            self._beginnings.take_over(job.model, job.prompt, job.parked)
        known = 0 if _scores_prompt(job) else self._pool.known(job.parked, job.prompt)
        prompt = len(job.prompt)
        lane = _Lane(job, self._members[job.model], list(job.prompt), known, known)
        if not self._pool.states:
            return lane
        if job.parked.snapshots is not None:
            job.parked.snapshots.learn(job.parked.common(job.prompt))
        tail = (job.parked.snapshots or Snapshots()).tail(scored=isinstance(job, ScoreRequest))
        if not self._continues:
            if lane.missing > 1 and prompt < STEP_COST * lane.missing:
                lane.start = lane.length = 0
            if prompt < STEP_COST * tail:  # these tokens would be read one by one
                tail = 0
        if lane.start + 1 < prompt - tail and not _scores_prompt(job):
            lane.pause = prompt - tail
        return lane

    def _enter(self, taken: Sequence[_Lane], length: int) -> None:
        """Give each of these a lane of at least `length` positions."""
        self._lanes.extend(taken)
        for lane in taken:
            self._beginnings.register(lane.job.model, lane.job.prompt, lane.job.parked)
        lanes = len(self._lanes)
        longest = max(self._length(lane.job.parked.reserve) for lane in taken)
        padding = 0 if self.exact else self._rows(lanes, 1) - lanes
        answers = [(lane.job.parked, lane.start) for lane in taken]
        self._pool.enter(answers, length, max(length, longest), padding)

    def _length(self, tokens: int) -> int:
        return lane_length(tokens, self.exact is not None)

    def _groups(self, taken: list[_Lane]) -> list[tuple[int, int]]:
        """Cut the lanes just taken into runs `(first, end)` of similar length, encoded together, so
        that little of each run's rectangle is padding."""
        offset = len(self._lanes) - len(taken)
        cuts: list[int] = []
        real = 0
        for index, lane in enumerate(taken):
            real += lane.missing
            rectangle = lane.missing * (index - cuts[-1] + 1) if cuts else 0
            if (
                not cuts
                or (self.exact is not None and not self.exact.together and lane.missing > 1)
                or not self._alike(lane, taken[cuts[-1]])
                or rectangle > min(BLOCK_TOKENS, 2 * real + 64)
            ):
                cuts.append(index)
                real = lane.missing
        return [(offset + first, offset + end) for first, end in pairwise([*cuts, len(taken)])]

    def _joins(self, lane: _Lane) -> bool:
        """Whether a lane just taken lacks one token only, as one does that has just sampled it. It
        then writes its first token with the others: no forward is needed to read what another model
        wrote if that is a single token."""
        plain = isinstance(lane.job, GenerateRequest) and not follows(lane.job)
        return plain and lane.missing == 1 and not self._pool.states

    def _alike(self, lane: _Lane, other: _Lane) -> bool:
        """May two lanes be encoded in one forward? Whether a single token is missing decides the
        shape of an exact one, so that must not depend on who else is there."""
        if _scores_prompt(lane.job) or _scores_prompt(other.job):
            return False
        if not self._continues:  # from the beginning in one block, else token by token
            blocks = [None if each.length else (each.pause, each.missing) for each in (lane, other)]
            if blocks[0] != blocks[1]:
                return False
        return _wants_hidden(lane) == _wants_hidden(other) and (lane.missing == 1) == (
            other.missing == 1
        )

    def _release_done(self) -> None:
        """Park what finished lanes have encoded and close the gaps they leave."""
        if not any(lane.done for lane in self._lanes):
            return
        taken = self._pool.nbytes
        for member in self._members.values():
            member.counters.peak_lane_bytes = max(member.counters.peak_lane_bytes, taken)
        for index in reversed(range(len(self._lanes))):
            lane = self._lanes[index]
            if not lane.done:
                continue
            encoded = lane.tokens[: lane.length]
            if lane.job.failure is not None:
                self._pool.wipe(index)  # a masked NaN would still be one: 0 times it is NaN
                encoded = []
            elif not lane.job.cancelled:
                self._park_states(index, lane)
            self._pool.leave(index, encoded)
            if not lane.job.cancelled:
                lane.job.finished()
            last = self._lanes.pop()
            if last is not lane:
                self._lanes[index] = last

    def _park_states(self, index: int, lane: _Lane) -> None:
        """Keep the snapshots of a lane, and its last states unless the end of its prompt is
        expected to be dropped."""
        if not self._pool.states:
            return
        parked = lane.job.parked
        scored = isinstance(lane.job, ScoreRequest)
        if not (lane.snapshots and (scored or lane.length == lane.pause)):
            lane.snapshots.append(self._pool.states.save(index, lane.length))
        parked.snapshots = parked.snapshots or Snapshots()
        parked.snapshots.extend(lane.snapshots, len(lane.job.prompt), scored=scored)

    def _fail(self, error: Exception) -> None:
        failed = [lane.job for lane in self._lanes]
        self._lanes.clear()
        self._pool.clear()  # memory may be what has failed
        for job in failed:
            job.reject(error)

    # What they compute

    def _encode(self, first: int, end: int) -> None:
        """Bring lanes `first` to `end` up to the last token of their prompts."""
        group = self._lanes[first:end]
        longest_missing = max(lane.missing for lane in group)
        writers: list[tuple[_Lane, Tensor, list[Tensor]]] = []
        while missing := max(lane.missing for lane in group):
            scored = _scores_prompt(group[0].job)
            tokens = SCORED_TOKENS if scored else BLOCK_TOKENS
            block = min(missing, max(1, tokens // len(group)), self._most_tokens)
            if self._pool.states:
                while not group[0].missing:  # no row may be padded, so those that are done stay out
                    first, group = first + 1, group[1:]
                block = self._unpadded(group, block)
            elif self.exact is not None:
                block = BLOCK if longest_missing > 1 else 1
            fed = [min(block, lane.missing) for lane in group]
            outputs = self._run(
                first, fed, block, _wants_hidden(group[0]), keep=block if scored else None
            )
            for row, lane in enumerate(group):
                lane.member.counters.encoded_tokens += fed[row]
                if lane.length == lane.pause:
                    lane.snapshots.append(self._pool.states.save(first + row, lane.length))
                if isinstance(lane.job, PromptScoreRequest):
                    lane.job.read(outputs.columns[row, -fed[row] :])
                    lane.done = not lane.missing
                    continue
                if not fed[row] or lane.missing:
                    continue
                lane.job.parked.tokens = list(lane.tokens)  # others may begin like it now
                hidden = [layer[row] for layer in outputs.hidden]
                if isinstance(lane.job, ScoreRequest):
                    lane.job.look(outputs.logits[row], hidden)
                    lane.done = True
                elif isinstance(lane.job, EnsembleMember):
                    lane.job.offer(outputs.logits[row])
                else:
                    writers.append((lane, outputs.logits[row], hidden))
        if writers:
            lanes, logits, states = zip(*writers, strict=True)
            layers = [torch.stack(layer) for layer in zip(*states, strict=True)]
            self._sample(lanes, torch.stack(logits), layers)

    def _unpadded(self, group: Sequence[_Lane], most: int) -> int:
        """How many tokens each lane of a group of a model with states reads next. Padding would
        change the states, so all read the same number."""
        ahead = min(lane.ahead for lane in group)
        if self._continues:
            return min(ahead, most)
        return 1 if group[0].length else ahead

    def _write(self, writing: int, joining: int) -> None:
        """One more token for each of the first `writing` lanes that knows its last one, and the
        first one for the `joining` lanes after them."""
        lanes = self._lanes[: writing + joining]
        fed = [_hear(lane) for lane in lanes]
        if not any(fed):  # nobody joins, for a lane that does has a token to read
            return
        outputs = self._run(0, fed, 1, any(follows(lane.job) for lane in lanes))
        for lane in lanes[writing:]:
            lane.member.counters.encoded_tokens += 1
            lane.job.parked.tokens = list(lane.tokens)
        logits = outputs.logits[: len(lanes)]
        writers = []
        for row, lane in enumerate(lanes):
            if not isinstance(lane.job, EnsembleMember):
                writers.append(row)
            elif fed[row]:
                lane.member.counters.encoded_tokens += 1
                lane.job.offer(logits[row])
        if len(writers) == len(lanes):
            self._sample(lanes, logits, outputs.hidden)
        elif writers:
            hidden = tuple(layer[writers] for layer in outputs.hidden)
            self._sample([lanes[row] for row in writers], logits[writers], hidden)

    def _sample(
        self, lanes: Sequence[_Lane], logits: Tensor, hidden: Sequence[Tensor] = ()
    ) -> None:
        jobs = [lane.job for lane in lanes if isinstance(lane.job, GenerateRequest)]
        logits = corrected(logits, [job.sampling.correction for job in jobs])
        ended = over(jobs, logits, hidden)
        if any(ended):
            for lane, done in zip(lanes, ended, strict=True):
                lane.done = done
            going = [row for row, done in enumerate(ended) if not done]
            lanes, logits = [lanes[row] for row in going], logits[going]
            if not lanes:
                return
        alike: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, lane in enumerate(lanes):
            alike[lane.member.suppressed].append(row)
        for suppressed, rows in alike.items():
            part = logits if len(rows) == len(lanes) else logits[rows]
            self._draw([lanes[row] for row in rows], part, suppressed)

    def _draw(self, lanes: Sequence[_Lane], logits: Tensor, suppressed: Sequence[int]) -> None:
        """One token for each of these lanes, whose models must not write the same ids."""
        jobs = [lane.job for lane in lanes if isinstance(lane.job, GenerateRequest)]
        tokens = draw_tokens(logits, jobs, suppressed)
        for row, (lane, job, token) in enumerate(zip(lanes, jobs, tokens, strict=True)):
            lane.tokens.append(token)
            lane.done = job.take(token, logits[row]) is not None
            lane.member.counters.written_tokens += 1

    def _rows(self, lanes: int, block: int) -> int:
        if block > 1:
            return lanes
        if self.exact is not None:
            return self.exact.padded(lanes)
        return ROWS if lanes in (2, 3) and self.forward.on_cpu else lanes

    def _run(
        self,
        first: int,
        fed: Sequence[int],
        block: int,
        hidden: bool,
        keep: int | None = None,
    ) -> Outputs:
        """One forward over the lanes from `first`: the next `fed[row]` tokens of each, padded on
        the left to `block`, so that every row's last token stands in the last column. `keep` asks
        for the logits of so many columns."""
        rows = self._rows(len(fed), block)
        if self.exact is None and first + rows > self._pool.lanes:  # its padding needs lanes too
            rows = len(fed)
        if keep is None:
            keep = self.exact.rows if self.exact is not None and block > 1 else 1
        ids = np.zeros((rows, block), dtype=np.int64)
        positions = np.full((rows, block), -1, dtype=np.int64)
        lanes = self._lanes[first : first + len(fed)]
        for row, (lane, count) in enumerate(zip(lanes, fed, strict=True)):
            if not count:
                continue
            stop = lane.length + count
            ids[row, block - count :] = lane.tokens[lane.length : stop]
            positions[row, block - count :] = np.arange(lane.length, stop)
            lane.length = stop
        # Padding looks where a token of its row does, since what looks at nothing is NaN; in a row
        # without one where the others do.
        real = positions >= 0
        lowest = int(positions[real].min()) if self.exact is None and block == 1 else 0
        starts = np.where(real, positions, np.iinfo(np.int64).max).min(1, keepdims=True)
        looks = np.where(real.any(1, keepdims=True), starts, lowest)
        at = np.where(real, positions, looks)
        ends = at.max(1) + 1
        keys = int(ends.max())
        if self.exact is not None:
            keys, positions = visible(keys), positions[: len(fed)]
        self._pool.plan(first, [lane.length for lane in lanes], positions, ends, keys, lowest)
        self.forwards += 1
        self._work.add((lane.member, count) for lane, count in zip(lanes, fed, strict=True))
        adapters = [lane.member.adapter for lane in lanes]
        with self._pool.states.reading(first, fed, rows, len(self._lanes)):
            return self.forward(ids, at, self._pool, hidden, keep, adapters)


def _hear(lane: _Lane) -> int:
    """How many tokens the lane has to read before it can go on: none while it waits for the other
    models that it writes together with."""
    if not isinstance(lane.job, EnsembleMember):
        return 1
    if lane.job.told is None:
        return 0
    lane.tokens.append(lane.job.told)
    lane.job.told = None
    return 1


def _scores_prompt(job: Job) -> bool:
    return isinstance(job, PromptScoreRequest)


def _wants_hidden(lane: _Lane) -> bool:
    """Whether the states at the end of its prompt are needed."""
    if isinstance(lane.job, ScoreRequest):
        return lane.job.want == "hidden"
    return follows(lane.job, first=True)
