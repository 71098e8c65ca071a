"""The commit of source code in a git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path


def source_commit(*packages: Path) -> str | None:
    """The commit that these folders of one repository are at, with a + if one of them has changes.
    None if the first is no package of a repository: an installed one, or one without git."""
    first = packages[0]
    try:
        if not _git(first, "ls-files", "__init__.py"):
            return None
        changed = _git(first, "status", "--porcelain", "--", *map(str, packages))
        return _git(first, "rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
