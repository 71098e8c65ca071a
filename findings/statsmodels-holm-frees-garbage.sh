#!/usr/bin/env bash
# statsmodels 0.15.0, multipletests(p_values, method="holm"): each call runs a full garbage collection of the whole
# process, whatever the number of p-values; "bonferroni" and "fdr_bh" run none. Its time grows with the objects that
# the process holds, not with the p-values: with torch and transformers imported one call for three p-values took 1.5
# seconds here, and a report with fifteen of them 22 of its 27 seconds. Seen on 2026-11-30.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check statsmodels==0.15.0
"$here/venv/bin/python" - <<'PYTHON'
import gc
from time import perf_counter

import statsmodels
from statsmodels.stats.multitest import multipletests

collected: list[int] = []
gc.callbacks.append(lambda phase, info: collected.append(info["generation"]) if phase == "start" else None)


def full_collections(method: str) -> int:
    collected.clear()
    multipletests([0.01, 0.04, 0.03], method=method)
    return collected.count(2)


def seconds() -> float:
    begun = perf_counter()
    multipletests([0.01, 0.04, 0.03], method="holm")
    return perf_counter() - begun


for method in ("holm", "bonferroni", "fdr_bh"):
    multipletests([0.5], method=method)  # imports what it needs
gc.collect()
outcome = {method: full_collections(method) for method in ("holm", "bonferroni", "fdr_bh")}
before = min(seconds() for _ in range(3))
held = [[number] for number in range(5_000_000)]
after = min(seconds() for _ in range(3))
print("statsmodels", statsmodels.__version__)
print("full collections in one call", outcome)
print(f"holm: {before * 1000:.0f} ms; with {len(held):,} more lists alive {after * 1000:.0f} ms")
assert outcome == {"holm": 1, "bonferroni": 0, "fdr_bh": 0}, "it has changed"
PYTHON
