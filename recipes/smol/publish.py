"""Copy what the recipe made into the package, if it is small enough to be shipped."""

from __future__ import annotations

import shutil
from pathlib import Path

from taketurns.errors import DataError
from taketurns.utils.files import atomic_folder

ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "base.json", "stage.json")
PARTS = {"plain": ADAPTER, "worked": ADAPTER, "switchers/head": ("head.json", "head.safetensors")}
LIMIT = 12_000_000  # bytes of all files


def publish(work: Path, folder: Path) -> int:
    """Copy the adapters and the head of a finished run into `folder`; returns their bytes. Raises
    DataError if one is missing or they are too large."""
    files = []
    for part, names in PARTS.items():
        for name in names:
            if not (work / part / name).is_file():
                raise DataError(f"{work} has no {part}/{name}: run the recipe to its end first")
            files.append(Path(part) / name)
    size = sum((work / file).stat().st_size for file in files)
    if size > LIMIT:
        raise DataError(
            f"the adapters and the switcher have {size / 1e6:.1f} MB, and at most "
            f"{LIMIT / 1e6:.0f} MB are shipped: train adapters of a lower rank"
        )
    for part in PARTS:
        with atomic_folder(folder / part, replace=True) as draft:
            for name in PARTS[part]:
                shutil.copyfile(work / part / name, draft / name)
    return size
