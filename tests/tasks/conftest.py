"""Data in the authors' format, and where real cuts of it may be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CUTS = Path(
    os.environ.get("TAKETURNS_BENCHMARKS") or Path(__file__).parents[3] / "shared/benchmarks"
)


@pytest.fixture(scope="session")
def cuts() -> Path:
    """A folder of cuts of the benchmarks; the test is skipped where there is none."""
    if not CUTS.is_dir():
        pytest.skip("no cuts of the benchmarks; set TAKETURNS_BENCHMARKS to a folder of them")
    return CUTS


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of the authors' format."""

    def make(name: str, **splits: Any) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"name": name, **splits}))
        return path

    return make
