"""What a command says when it has done its work: where that is, and what to do with it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path


def command(name: str, options: Mapping[str, object]) -> str:
    """A command as a person types it. An option that is None is left out; one that is a tuple is
    repeated."""
    words = ["taketurns", name]
    for option, value in options.items():
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None:
                words += [f"--{option}", str(item)]
    return shlex.join(words)


def after_generate(
    path: Path, answers: int, task: str | None, data: Path | None, split: str, limit: int | None
) -> str:
    """What was written, and how it is scored. `limit` and `split` are those of the questions."""
    wrote = f"wrote {_count(answers, 'answer')} to {path}"
    if path.is_dir():  # shards, which are put together first
        return wrote
    asked: dict[str, object] = {"task": task or "TASK", "data": data}
    if task is not None:
        asked |= {"split": None if split == "test" else split, "limit": limit}
    next_ = command("score", asked | {"answers": path})
    hint = "" if task is not None else ", where TASK asks the same questions (docs/tasks.md)"
    return f"{wrote}; next, score them: {next_}{hint}"


def after_rollout(path: Path, prefixes: int, team: str) -> str:
    """What was written, and how a switcher learns from it."""
    wrote = f"wrote {_count(prefixes, 'prefix', 'es')} to {path}"
    if path.is_dir():  # shards, which are put together first
        return wrote
    next_ = command("train", {"team": team, "labels": path, "output": "switcher"})
    return f"{wrote}; next, learn from them: {next_}"


def after_train(folder: Path, tasks: tuple[str, ...]) -> str:
    """How the switcher in `folder` is compared; `tasks` is empty where none has to be named."""
    asked = {"team": folder, "task": tasks, "output": "report"}
    return f"next, compare it with everything else: {command('evaluate', asked)}"


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"
