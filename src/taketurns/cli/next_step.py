"""The last line of a command: where its result is, and the command that uses it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path


def command(name: str, options: Mapping[str, object]) -> str:
    """A command line. An option that is None is left out; an option with a tuple is repeated."""
    words = ["taketurns", name]
    for option, value in options.items():
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None:
                words += [f"--{option}", str(item)]
    return shlex.join(words)


def after_generate(
    path: Path, answers: int, task: str | None, data: Path | None, split: str, limit: int | None
) -> str:
    """The written answers, and the command that scores them. `limit` and `split` are those of the
    questions."""
    wrote = f"wrote {_count(answers, 'answer')} to {path}"
    if path.is_dir():  # shards, which must be merged first
        return wrote
    asked: dict[str, object] = {"task": task or "TASK", "data": data}
    if task is not None:
        asked |= {"split": None if split == "test" else split, "limit": limit}
    next_ = command("score", asked | {"answers": path})
    hint = "" if task is not None else ", where TASK asks the same questions (docs/tasks.md)"
    return f"{wrote}; next, score them: {next_}{hint}"


def after_rollout(path: Path, prefixes: int, team: str, *, compared: bool = False) -> str:
    """The written labels, and the command that trains a switcher on them: a judge if they are of
    patches that were `compared`."""
    wrote = f"wrote {_count(prefixes, 'prefix', 'es')} to {path}"
    if path.is_dir():  # shards, which must be merged first
        return wrote
    switcher = "mentorcollab" if compared else None
    asked = {"team": team, "switcher": switcher, "labels": path, "output": "switcher"}
    next_ = command("train", asked)
    return f"{wrote}; next, train a switcher on them: {next_}"


def after_train(folder: Path, tasks: tuple[str, ...]) -> str:
    """The command that compares the switcher in `folder`; `tasks` is empty if the team has default
    tasks."""
    asked = {"team": folder, "task": tasks, "output": "report"}
    return f"next, compare it with other methods: {command('evaluate', asked)}"


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"
