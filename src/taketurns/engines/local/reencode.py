"""The runner for models whose cache cannot be extended lane by lane: ALiBi positions that are made
from a mask, flash attention, layers with an index or with the keys of other layers.

A turn encodes its prompt into a cache of the model's own kind and writes from there. Turns that run
at the same time share forwards where that was proved, padded on the left; and a turn continues from
the keys and values of the answer's last one where these can be cut out of the cache. Models that
keep a state in their modules run one answer at a time. Models with a cache that cannot be used run
without one, with a whole forward per token. `taketurns check` reports the models that need this.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from taketurns.engines.local.logits import corrected
from taketurns.engines.local.members import ModelCounters
from taketurns.engines.local.memory import CacheSize
from taketurns.engines.local.next_token import draw_tokens
from taketurns.engines.local.padded_forward import PaddedForward, RowOutputs
from taketurns.engines.local.plain_forward import Carried, PlainForward, kv_argument
from taketurns.engines.local.requests import (
    GenerateRequest,
    PromptScoreRequest,
    ScoreRequest,
)
from taketurns.engines.local.scheduler import BLOCK_TOKENS, BatchRunner
from taketurns.engines.local.stopping import follows, over
from taketurns.engines.local.text_caches import (
    KeysAndValues,
    TextCache,
    as_cache,
    cut,
    keys_and_values,
    selected,
    stacked,
)

_SLACK = 64  # columns of padding that a batch may have beside as many as it has tokens


@dataclass(frozen=True, slots=True)
class Reencoding:
    """How texts are encoded. `rows`: the most of a forward. `caches`: a turn writes from a cache of
    the model's own kind. `alone`: only one turn runs at a time. `continued_bytes`: what a token
    takes in a cache that the next turn continues from; None if it begins anew."""

    rows: int = 1
    caches: bool = True
    alone: bool = False
    continued_bytes: int | None = None


@dataclass(slots=True, eq=False)
class _Row:
    """A text in a batch: the prompt, then what was written; the last of `tokens` is not encoded."""

    job: GenerateRequest | ScoreRequest
    tokens: list[int]
    known: TextCache | None = None
    done: bool = False

    @property
    def begun(self) -> bool:
        """Whether it has written a token."""
        return len(self.tokens) > len(self.job.prompt)

    @property
    def missing(self) -> int:
        return len(self.tokens) - (0 if self.known is None else self.known.common(self.tokens))

    @property
    def wants_hidden(self) -> bool:
        if isinstance(self.job, ScoreRequest):
            return self.job.want == "hidden"
        return follows(self.job, first=not self.begun)


@dataclass(slots=True, eq=False)
class _Batch:
    """Texts in one cache of `columns`; `pads` are the columns of padding in front of each. Only a
    batch that `joins` may be put together with others."""

    rows: list[_Row]
    pads: list[int]
    columns: int
    carried: Carried | None
    joins: bool = True

    def layers(self) -> KeysAndValues | None:
        """What its cache holds, if texts can be cut out of it."""
        return keys_and_values(self.carried, len(self.rows), self.columns)

    @property
    def tokens(self) -> int:
        """How many tokens its cache holds, without padding."""
        return len(self.rows) * self.columns - sum(self.pads)


class ReencodeRunner(BatchRunner):
    """Encodes the text of each turn, in one of the ways of `Reencoding`."""

    def __init__(
        self, plain: PlainForward, suppressed: Sequence[int] = (), how: Reencoding = Reencoding()
    ) -> None:
        super().__init__()
        self.counters = ModelCounters()
        self._suppressed = list(suppressed)
        self._plain = plain
        self._forward = PaddedForward(plain)
        self._how = how
        self._batches: list[_Batch] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._batches)

    @property
    def lane_bytes(self) -> int:
        layers = (batch.layers() or () for batch in self._batches)
        return sum(tensor.nbytes for pairs in layers for pair in pairs for tensor in pair)

    @property
    def cache(self) -> CacheSize:
        """What is kept of an answer. It counts twice, because a batch may have as much padding."""
        size = self._how.continued_bytes
        return CacheSize() if size is None else CacheSize(((0, 2 * size),), elastic=True)

    def counters_of(self, model: str) -> ModelCounters:
        return self.counters

    def forget(self) -> None:
        self.counters = ModelCounters()

    @torch.inference_mode()
    def step(self) -> None:
        """One round: write one token for every running turn, then take in waiting jobs. An error of
        the model fails a job only if it also occurs when the job runs alone."""
        begun = time.perf_counter()
        rows = [row for batch in self._batches for row in batch.rows]
        try:
            self._round(rows)
        except Exception as error:  # such as no memory to move texts to another batch
            self._batches.clear()
            for row in rows:
                if not row.done:
                    _fail(row, error)
        self.counters.seconds += time.perf_counter() - begun
        self.counters.peak_lane_bytes = max(self.counters.peak_lane_bytes, self.lane_bytes)

    def _round(self, rows: list[_Row]) -> None:
        running, self._batches = self._drop_cancelled(), []
        going = [row for batch in running for row in batch.rows if not row.done]
        waiting = self._take_waiting(len(going))
        rows += waiting
        if self._how.caches:
            for batch in running:
                self._write(batch)
            going = []
        for group in self._groups([*going, *waiting]):
            self._encode(group)
        if self._how.rows > 1:
            self._join()

    def reject_all(self, error: Exception) -> None:
        running = [row.job for batch in self._batches for row in batch.rows if not row.done]
        for job in [*running, *self._waiting]:
            job.reject(error)
        self._batches.clear()
        self._waiting.clear()

    # Who is in a batch

    def _drop_cancelled(self) -> list[_Batch]:
        for batch in self._batches:
            for row in batch.rows:
                row.done = row.done or row.job.cancelled
        return [left for batch in self._batches if (left := self._without_done(batch)) is not None]

    def _take_waiting(self, live: int) -> list[_Row]:
        """First come, first served; scores of prompts are computed at once."""
        most = self._how.rows - live if self._how.rows > 1 else 1
        if self._how.alone and live:
            most = 0
        taken: list[_Row] = []
        while self._waiting and len(taken) < most:
            job = self._waiting.popleft()
            if job.cancelled:
                continue
            if isinstance(job, PromptScoreRequest):
                self._score_prompt(job)
            elif isinstance(job, GenerateRequest | ScoreRequest):
                taken.append(self._row(job))
        return taken

    def _row(self, job: GenerateRequest | ScoreRequest) -> _Row:
        known, job.parked.cache = job.parked.cache, None
        row = _Row(job, list(job.prompt), known)
        if isinstance(job, GenerateRequest):
            job.cached_tokens = len(job.prompt) - row.missing
        return row

    def _groups(self, rows: Iterable[_Row]) -> list[list[_Row]]:
        """Cut rows into groups that are encoded together, so that little of each is padding."""
        if self._how.rows == 1:
            return [[row] for row in rows]
        groups: list[list[_Row]] = []

        def kind(row: _Row) -> tuple[bool, bool]:
            return row.wants_hidden, row.begun

        for _, alike in groupby(sorted(rows, key=lambda row: (kind(row), row.missing)), kind):
            real = 0
            group: list[_Row] = []
            for row in alike:
                real += row.missing
                rectangle = row.missing * (len(group) + 1)
                if not group or rectangle > min(BLOCK_TOKENS, 2 * real + _SLACK):
                    group, real = [], row.missing
                    groups.append(group)
                group.append(row)
        return groups

    def _join(self) -> None:
        """Put batches together, as long as no more than half of what they hold becomes padding."""
        joined: list[_Batch] = []
        for batch in sorted(self._batches, key=lambda batch: batch.columns):
            last = joined[-1] if joined else None
            if last is None or not self._fits(last, batch):
                joined.append(batch)
                continue
            parts = [(each.layers(), each.columns) for each in (last, batch)]
            layers = stacked(parts, batch.columns)
            wider = batch.columns - last.columns
            joined[-1] = _Batch(
                [*last.rows, *batch.rows],
                [*(pad + wider for pad in last.pads), *batch.pads],
                batch.columns,
                as_cache(self._plain.model, layers),
            )
        self._batches = joined

    def _fits(self, shorter: _Batch, longer: _Batch) -> bool:
        rows, tokens = len(shorter.rows) + len(longer.rows), shorter.tokens + longer.tokens
        return (
            shorter.joins
            and longer.joins
            and rows * longer.columns <= 2 * tokens + rows * _SLACK
            and shorter.layers() is not None
            and longer.layers() is not None
        )

    def _without_done(self, batch: _Batch) -> _Batch | None:
        """The batch without the rows that are done; None if no other is left. They stay, without
        a job, in a cache that cannot do without them."""
        kept = [place for place, row in enumerate(batch.rows) if not row.done]
        if not kept:
            return None
        if len(kept) == len(batch.rows):
            return batch
        rows, pads = [batch.rows[at] for at in kept], [batch.pads[at] for at in kept]
        if batch.carried is None:
            return _Batch(rows, pads, batch.columns, None, batch.joins)
        layers = batch.layers()
        if layers is not None:
            start = min(pads)
            left = as_cache(self._plain.model, selected(layers, kept, start))
            pads = [pad - start for pad in pads]
            return _Batch(rows, pads, batch.columns - start, left, batch.joins)
        try:
            batch.carried.cache.batch_select_indices(torch.tensor(kept, device=self._plain.device))
        except (AttributeError, NotImplementedError):
            return batch
        return _Batch(rows, pads, batch.columns, batch.carried, batch.joins)

    # What they compute

    def _score_prompt(self, job: PromptScoreRequest) -> None:
        try:
            self.counters.forwards += 1
            self.counters.encoded_tokens += len(job.prompt)
            job.read(self._plain(job.prompt).logits[0])
            job.finished()
        except Exception as error:  # a model's error fails only this job
            job.reject(error)

    def _encode(self, group: list[_Row], *, joins: bool = True) -> None:
        """Encode what is missing of a group, and sample its next tokens."""
        try:
            batch, seen = self._read(group, joins)
        except Exception as error:  # a model may raise anything
            self._separate(group, error)
            return
        self._sample(batch, seen)

    def _read(self, group: list[_Row], joins: bool) -> tuple[_Batch, RowOutputs]:
        """All rows read equally many tokens, if they have them, so that there is no padding but in
        front of a text."""
        missing = max(row.missing for row in group)
        fed = [min(missing, len(row.tokens)) for row in group]
        before = [len(row.tokens) - count for row, count in zip(group, fed, strict=True)]
        columns = max(before) + missing
        carried = self._fresh()
        if any(before):
            blocks = [
                (row.known.layers if own and row.known is not None else None, own)
                for row, own in zip(group, before, strict=True)
            ]
            carried = as_cache(self._plain.model, stacked(blocks, max(before)))
        pads = [columns - len(row.tokens) for row in group]
        seen = self._forward(
            [row.tokens[-count:] for row, count in zip(group, fed, strict=True)],
            pads,
            columns,
            carried=carried,
            carries=self._how.caches and not all(_looks(row) and not self._keeps for row in group),
            hidden=any(row.wants_hidden for row in group),
        )
        self.counters.forwards += 1
        self.counters.encoded_tokens += sum(fed)
        for row in group:
            row.known = None
        return _Batch(group, pads, columns, seen.carried, joins), seen

    @property
    def _keeps(self) -> bool:
        return self._how.continued_bytes is not None

    def _fresh(self) -> Carried | None:
        """The cache at the start of a turn: None, so that the model makes one of its own kind. A
        model that keeps a state in its modules returns no cache, so it gets one here."""
        if not (self._how.caches and self._how.alone):
            return None
        model = self._plain.model
        return Carried(kv_argument(model), DynamicCache(config=model.config))

    def _write(self, batch: _Batch) -> None:
        """One more token for each row of a batch."""
        try:
            seen = self._forward(
                [row.tokens[-1:] for row in batch.rows],
                batch.pads,
                batch.columns + 1,
                carried=batch.carried,
                carries=True,
                hidden=any(row.wants_hidden for row in batch.rows if not row.done),
            )
        except Exception as error:  # a model may raise anything
            self._separate([row for row in batch.rows if not row.done], error)
            return
        self.counters.forwards += 1
        self.counters.encoded_tokens += sum(not row.done for row in batch.rows)
        batch.columns, batch.carried = batch.columns + 1, seen.carried
        self._sample(batch, seen)

    def _separate(self, rows: list[_Row], error: Exception) -> None:
        """After an error, encode each row alone, so that only those fail that cause it."""
        if len(rows) == 1:
            rows[0].done = True
            rows[0].job.reject(error)
            return
        for row in rows:
            row.known = None
            self._encode([row], joins=False)

    def _sample(self, batch: _Batch, seen: RowOutputs) -> None:
        """Give the rows of a batch what was computed; those that go on stay in it."""
        looking = [at for at, row in enumerate(batch.rows) if _looks(row) and not row.done]
        writing = [at for at, row in enumerate(batch.rows) if not _looks(row) and not row.done]
        encoded = [len(row.tokens) for row in batch.rows]
        ended = [
            at
            for at in looking
            if self._look(batch.rows[at], seen.logits[at], [state[at] for state in seen.hidden])
        ]
        if writing:
            rows = [batch.rows[at] for at in writing]
            # Most criteria have no hidden states before a patch's first token.
            shown = rows[0].begun or rows[0].wants_hidden
            hidden = tuple(state[writing] for state in seen.hidden) if shown else ()
            over = self._write_tokens(rows, seen.logits[writing], hidden)
            ended += [writing[place] for place in over]
        layers = batch.layers() if ended and self._keeps else None
        for at in ended:
            row = batch.rows[at]
            job = row.job
            if layers is not None and job.failure is None and not job.cancelled:
                job.parked.cache = cut(layers, at, batch.pads[at], row.tokens[: encoded[at]])
            row.done = True
            job.finished()
        if (left := self._without_done(batch)) is not None:
            self._batches.append(left)

    def _look(self, row: _Row, logits: Tensor, hidden: Sequence[Tensor]) -> bool:
        """Give a row's job logits and hidden states; False if it fails."""
        assert isinstance(row.job, ScoreRequest), "only scores look"
        try:
            row.job.look(logits, hidden)
        except Exception as error:  # it fails only this job
            _fail(row, error)
        return not row.done

    def _write_tokens(
        self, rows: Sequence[_Row], logits: Tensor, hidden: Sequence[Tensor]
    ) -> list[int]:
        """Write a token for each row. Returns the places of the rows that end by it or before."""
        jobs = [row.job for row in rows if isinstance(row.job, GenerateRequest)]
        logits = corrected(logits, [job.sampling.correction for job in jobs])
        ends = over(jobs, logits, hidden)
        ended = [place for place, end in enumerate(ends) if end]
        going = [place for place, end in enumerate(ends) if not end]
        for place, token in self._draw(rows, jobs, going, logits):
            self.counters.written_tokens += 1
            rows[place].tokens.append(token)
            try:
                if jobs[place].take(token, logits[place]) is not None:
                    ended.append(place)
            except Exception as error:  # a constraint or a criterion fails only its own job
                _fail(rows[place], error)
        return ended

    def _draw(
        self,
        rows: Sequence[_Row],
        jobs: Sequence[GenerateRequest],
        going: Sequence[int],
        logits: Tensor,
    ) -> list[tuple[int, int]]:
        """A token for each place of `going`, but for those whose constraint fails."""
        if not going:
            return []
        try:
            chosen = [jobs[place] for place in going]
            tokens = draw_tokens(logits[going], chosen, self._suppressed)
        except Exception as error:  # each is drawn again, from further random numbers
            if len(going) > 1:
                return [pair for at in going for pair in self._draw(rows, jobs, [at], logits)]
            _fail(rows[going[0]], error)
            return []
        return list(zip(going, tokens, strict=True))


def _looks(row: _Row) -> bool:
    return isinstance(row.job, ScoreRequest)


def _fail(row: _Row, error: Exception) -> None:
    row.done = True
    row.job.reject(error)
