"""Compare the outputs of this code with those of an earlier commit: `python compare.py COMMIT`.

Both run on this machine, one after the other, and their outputs must be equal to the last bit:
answers, rollouts, a trained head, an evaluation, responses of a server. Times, paths and versions
are ignored. Values that only the new code records are printed; values that only the old code
records are differences.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Keys whose values differ between two runs of the same code.
PASSING = frozenset(
    ("id", "created", "started", "finished", "seconds", "timing", "commit", "version", "versions",
     "input", "output", "path")
)  # fmt: skip
READ = ("*.jsonl", "*.json", "evaluation/results.json")


def main(base: str) -> int:
    """1 if anything differs."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        old = folder / "old-code"
        _git("worktree", "add", "--detach", str(old), base)
        try:
            _make(old / "src", folder / "old")
            _make(ROOT / "src", folder / "new")
        finally:
            _git("worktree", "remove", "--force", str(old))
        differences = list(_compare(folder / "old", folder / "new"))
    for line in differences:
        print(line)
    print(f"{len(differences)} differences from {base}")
    return 1 if differences else 0


def _make(source: Path, out: Path) -> None:
    print(f"running {source}", file=sys.stderr)
    environment = os.environ | {"PYTHONPATH": str(source)}
    subprocess.run(
        [sys.executable, str(HERE / "make.py"), str(out)],
        check=True,
        env=environment,
        cwd=out.parent,
    )
    for pattern in READ:  # the path of the code is not a difference
        for path in out.glob(pattern):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(str(source), "src"), encoding="utf-8")


def _compare(old: Path, new: Path) -> Iterator[str]:
    names = [sorted(str(f.relative_to(o)) for p in READ for f in o.glob(p)) for o in (old, new)]
    if names[0] != names[1]:
        yield f"files: {names[0]} and {names[1]}"
    for name in names[0]:
        if (new / name).exists():
            yield from _differ(name, _read(old / name), _read(new / name))


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def _differ(where: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [k for k in old if k not in PASSING]:
            if key not in new:
                yield f"{where}.{key} is missing"
            else:
                yield from _differ(f"{where}.{key}", old[key], new[key])
        if added := [k for k in new if k not in old]:
            print(f"added: {where}: {', '.join(added)}", file=sys.stderr)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differ(f"{where}[{place}]", a, b)
    elif old != new:
        yield f"{where}: {old!r} and {new!r}"


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
