"""Whether checkpoints of one pipeline can read each other's keys and values, step by step.

    python -m benchmarks.shared_cache.run WORK [--only PATTERN …] [--list] [--small]
        [--pipeline SEED=FOLDER …] [--real CACHE --data BENCHMARKS]

A step has one output in WORK and is skipped if that exists, so the same command continues after a
stop. The bundled pocket checkpoints are always measured; further pipelines (`python -m
recipes.pocket --seed SEED`) and real models (`make real-models`) where their folders are given.
`benchmarks.shared_cache.cost` measures time and memory, alone on the machine;
`benchmarks.shared_cache.report` writes the tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.shared_cache import adapter, pocket, real
from benchmarks.shared_cache.answers import Setting
from benchmarks.shared_cache.layers import NONE, SharedLayers, groups, lower
from benchmarks.shared_cache.pocket import ORDERS, PocketPipeline
from benchmarks.shared_cache.real import RealPair
from benchmarks.shared_cache.turns import RECOMPUTED
from recipes.steps import Step, perform_steps, step_options
from taketurns.config.loading import find_team_file

LAYERS = 4
PATCH = 16
OTHER_PATCHES = (8, 32)
BUNDLED = find_team_file("pocket").parent
TERSE = "smollm2-terse"  # the recipe's adapter (`recipes.real.adapter`)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Questions of a task."""

    dev: int = 20
    test: int = 40


def pocket_choices() -> list[SharedLayers]:
    """All ways to recompute one contiguous group of layers."""
    return [layers for count in range(LAYERS + 1) for layers in groups(count, LAYERS)]


def pipeline_steps(work: Path, pipeline: PocketPipeline, sizes: Sizes) -> Iterator[Step]:
    """Divergence of every choice on dev; the best of each number of layers is scored on dev and
    test."""
    home = work / f"pocket-{pipeline.seed}"

    def scored(split: str, limit: int, setting: Setting) -> Step:
        output = home / split / f"{setting.name}.json"
        make = partial(pocket.measure_scores, pipeline, split, limit, setting, output)  # type: ignore[arg-type]
        return Step(f"{home.name}-{split}-{setting.name}", (), output, make)

    for order in ORDERS:
        plain = Setting(order, PATCH)
        yield (before := scored("dev", sizes.dev, plain))
        settings = [Setting(order, PATCH, layers) for layers in pocket_choices()]
        output = home / "divergence" / f"{plain.name}.json"
        make = partial(
            pocket.measure_divergence, pipeline, sizes.dev, settings, before.output, output
        )
        yield Step(f"{home.name}-divergence-{order.name}".replace(" ", "_"), (), output, make)
    found = {o: home / "divergence" / f"{Setting(o, PATCH).name}.json" for o in ORDERS}
    if not all(path.exists() for path in found.values()):
        return
    best = best_choices([json.loads(path.read_text(encoding="utf-8")) for path in found.values()])
    for split, limit in (("dev", sizes.dev), ("test", sizes.test)):
        for order in ORDERS:
            yield scored(split, limit, Setting(order, PATCH))
            for layers in best:
                yield scored(split, limit, Setting(order, PATCH, layers))
    half = best[LAYERS // 2 - 1]
    for order in ORDERS:
        yield scored("test", sizes.test, Setting(order, PATCH, half, RECOMPUTED))
        for patch in OTHER_PATCHES:
            yield scored("test", sizes.test, Setting(order, patch))
            yield scored("test", sizes.test, Setting(order, patch, half))


def best_choices(divergences: list[Mapping[str, Mapping[str, float]]]) -> list[SharedLayers]:
    """For each number of shared layers the choice with the lowest mean divergence."""

    def mean(layers: SharedLayers) -> float:
        return fmean(found[layers.name]["divergence"] for found in divergences)

    return [min(groups(count, LAYERS), key=mean) for count in range(1, LAYERS + 1)]


def real_steps(work: Path, cache: Path, data: Path) -> Iterator[Step]:
    """A tuned adapter, divergences of it and of the recipe's adapter, and answers that the base
    model begins and the tuned one finishes."""
    home, base = work / "real", cache / "smollm2"
    plain = RealPair(base, None, data)
    begun = {
        "train": (real.TRAIN, real.BEGINNING),
        "calibration": (real.CALIBRATION, 2 * real.BEGINNING),
        "test": (None, real.BEGINNING),
    }
    for name, (limit, tokens) in begun.items():
        output = home / f"beginnings-{name}.json"
        split = "test" if name == "test" else "train"
        make = partial(real.write_beginnings, plain, split, limit, tokens, output)  # type: ignore[arg-type]
        yield Step(f"real-beginnings-{name}", (), output, make)
    folder = home / "adapter"
    train = partial(adapter.train_adapter, plain, home / "beginnings-train.json", folder)
    yield Step("real-adapter", (), folder, train)
    texts = home / "beginnings-calibration.json"
    tuned = RealPair(base, folder, data)
    for name, pair, choices, turned in (
        ("tuned reads base", tuned, real.divergence_choices(), False),
        ("base reads tuned", tuned, real.lower_choices(), True),
        ("terse reads base", RealPair(base, cache / TERSE, data), real.lower_choices(), False),
    ):
        output = home / "divergence" / f"{name.replace(' ', '-')}.json"
        make = partial(real.measure_divergence, pair, texts, choices, turned, output)
        yield Step(f"real-divergence-{output.stem}", (), output, make)
    found = home / "divergence" / "tuned-reads-base.json"
    if found.exists():
        divergences = json.loads(found.read_text(encoding="utf-8"))
        choices = [NONE, *answered_choices(divergences)]
        output = home / "answers-test.json"
        begun_test = home / "beginnings-test.json"
        make = partial(real.measure_answers, tuned, "test", begun_test, choices, output)
        yield Step("real-answers", (), output, make)


def answered_choices(divergences: Mapping[str, Mapping[str, float]]) -> list[SharedLayers]:
    """A third, half and all of the lower layers, and the half with the lowest divergence."""
    half = real.LAYERS // 2
    best = min(
        groups(half, real.LAYERS, real.STRIDE),
        key=lambda layers: divergences[layers.name]["divergence"],
    )
    listed = [lower(real.LAYERS // 3), lower(half), best, lower(real.LAYERS)]
    return list(dict.fromkeys(listed))


def main() -> None:
    """Make the missing outputs."""
    parser = step_options(__doc__)
    parser.add_argument("--pipeline", action="append", default=[], metavar="SEED=FOLDER")
    parser.add_argument("--real", type=Path, metavar="CACHE", help="the folder of real models")
    parser.add_argument("--data", type=Path, help="the benchmarks' JSON files")
    parser.add_argument("--small", action="store_true", help="a quarter of the pocket questions")
    options = parser.parse_args()
    if (options.real is None) != (options.data is None):
        parser.error("--real and --data are given together")
    torch.set_num_threads(1)
    perform_steps(steps(options), options)


def steps(options: argparse.Namespace) -> Iterator[Step]:
    """All steps, each after those that it needs."""
    sizes = Sizes(5, 10) if options.small else Sizes()
    pipelines = [PocketPipeline(BUNDLED, 0)]
    for seed, _, folder in (given.partition("=") for given in options.pipeline):
        pipelines.append(PocketPipeline(Path(folder), int(seed)))
    if options.real is not None:
        yield from real_steps(options.work, options.real, options.data)
    for pipeline in pipelines:
        yield from pipeline_steps(options.work, pipeline, sizes)


if __name__ == "__main__":
    main()
