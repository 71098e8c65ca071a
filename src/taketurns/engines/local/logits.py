"""What requests ask of their distributions beside temperature and top-p (`SamplingOptions`), for
all rows of a batch at once.

The order is vLLM's: tokens that may not be written, biases, the penalties for repetition, frequency
and presence, and then, where a token is drawn, min-p and top-k; top-p follows in `sample`. A row
that asks for nothing is not touched, and no row's numbers depend on another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, log

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taketurns.engines.local.sampling import COLDEST
from taketurns.types import Sampling, SamplingOptions

Ids = npt.NDArray[np.int64]
_NOTHING = SamplingOptions()


class LogitsShaper:
    """What one request asks for, and the tokens that its penalties count."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], ends: frozenset[int]) -> None:
        options = sampling.options
        self.options = options
        self.temperature = sampling.temperature
        self._written = 0
        own = ends.union(sampling.stop_token_ids)
        self._own_ends = np.array(sorted(own), dtype=np.int64)
        self._all_ends = np.array(sorted(own.union(options.stop_token_ids)), dtype=np.int64)
        self.biased = np.array([token for token, _ in options.logit_bias], dtype=np.int64)
        self.biases = np.array([bias for _, bias in options.logit_bias], dtype=np.float32)
        self.penalises = bool(
            options.presence_penalty
            or options.frequency_penalty
            or options.repetition_penalty != 1.0
        )
        self.counted = _Counted()
        if self.penalises:
            start = len(prompt) if sampling.answer_start is None else sampling.answer_start
            before = prompt[:start] if options.repetition_penalty != 1.0 else ()
            self.counted.begin(before, prompt[start:])

    @classmethod
    def of(
        cls, sampling: Sampling, prompt: Sequence[int], ends: frozenset[int]
    ) -> LogitsShaper | None:
        """The shaper of a request that continues `prompt`, whose model has the end tokens `ends`;
        None where it asks for nothing."""
        told = replace(sampling.options, stop_token_ids=(), skip_special_tokens=True)
        return None if told == _NOTHING else cls(sampling, prompt, ends)

    def wrote(self, token: int) -> None:
        """A token of the answer was written."""
        self._written += 1
        if self.penalises:
            self.counted.add(token)

    @property
    def banned(self) -> Ids:
        """The tokens that may not be written next."""
        if self._written < self.options.min_tokens:
            return self._all_ends
        return self._own_ends if self.options.ignore_eos else self._own_ends[:0]


