"""Old names of options, which still work but are no longer shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

RENAMED = {"--out": "--output", "--tasks": "--task"}
LISTS = ("--tasks",)  # took values separated by commas; the new option is repeated


class OldOptions(TyperCommand):
    """A command that reads `--out DIR` as `--output DIR`, and `--tasks A,B` as `--task A --task B`,
    if it has an option with the new name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in parameter.opts}
        return super().parse_args(ctx, list(_renamed(args, known)))


def _renamed(arguments: Sequence[str], known: set[str]) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            yield argument
            yield from rest
            return
        name, equals, value = argument.partition("=")
        new = RENAMED.get(name)
        if new is None or new not in known or name in known:
            yield argument
            continue
        text = value if equals else next(rest, None)
        if text is None:  # the parser reports the missing value
            yield new
            continue
        words = [word.strip() for word in text.split(",")] if name in LISTS else [text]
        for word in filter(None, words):
            yield f"{new}={word}"
