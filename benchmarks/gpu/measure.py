"""One batch: a team and one model alone in the same rounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from time import monotonic

import torch

from benchmarks.costs.budget import Budget, interleave
from benchmarks.costs.rows import NO_TIME, Row, Spread, left_out
from benchmarks.costs.ways import extra_work
from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.overhead import warm_up
from benchmarks.overhead.variants import VARIANTS, VariantRun
from benchmarks.overhead.workload import Workload
from taketurns.errors import TakeTurnsError

VARIANTS_TIMED = ("single", "kept")
WHAT = "{}: team / one"


def batch_row(
    pool: ModelPool,
    workload: Workload,
    seconds: float,
    most: int,
    budget: Budget,
    first: float,
    about: str,
) -> tuple[Row, float]:
    """The row of a workload, of up to `most` rounds in `seconds`, and the mean seconds of a round.
    `first` is what a round takes at least, `about` a note. Models that cannot run, for want of
    memory or otherwise, give a row with the reason."""
    what, batch, tokens = WHAT.format(pool.name), workload.batch, workload.tokens
    out = partial(left_out, pool.name, what, batch, tokens)
    if first >= budget.left:
        return out(NO_TIME), first
    runs: dict[str, Callable[[], VariantRun]] = {
        name: partial(VARIANTS[name], pool, workload) for name in VARIANTS_TIMED
    }
    try:
        slow = extra_work(pool)
        warm_up(pool, batch, VARIANTS_TIMED)
        begun = monotonic()
        rounds = interleave(runs, seconds, most, left=budget.left, first=first)
    except (TakeTurnsError, torch.OutOfMemoryError) as error:
        return out(str(error).partition("\n")[0]), first
    if not rounds:
        return out(NO_TIME), first
    mean = (monotonic() - begun) / len(rounds)
    took = {name: median(round_[name].seconds for round_ in rounds) for name in VARIANTS_TIMED}
    rates = {name: batch * tokens / seconds for name, seconds in took.items()}
    peaks = {
        name: max(round_[name].peak or 0 for round_ in rounds) / 2**30 for name in VARIANTS_TIMED
    }
    written = f"team {rates['kept']:.0f}, one {rates['single']:.0f} tokens a second"
    memory = f"peak {peaks['kept']:.1f} and {peaks['single']:.1f} GiB beside the weights"
    row = Row(
        pool.name,
        what,
        batch,
        tokens,
        len(rounds),
        Spread.of([round_["kept"].seconds / round_["single"].seconds for round_ in rounds]),
        note="; ".join(filter(None, [written, memory, about, slow])),
        measured={
            **{f"{name}_seconds": seconds for name, seconds in took.items()},
            **{f"{name}_tokens_per_second": rate for name, rate in rates.items()},
            **{f"{name}_peak_gib": peak for name, peak in peaks.items()},
        },
    )
    return row, mean
