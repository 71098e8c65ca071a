"""A conversation with a team in the terminal, or from a pipe: each line is one turn."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from io import TextIOWrapper
from uuid import uuid4

from rich.console import Console

from taketurns.cli.terminal import AnswerPrinter, Speakers, shown
from taketurns.errors import TakeTurnsError
from taketurns.generation.team import Team
from taketurns.types import Message, Query, Trace

HELP = "/reset clears the conversation, /probabilities shows the switcher's choices, /quit ends"


class Chat:
    """Reads turns until the end of input or /quit. Turns stay in the conversation, except those
    that failed or were interrupted with Ctrl-C."""

    def __init__(self, team: Team, console: Console, *, probabilities: bool = False) -> None:
        self._team = team
        self._console = console
        self._aside = Console(stderr=True)
        self._speakers = Speakers.on(console, [c.name for c in team.candidates])
        self._probabilities = probabilities
        self._said: tuple[Message, ...] = ()
        self._turn = 0
        self._name = uuid4().hex[:8]

    def run(self) -> int:
        """Run the conversation. Returns the exit code: 1 if a turn failed. Raises ConfigError or
        EngineError if the team cannot be loaded."""
        self._aside.print(self._speakers.legend())
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # a bad line must not stop the others
        if sys.stdin.isatty():
            import readline  # noqa: F401  (line editing and history for input())

            self._aside.print(HELP, style="dim")
        failed = False
        with asyncio.Runner() as runner:
            try:
                runner.run(self._team.prepare())
                while (line := self._read()) is not None:
                    if not _is_text(line):
                        self._aside.print("this line is not UTF-8: it is skipped", style="red")
                        failed = True
                    elif line and not self._command(line):
                        failed |= not self._answer(runner, line)
            except (KeyboardInterrupt, _Quit):
                self._aside.print()
            finally:
                runner.run(self._team.aclose())
        return int(failed)

    def _read(self) -> str | None:
        try:
            return input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None

    def _command(self, line: str) -> bool:
        """Run a line that begins with a slash; returns False for any other line."""
        if not line.startswith("/"):
            return False
        if line == "/quit":
            raise _Quit
        if line == "/reset":
            self._said = ()
            self._aside.print("a new conversation", style="dim")
        elif line == "/probabilities":
            self._probabilities = not self._probabilities
            self._aside.print(
                f"probabilities {'on' if self._probabilities else 'off'}", style="dim"
            )
        else:
            self._aside.print(HELP, style="dim")
        return True

    def _answer(self, runner: asyncio.Runner, line: str) -> bool:
        messages = (*self._said, Message("user", line))
        query = Query(id=f"{self._name}-{self._turn}", messages=messages)
        self._turn += 1
        try:
            trace = runner.run(self._write(query))
        except TakeTurnsError as error:
            self._aside.print(shown(str(error)), style="red", markup=False)
            return False
        except KeyboardInterrupt:
            self._console.print()
            self._aside.print("stopped; this turn is not kept", style="dim")
            return True
        self._console.print()
        if self._probabilities:
            self._aside.print(self._speakers.decisions(trace))
        if trace.error is not None:
            self._aside.print(shown(trace.error), style="red", markup=False)
            return False
        self._said = (*messages, Message("assistant", trace.text))
        return True

    async def _write(self, query: Query) -> Trace:
        await self._team.check_prompt(query)
        printer = AnswerPrinter(self._console, self._speakers)
        async with aclosing(self._team.stream(query)) as parts:
            async for part in parts:
                if isinstance(part, Trace):
                    return part
                printer.show(part)
        raise AssertionError("a stream ends with its trace")


def _is_text(line: str) -> bool:
    """Whether a line is valid UTF-8; invalid bytes were read as halves of surrogate pairs."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Quit(Exception):
    """The user entered /quit."""
