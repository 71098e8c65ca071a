"""The folder for what this package makes once and keeps for the user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "TAKETURNS_CACHE"  # the environment variable for another folder


def cache_folder() -> Path:
    """$TAKETURNS_CACHE, or `taketurns` in the user's cache folder."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "taketurns"
    home = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / home / "taketurns"
