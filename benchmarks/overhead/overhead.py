"""Time all variants on one workload, interleaved, and compare them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from benchmarks.overhead.floor import ForwardWork, Rates, switcher_work, team_work
from benchmarks.overhead.models import ModelPool
from benchmarks.overhead.rates import measure_rates
from benchmarks.overhead.variants import VARIANTS, VariantRun
from benchmarks.overhead.workload import CANDIDATES, Workload
from taketurns.checkpoints.prompts import BEGINS, ENDS, QUESTION
from taketurns.checkpoints.text import TextCodec


@dataclass(frozen=True)
class Overhead:
    """The measurements on one workload.

    `seconds` are medians and `peak_bytes` maxima, by variant; `threads` is the number of threads of
    one operation. `rambling` is the time in seconds that the public loop would save if its switcher
    stopped after its first token. The rest is the work and rates of the floors.

    Ratios are of medians; None if a part was not measured.
    """

    models: str
    workload: Workload
    repeats: int
    threads: int
    seconds: Mapping[str, float]
    peak_bytes: Mapping[str, int | None]
    rambling: float
    team_work: ForwardWork
    switcher_work: ForwardWork
    rates: Rates

    @property
    def floor(self) -> float:
        """The least possible seconds of the team."""
        return self.rates.seconds(self.team_work)

    @property
    def floor_with_switcher(self) -> float:
        """The least possible seconds of the team with a switcher of a candidate's size."""
        return self.floor + self.rates.seconds(self.switcher_work)

    @property
    def ratios(self) -> dict[str, float | None]:
        took = self.seconds.get
        public = took("public")
        brief = None if public is None else public - self.rambling
        kept, asked = took("kept"), took("kept_with_switcher")
        return {
            "kept_over_single": _ratio(kept, took("single")),
            "kept_with_switcher_over_single": _ratio(asked, took("single")),
            "kept_over_floor": _ratio(kept, self.floor),
            "kept_with_switcher_over_floor": _ratio(asked, self.floor_with_switcher),
            "reencode_over_single": _ratio(took("reencode"), took("single")),
            "public_over_single": _ratio(public, took("single")),
            "public_over_kept_with_switcher": _ratio(public, asked),
            "public_brief_over_kept_with_switcher": _ratio(brief, asked),
            "deterministic_over_fast": _ratio(took("deterministic"), kept),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values: seconds, bytes and tokens."""
        return {
            "what": "overhead",
            "models": self.models,
            "batch": self.workload.batch,
            "tokens": self.workload.tokens,
            "prompt": self.workload.prompt,
            "patch": self.workload.patch,
            "clock": self.workload.clock,
            "repeats": self.repeats,
            "threads": self.threads,
            **self.ratios,
            "seconds": dict(self.seconds),
            "floor_seconds": self.floor,
            "floor_with_switcher_seconds": self.floor_with_switcher,
            "public_rambling_seconds": self.rambling,
            "caught_up_tokens": self.team_work.tokens_read,
            "switcher_tokens": self.switcher_work.tokens_read,
            "steps": {str(rows): count for rows, count in self.team_work.steps.items()},
            "step_seconds": {str(rows): took for rows, took in self.rates.step.items()},
            "read_token_seconds": {str(rows): took for rows, took in self.rates.read.items()},
            "peak_bytes": dict(self.peak_bytes),
        }


def measure(
    pool: ModelPool,
    workload: Workload,
    repeats: int,
    variants: Sequence[str] = tuple(VARIANTS),
    say: Callable[[str], None] = lambda what: None,
) -> Overhead:
    """Run the variants `repeats` times, in an order that rotates from round to round, so that a
    slow phase of the machine affects all of them alike."""
    pool.load()
    order = [name for name in variants if name != "deterministic" or pool.exact]
    team, switcher = team_work(workload), switcher_work_of(pool, workload)
    runs: dict[str, list[VariantRun]] = {name: [] for name in order}
    rates: list[Rates] = []
    for round_ in range(repeats):
        turn = round_ % len(order)
        for name in order[turn:] + order[:turn]:
            say(name)
            runs[name].append(VARIANTS[name](pool, workload))
        say("floor")
        rates.append(
            asyncio.run(
                measure_rates(pool, workload, team.steps.keys(), (team + switcher).read.keys())
            )
        )
    return Overhead(
        models=pool.name,
        workload=workload,
        repeats=repeats,
        threads=torch.get_num_threads(),
        seconds={name: median(run.seconds for run in timed) for name, timed in runs.items()},
        peak_bytes={name: _largest(timed) for name, timed in runs.items()},
        rambling=median(run.rambling for run in runs["public"]) if "public" in runs else 0.0,
        team_work=team,
        switcher_work=switcher,
        rates=_median_rates(rates),
    )


def warm_up(pool: ModelPool, batch: int, variants: Iterable[str] = tuple(VARIANTS)) -> None:
    """Run the variants once, briefly, so that first-time costs are not measured."""
    workload = Workload(batch=batch, tokens=12, prompt=16, patch=4)
    for name in variants:
        VARIANTS[name](pool, workload)


def switcher_work_of(pool: ModelPool, workload: Workload) -> ForwardWork:
    """The switcher's work with as many tokens of tags and question as the pool's tokenizer
    makes."""
    codec = TextCodec.load(pool.candidates[0].spec)
    tags = len(codec.encode(BEGINS.format(index=0))) + len(codec.encode(ENDS.format(index=0)))
    question = len(codec.encode(QUESTION.format(last=CANDIDATES - 1)))
    return switcher_work(workload, tags, question)


def _median_rates(rates: Sequence[Rates]) -> Rates:
    return Rates(
        {rows: median(measured.step[rows] for measured in rates) for rows in rates[0].step},
        {rows: median(measured.read[rows] for measured in rates) for rows in rates[0].read},
    )


def _largest(runs: Sequence[VariantRun]) -> int | None:
    peaks = [run.peak for run in runs if run.peak is not None]
    return max(peaks) if peaks else None


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator
