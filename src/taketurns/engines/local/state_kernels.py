"""What a model's kernels for states can do, found out by running them.

Most read several tokens after a state. The scan of Mamba's first version begins at 0 whatever the
state is, so such a model reads further tokens one by one, or its prompt from the beginning.

In exact rounds a step must give a row the same bits in a batch of any size. The products are
measured by `engines/local/batch_invariant.py`; this module runs whole steps from random states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from taketurns.engines.local.batch_invariant import Shapes, visible
from taketurns.engines.local.equivalence import apart
from taketurns.engines.local.forward import Forward
from taketurns.engines.local.kv import CacheShape, LanePool
from taketurns.engines.local.states import Snapshot

_FIRST, _NEXT = 5, 4  # tokens before a state and after it
_TRIED_BYTES = 1 << 30  # of the states of the largest step that is tried


@torch.inference_mode()
def continues(forward: Forward, shape: CacheShape, bound: float) -> bool:
    """Whether several tokens that are read after others give the logits of one forward over all;
    they may differ by `bound` (`engines/local/equivalence.py` has the measure)."""
    pool = LanePool(shape)
    pool.reserve(2, _FIRST + _NEXT + 1, 0)
    whole = _read(forward, pool, 0, 0, _FIRST + _NEXT)
    _read(forward, pool, 1, 0, _FIRST)
    return apart(_read(forward, pool, 1, _FIRST, _NEXT), whole) <= bound


def _read(forward: Forward, pool: LanePool, lane: int, start: int, tokens: int) -> Tensor:
    at = np.arange(start, start + tokens)[None]
    pool.plan(lane, torch.from_numpy(at), start + tokens)
    with pool.states.reading(lane, [tokens], 1, pool.lanes):
        return forward(at, at, start + tokens, pool).logits


@torch.inference_mode()
def agreeing(forward: Forward, shape: CacheShape, shapes: Shapes, lanes: int) -> Shapes:
    """`shapes` without the batches in which a step's rows do not agree. Answers whose prompts are
    longer than a token are encoded alone: no row of theirs may be padded."""
    rows = shapes.rows
    lanes = min(max(lanes, 64), shapes.most)
    pool = LanePool(shape)
    pool.states.multiple = rows
    fitting = max(1, _TRIED_BYTES // max(1, rows * pool.states.bytes_per_lane))
    largest = max(1, min(-(-lanes // rows), fitting))
    pool.reserve(rows * largest, visible(1) + 1, 0)
    random = torch.Generator().manual_seed(0)
    begin = [
        Snapshot(
            0,
            tuple(
                torch.randn(state.shape, generator=random).to(state.device, state.dtype)
                for state in shape.states
            ),
        )
        for _ in range(rows)
    ]
    alone = _step(forward, pool, begin, 1)
    agreed = 0
    for batch in sorted({1, 2, 3, largest}):
        if batch > largest:
            break
        if not all(map(torch.equal, alone, _step(forward, pool, begin, batch))):
            return replace(shapes, most=rows * max(1, agreed), together=False)
        agreed = batch
    return replace(shapes, together=False)


def _step(
    forward: Forward, pool: LanePool, begin: list[Snapshot], batch: int
) -> tuple[Tensor, ...]:
    """A step of `batch` times the rows that have the states `begin`: the logits and states of the
    last of them."""
    rows = len(begin)
    count = rows * batch
    for lane in range(count):
        pool.states.load(lane, begin[lane % rows])
    ids = np.tile(np.arange(rows), batch)[:, None]
    at = np.zeros((count, 1), dtype=np.int64)
    keys = visible(1)
    pool.plan(0, torch.from_numpy(at), keys)
    with pool.states.reading(0, [1] * count, count, count):
        logits = forward(ids, at, keys, pool).logits
    last = [pool.states.save(lane, 1).states for lane in range(count - rows, count)]
    return (logits[-rows:].clone(), *(state for states in last for state in states))