class _Counted:
    """Distinct tokens of prompt and answer, and how often each is in the answer: arrays that grow,
    so that a step costs no more than what it reads of them."""

    def __init__(self) -> None:
        self._ids = np.zeros(0, dtype=np.int64)
        self._counts = np.zeros(0, dtype=np.float32)
        self._size = 0
        self._at: dict[int, int] = {}

    def begin(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Count what stands there already."""
        seen, counts = np.unique(np.array(answer, dtype=np.int64), return_counts=True)
        only_before = np.setdiff1d(np.array(prompt, dtype=np.int64), seen)
        self._ids = np.concatenate((seen, only_before))
        self._counts = np.zeros(len(self._ids), dtype=np.float32)
        self._counts[: len(seen)] = counts
        self._size = len(self._ids)
        self._at = {token: at for at, token in enumerate(self._ids.tolist())}

    def add(self, token: int) -> None:
        """One more of a token in the answer."""
        at = self._at.get(token)
        if at is None:
            at = self._at[token] = self._size
            if at == len(self._ids):
                room = max(16, at)
                self._ids = np.concatenate((self._ids, np.zeros(room, dtype=np.int64)))
                self._counts = np.concatenate((self._counts, np.zeros(room, dtype=np.float32)))
            self._ids[at] = token
            self._size += 1
        self._counts[at] += 1

    @property
    def ids(self) -> Ids:
        return self._ids[: self._size]

    @property
    def counts(self) -> npt.NDArray[np.float32]:
        return self._counts[: self._size]


def shaped(
    logits: Tensor, shapers: Sequence[LogitsShaper | None], columns: Ids | None = None
) -> Tensor:
    """`logits` `[rows, outcomes]` as the shaper of each row asks; they stay as they are. `columns`
    says where each token id stands among the outcomes (-1: nowhere); None: at its own place."""
    rows = [row for row, shaper in enumerate(shapers) if shaper is not None]
    if not rows:
        return logits
    some = [shaper for shaper in shapers if shaper is not None]
    part = logits[rows].float()  # a copy
    _ban(part, some, columns)
    _bias(part, some, columns)
    _penalise(part, some, columns)
    _leave_out(part, some)
    if len(rows) == len(shapers):
        return part
    return logits.float().index_copy(0, torch.tensor(rows, device=logits.device), part)


def corrected(logits: Tensor, corrections: Sequence[Tensor | None]) -> Tensor:
    """`logits` `[rows, vocabulary]` with the `Sampling.correction` of each row; they stay as they
    are, and so do rows without one."""
    rows = [row for row, correction in enumerate(corrections) if correction is not None]
    if not rows:
        return logits
    added = torch.full((len(rows), logits.shape[-1]), -inf, device=logits.device)
    for place, correction in enumerate(c for c in corrections if c is not None):
        known = min(len(correction), logits.shape[-1])
        added[place, :known] = correction[:known]
    return logits.float().index_add(0, torch.tensor(rows, device=logits.device), added)


def _ban(logits: Tensor, shapers: Sequence[LogitsShaper], columns: Ids | None) -> None:
    """No end token where none may be written; but where nothing else is left, as where an answer's
    format is complete, the answer ends."""
    cells = _Cells.of([shaper.banned for shaper in shapers], logits, columns)
    if cells is None:
        return
    before = logits[cells.row, cells.column]
    logits[cells.row, cells.column] = -inf
    nothing = logits.isneginf().all(-1)[cells.row]
    logits[cells.row[nothing], cells.column[nothing]] = before[nothing]


def _bias(logits: Tensor, shapers: Sequence[LogitsShaper], columns: Ids | None) -> None:
    cells = _Cells.of([shaper.biased for shaper in shapers], logits, columns)
    if cells is not None:
        added = cells.values([shaper.biases for shaper in shapers])
        logits[cells.row, cells.column] += added


def _penalise(logits: Tensor, shapers: Sequence[LogitsShaper], columns: Ids | None) -> None:
    cells = _Cells.of([shaper.counted.ids for shaper in shapers], logits, columns)
    if cells is None:
        return
    counts = cells.values([shaper.counted.counts for shaper in shapers])
    repetition, frequency, presence = (
        cells.repeated([getattr(shaper.options, name) for shaper in shapers])
        for name in ("repetition_penalty", "frequency_penalty", "presence_penalty")
    )
    value = logits[cells.row, cells.column]
    value = torch.where(value > 0, value / repetition, value * repetition)
    value = value - frequency * counts
    value = value - presence * (counts > 0)
    logits[cells.row, cells.column] = value


def _leave_out(logits: Tensor, shapers: Sequence[LogitsShaper]) -> None:
    """Min-p and top-k: what is below a row's floor cannot be drawn. The most probable tokens pass
    both, so neither changes what the other leaves."""
    drawn = [row for row, shaper in enumerate(shapers) if shaper.temperature >= COLDEST]
    counted = [row for row in drawn if shapers[row].options.top_k > 0]
    weighed = [row for row in drawn if shapers[row].options.min_p > 0]
    if not counted and not weighed:
        return
    floor = torch.full((len(shapers),), -inf, device=logits.device)
    if counted:
        kept = [min(shapers[row].options.top_k, logits.shape[-1]) for row in counted]
        ranked = logits[counted].topk(max(kept), -1).values
        last = torch.tensor([[count - 1] for count in kept], device=logits.device)
        floor[counted] = ranked.gather(1, last).squeeze(1)
    if weighed:
        below = torch.tensor(
            [shapers[row].temperature * log(shapers[row].options.min_p) for row in weighed],
            dtype=logits.dtype,
            device=logits.device,
        )
        floor[weighed] = torch.maximum(floor[weighed], logits[weighed].amax(-1) + below)
    logits.masked_fill_(logits < floor[:, None], -inf)


class _Cells:
    """Single places in a batch of logits, some a row: `row` and `column` are int64
    `[places]`."""

    def __init__(self, lengths: Sequence[int], places: Ids, keep: Ids, device: torch.device):
        self._lengths = lengths
        self._keep = keep
        self._device = device
        self.row = self._moved(np.repeat(np.arange(len(lengths)), lengths)[keep])
        self.column = self._moved(places[keep])

    @classmethod
    def of(cls, ids: Sequence[Ids], logits: Tensor, columns: Ids | None) -> _Cells | None:
        """The places of these token ids, a list a row; those that the logits do not have are left
        out. None where there are none."""
        places = np.concatenate(ids)
        if not len(places):
            return None
        known = logits.shape[-1] if columns is None else len(columns)
        keep = places < known
        if columns is not None:
            places = np.where(keep, columns[np.minimum(places, known - 1)], -1)
            keep = places >= 0
        (kept,) = keep.nonzero()
        return cls([len(some) for some in ids], places, kept, logits.device) if len(kept) else None

    def values(self, parts: Sequence[npt.NDArray[np.float32]]) -> Tensor:
        """A number a place, from those of each row."""
        return self._moved(np.concatenate(parts)[self._keep])

    def repeated(self, numbers: Sequence[float]) -> Tensor:
        """A number a place, from one a row."""
        each = np.array(numbers, dtype=np.float32)
        return self._moved(np.repeat(each, self._lengths)[self._keep])

    def _moved(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device)
