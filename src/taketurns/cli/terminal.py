"""Answers on a terminal: each speaker's patches have its colour and its mark.

The marks have the same meaning as the colours, for readers and terminals without colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taketurns.types import Delta, Patch, Trace
from taketurns.utils.colours import COLOURS

MARKS = "●▲■◆★✚✖"
PLAIN_MARKS = "abcdefg"
FORCED = "dim italic"


@dataclass(frozen=True, slots=True)
class Speakers:
    """The style of each candidate, by index; None is forced text."""

    names: tuple[str, ...]
    plain: bool = False

    @classmethod
    def on(cls, console: Console, names: Sequence[str]) -> Speakers:
        """The speakers, with marks that the console can write."""
        return cls(tuple(names), plain=not console.encoding.lower().startswith("utf"))

    def name(self, speaker: int | None) -> str:
        return "forced" if speaker is None else self.names[speaker]

    def style(self, speaker: int | None) -> str:
        return FORCED if speaker is None else COLOURS[speaker % len(COLOURS)]

    def mark(self, speaker: int | None) -> str:
        marks = PLAIN_MARKS if self.plain else MARKS
        sign = "+" if speaker is None else marks[speaker % len(marks)]
        round_ = "" if speaker is None or speaker < len(marks) else str(speaker // len(marks) + 1)
        return f"[{sign}{round_}]" if self.plain else f"{sign}{round_}"

    def label(self, speaker: int | None) -> Text:
        return Text(f"{self.mark(speaker)} {self.name(speaker)}", self.style(speaker))

    def legend(self) -> Text:
        return Text("   ").join(self.label(index) for index in range(len(self.names)))

    def words(self, speaker: int | None, text: str, *, begins: bool = True) -> Text:
        """Text in its speaker's colour; at the beginning of a patch, with the mark before the first
        word."""
        style = self.style(speaker)
        word = text.lstrip()
        line = Text(shown(text[: len(text) - len(word)]), style)
        if begins and word:
            line.append(self.mark(speaker), f"bold {style}")
        return line.append(shown(word), style)

    def answer(self, trace: Trace) -> Text:
        return Text().join(self.words(patch.speaker, patch.text) for patch in trace.patches)

    def decisions(self, trace: Trace) -> Text:
        """One line per patch: the speaker, the reason, and the switcher's probabilities."""
        width = max(map(len, (*self.names, "forced"))) + 2
        lines = []
        for patch in trace.patches:
            line = self.label(patch.speaker)
            line.pad_right(width + len(self.mark(patch.speaker)) - len(line))
            line.append(f"{patch.reason:9}", "default")
            if patch.probabilities is not None:
                shares = zip(self.names, patch.probabilities, strict=True)
                line.append(" · ".join(f"{name} {share:.0%}" for name, share in shares), "dim")
            lines.append(line)
        return Text("\n").join(lines)


class AnswerPrinter:
    """Prints an answer while it is written, with the speaker's mark before each patch."""

    def __init__(self, console: Console, speakers: Speakers) -> None:
        self._console = console
        self._speakers = speakers
        self._shown = 0
        self._begun = False

    def show(self, part: Delta | Patch) -> None:
        """Print new text: of the running patch, or the rest of a complete one."""
        if isinstance(part, Delta):
            self._print(part.speaker, part.text)
            self._shown += len(part.text)
        else:
            self._print(part.speaker, part.text[self._shown :])
            self._shown, self._begun = 0, False

    def _print(self, speaker: int | None, text: str) -> None:
        line = self._speakers.words(speaker, text, begins=not self._begun)
        self._begun = self._begun or bool(text.strip())
        self._console.print(line, end="", soft_wrap=True)
        self._console.file.flush()


def shown(text: str) -> str:
    """Text with visible control characters, so that a model's text cannot control the terminal."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or (code >= 0x20 and not 0x7F <= code < 0xA0):
        return character
    return chr(0x2400 + code) if code < 0x20 else "\N{SYMBOL FOR DELETE}"


def gate_table(result: Mapping[str, Any]) -> Table:
    """The shares of questions that any of n answers solves, and the paired test."""
    systems = list(result["solved"])
    table = Table(title=f"solved by any of {result['samples']} answers", box=None)
    table.add_column("task")
    for system in systems:
        table.add_column(system, justify="right")
    for task in result["solved"][systems[0]]:
        table.add_row(task, *(f"{result['solved'][system][task]:.2f}" for system in systems))
    test = result["paired"]
    table.caption = (
        f"random against {result['best']}, {test['questions']} questions: only random solves "
        f"{test['only_first']}, only {result['best']} {test['only_second']}; "
        f"exact McNemar p = {test['p']:.2g}"
    )
    return table
