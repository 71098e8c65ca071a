"""Copy what the recipe made into the package, if it is small enough to be shipped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from recipes.smol.teams import HEAD, write_team
from taketurns.errors import DataError
from taketurns.utils.files import atomic_folder

PARTS = ("plain", "worked", "switchers/head")
LIMIT = 12_000_000  # bytes of all files
LEFT_OUT = ("team.yaml", "*.checkpoints", "checkpoints", "*.log")
HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
TOKENS = 256


def publish(work: Path, folder: Path, sha256: str) -> int:
    """Make `folder` of a finished recipe; returns its bytes. `sha256` is of the base's GGUF file.
    Raises DataError if a part is missing or the whole is too large."""
    with atomic_folder(folder, replace=True) as draft:
        for part in PARTS:
            if not (work / part).is_dir():
                raise DataError(f"{work} has no {part}: run the recipe to its end first")
            shutil.copytree(work / part, draft / part, ignore=shutil.ignore_patterns(*LEFT_OUT))
        base = {"repo": HUB, "source": "wheel", "sha256": sha256}
        (draft / "base.json").write_text(json.dumps(base, indent=1) + "\n", encoding="utf-8")
        write_team(draft / "team.yaml", HUB, HEAD, TOKENS)
        size = sum(file.stat().st_size for file in draft.rglob("*") if file.is_file())
        if size > LIMIT:
            raise DataError(
                f"the adapters and the switcher have {size / 1e6:.1f} MB, and at most "
                f"{LIMIT / 1e6:.0f} MB are shipped: train adapters of a lower rank"
            )
    return size
