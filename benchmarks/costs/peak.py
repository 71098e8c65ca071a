"""One variant in a process of its own: prints its peak memory above the loaded models, as JSON."""

from __future__ import annotations

import argparse
import json

from benchmarks.overhead.models import SHAPES, random_pool
from benchmarks.overhead.overhead import warm_up
from benchmarks.overhead.variants import VARIANTS
from benchmarks.overhead.workload import Workload


def main() -> None:
    """All four models are loaded in every variant, and everything runs once, briefly, before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--size", choices=SHAPES, default="100m")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    chosen = parser.parse_args()
    with random_pool(chosen.size, "cpu", "float32") as pool:
        pool.load()
        warm_up(pool, chosen.batch, [chosen.variant])
        run = VARIANTS[chosen.variant](pool, Workload(chosen.batch, chosen.tokens))
    print(json.dumps({"peak_bytes": run.peak, "seconds": run.seconds}))


if __name__ == "__main__":
    main()
