"""The ways of running a model, the fastest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from taketurns.engines.local import batch_invariant
from taketurns.engines.local.forward import Forward
from taketurns.engines.local.kv import probe
from taketurns.engines.local.loading import LoadedModel
from taketurns.engines.local.plain_forward import PlainForward
from taketurns.engines.local.reencode import ReencodeRunner
from taketurns.engines.local.scheduler import BatchRunner, LaneRunner


class Way(StrEnum):
    """A way of running a model: what it keeps between tokens and between turns."""

    KEPT = "cache kept"
    REENCODED = "re-encoded"
    ALONE = "re-encoded, one answer at a time"
    WHOLE = "whole forward a token"

    @property
    def costs(self) -> str:
        """Its extra work, as a clause whose subject is the model."""
        return _COSTS[self]


_COSTS = {
    Way.KEPT: "keeps its cache between turns",
    Way.REENCODED: "encodes its whole prompt again at every turn",
    Way.ALONE: "encodes its whole prompt again at every turn and writes one answer at a time",
    Way.WHOLE: "encodes the whole text again for every token",
}


@dataclass(frozen=True, slots=True)
class Running:
    """Settings for running a model: in exact rounds or not, the most rows of a batch, and the ids
    that it must not write."""

    deterministic: bool
    max_lanes: int
    suppressed: Sequence[int] = ()


def make_runner(way: Way, loaded: LoadedModel, running: Running) -> BatchRunner:
    """A runner of this way, in exact rounds if requested and possible for the model. Raises Unfit
    if the model cannot be run in this way."""
    model = loaded.model
    if way is not Way.KEPT:
        caches, alone = way is not Way.WHOLE, way is Way.ALONE
        plain = PlainForward(model, loaded.activate)
        return ReencodeRunner(plain, running.suppressed, caches=caches, alone=alone)
    shapes, masks = probe(model)
    runner = LaneRunner(
        Forward(model, masks, loaded.activate),
        shapes,
        max_lanes=running.max_lanes,
        suppressed=running.suppressed,
    )
    if running.deterministic and batch_invariant.enable(model):
        runner.exact = batch_invariant.measure(model, running.max_lanes)
    return runner
