"""Draw docs/smol.svg: a conversation with the team of real weights.

    python docs/smol_picture.py

The questions are fixed and the seed is 0; the answers are what the team writes.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from taketurns import Team
from taketurns.cli.terminal import Speakers

QUESTIONS = (
    "Why is the sky blue?",
    "Who wrote Romeo and Juliet?",
    "What is the difference between a frog and a toad?",
    "Write two sentences about the sea at night.",
)
TARGET = Path(__file__).with_name("smol.svg")


def main() -> None:
    """Ask the team and draw its answers."""
    with Team.load("smol") as team:
        console = Console(record=True, width=104, force_terminal=True, color_system="truecolor")
        speakers = Speakers.on(console, [candidate.name for candidate in team.candidates])
        console.print(speakers.legend())
        for question in QUESTIONS:
            console.print(Text(f"\n{question}", "bold"))
            console.print(speakers.answer(team.generate(question, seed=0)))
        TARGET.write_text(console.export_svg(title="taketurns chat --team smol"), encoding="utf-8")


if __name__ == "__main__":
    main()
