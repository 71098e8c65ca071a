"""The ways of running a model, the fastest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from taketurns.engines.local import batch_invariant, packed_products, state_kernels
from taketurns.engines.local.continuation import continued_bytes
from taketurns.engines.local.equivalence import bound
from taketurns.engines.local.forward import Forward
from taketurns.engines.local.kv import probe
from taketurns.engines.local.loading import LoadedModel
from taketurns.engines.local.masks import has_index
from taketurns.engines.local.members import Member
from taketurns.engines.local.plain_forward import PlainForward, Unfit
from taketurns.engines.local.reencode import ReencodeRunner, Reencoding
from taketurns.engines.local.requests import UNNAMED
from taketurns.engines.local.scheduler import BatchRunner, LaneRunner


class Way(StrEnum):
    """A way of running a model: what it keeps between tokens and between turns."""

    KEPT = "cache kept"
    BATCHED = "re-encoded, in batches"
    REENCODED = "re-encoded"
    ALONE = "re-encoded, one answer at a time"
    WHOLE = "whole forward a token"

    @property
    def costs(self) -> str:
        """Its extra work, as a clause whose subject is the model."""
        return _COSTS[self]


_COSTS = {
    Way.KEPT: "keeps its cache between turns",
    Way.BATCHED: (
        "encodes its prompt again at a turn, unless it can go on from a copy of the last turn's "
        "cache, and runs in batches that are not exact"
    ),
    Way.REENCODED: (
        "encodes its prompt again at a turn, unless it can go on from a copy of the last turn's "
        "cache, and no two answers share a forward"
    ),
    Way.ALONE: "encodes its whole prompt again at every turn and writes one answer at a time",
    Way.WHOLE: ("encodes the whole text again for every token, and no two answers share a forward"),
}


@dataclass(frozen=True, slots=True)
class Running:
    """Settings for running a model: in exact rounds or not, the most rows of a batch, the ids that
    it must not write, and whether a model that cannot be run in exact rounds `may_batch`. `shares`:
    its rows may be in one forward with those of others on the same weights. `model` is its name in
    the runner."""

    deterministic: bool
    max_lanes: int
    suppressed: Sequence[int] = ()
    may_batch: bool = True
    shares: bool = True
    model: str = UNNAMED


def make_runner(way: Way, loaded: LoadedModel, running: Running) -> BatchRunner:
    """A runner of this way, in exact rounds if requested and possible for the model. Raises Unfit
    if the model cannot be run in this way."""
    model = loaded.model
    plain = PlainForward(model, loaded.activate)
    if way is not Way.KEPT:
        return ReencodeRunner(plain, running.suppressed, _reencoding(way, plain, running))
    shape, masks = probe(model)
    forward = Forward(model, masks, loaded.activate, loaded.rows)
    runner = LaneRunner(
        forward,
        shape,
        max_lanes=running.max_lanes,
        model=running.model,
        member=Member(loaded.adapter, tuple(running.suppressed)),
        continues=not shape.states or state_kernels.continues(forward, shape, bound(plain)),
    )
    if running.deterministic and (batch_invariant.enable(model) or not shape.attends):
        runner.exact = exact_shapes(model, runner, running.max_lanes)
    return runner


def exact_shapes(model: Any, runner: LaneRunner, max_lanes: int) -> batch_invariant.Shapes | None:
    """The shapes of a model's exact rounds, with the current number of threads; None if there are
    none. Weights stay packed if with them an answer needs no rows beside it."""
    shapes = _packed_shapes(model, max_lanes)
    runner.forward.packed = shapes is not None
    if shapes is None:
        shapes = batch_invariant.measure(model, max_lanes)
    if shapes is None or not runner.shape.states:
        return shapes
    return state_kernels.agreeing(runner.forward, runner.shape, shapes, max_lanes)


def _packed_shapes(model: Any, max_lanes: int) -> batch_invariant.Shapes | None:
    """The shapes with packed weights; None if rows do not agree in all of them, so that packing is
    of no use."""
    before = packed_products.is_packed(model)
    if not packed_products.pack(model):
        return None
    with packed_products.used():
        shapes = batch_invariant.measure(model, max_lanes)
    if shapes is not None and shapes.rows == 1 and shapes.together:
        return shapes
    if not before:  # another adapter may use them
        packed_products.unpack(model)
    return None


def _reencoding(way: Way, plain: PlainForward, running: Running) -> Reencoding:
    if way is Way.WHOLE:
        return Reencoding(caches=False)
    if way is Way.ALONE:
        return Reencoding(alone=True)
    if way is Way.BATCHED and not running.may_batch:
        raise Unfit("with engine.deterministic: true its answers must not share forwards")
    if way is Way.BATCHED and has_index(plain.model.config.get_text_config()):
        raise Unfit("its layers choose the keys that they look at, which padding may change")
    rows = running.max_lanes if way is Way.BATCHED else 1
    return Reencoding(rows, continued_bytes=continued_bytes(plain))
