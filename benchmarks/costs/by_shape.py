"""Team and one model alone for every shape, beside the Llama's ratio in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.costs.budget import Budget, interleave
from benchmarks.costs.rows import NO_TIME, Row, Spread, left_out, of_seconds
from benchmarks.costs.shapes import AT_MOST, REFERENCE, Kind, Shapes, kind_of
from benchmarks.costs.units import Say, Setting, Unit
from benchmarks.costs.ways import extra_work
from benchmarks.overhead.memory import settled
from benchmarks.overhead.models import ModelPool, pool_of
from benchmarks.overhead.overhead import warm_up
from benchmarks.overhead.variants import VARIANTS
from benchmarks.overhead.workload import Workload
from taketurns.errors import TakeTurnsError

GROUP = "shapes"
VARIANTS_TIMED = ("single", "kept")
WHAT = "{shape}: team / one"


@dataclass(frozen=True, slots=True)
class _Subject:
    """The models of a shape. `slow`: why a batch of them is left out, as a clause."""

    pool: ModelPool
    kind: Kind
    slow: str = ""


def shape_rows(
    shapes: Shapes, units: Sequence[Unit], setting: Setting, budget: Budget, say: Say
) -> Iterator[Row]:
    """The rows of each unit, one for each shape. A shape that encodes its whole prompt again at
    every turn is measured one answer at a time."""
    if budget.left <= 0:
        for unit in units:
            for name in shapes:
                yield left_out(unit.name, WHAT.format(shape=name), unit.batch, unit.tokens, NO_TIME)
        return
    with ExitStack() as stack:
        subjects, refused = dict[str, _Subject](), dict[str, str]()
        for name, make in shapes.items():
            say(f"{GROUP}: making {name}")
            config = make()
            pool = stack.enter_context(pool_of(name, config, "cpu", "float32"))
            pool.load(switcher=False)
            try:
                subjects[name] = _Subject(pool, kind_of(config), extra_work(pool))
            except TakeTurnsError as error:
                refused[name] = str(error)
        stack.enter_context(settled())
        for unit in units:
            slow = {name: subject.slow for name, subject in subjects.items() if subject.slow}
            why = refused if unit.batch == 1 else refused | slow
            timed = {name: subject for name, subject in subjects.items() if name not in why}
            rows = _rows(timed, unit, setting, budget, say)
            for name in shapes:
                if name in why:
                    what = WHAT.format(shape=name)
                    yield left_out(unit.name, what, unit.batch, unit.tokens, why[name])
                else:
                    yield next(rows)


def _rows(
    subjects: Mapping[str, _Subject], unit: Unit, setting: Setting, budget: Budget, say: Say
) -> Iterator[Row]:
    workload = Workload(unit.batch, unit.tokens, clock=setting.clock)
    runs: dict[tuple[str, str], Callable[[], float]] = {}
    for shape, subject in subjects.items():
        if budget.left > 0:
            say(f"{unit.name}: warming up {shape}")
            warm_up(subject.pool, unit.batch, VARIANTS_TIMED)
        for variant in VARIANTS_TIMED:
            what = f"{unit.name}: {variant} of {shape}"
            runs[shape, variant] = partial(_seconds, subject.pool, variant, workload, what, say)
    part = budget.part(unit.name)
    rounds = interleave(runs, part, unit.rounds, left=budget.left) if runs else []
    say(f"{unit.name}: {len(rounds)} rounds")
    ratios = {
        shape: [round_[shape, "kept"] / round_[shape, "single"] for round_ in rounds]
        for shape in subjects
    }
    for shape, subject in subjects.items():
        what = WHAT.format(shape=shape)
        if not rounds:
            yield left_out(unit.name, what, unit.batch, unit.tokens, NO_TIME)
            continue
        seconds_of = {
            variant: median(round_[shape, variant] for round_ in rounds)
            for variant in VARIANTS_TIMED
        }
        compared = shape != REFERENCE and REFERENCE in ratios
        pairs = zip(ratios[shape], ratios[REFERENCE], strict=True) if compared else ()
        yield Row(
            unit.name,
            what,
            unit.batch,
            unit.tokens,
            len(rounds),
            Spread.of(ratios[shape]),
            beside=Spread.of([mine / its for mine, its in pairs]) if compared else None,
            at_most=AT_MOST[subject.kind] if compared else None,
            note="; ".join(
                filter(None, [of_seconds(seconds_of["kept"], seconds_of["single"]), subject.slow])
            ),
            measured={f"{variant}_seconds": took for variant, took in seconds_of.items()},
        )


def _seconds(pool: ModelPool, variant: str, workload: Workload, what: str, say: Say) -> float:
    say(what)
    return VARIANTS[variant](pool, workload).seconds
