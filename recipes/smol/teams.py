"""The team files of the recipe: with random switching for labels, and with the trained head."""

from __future__ import annotations

from pathlib import Path

from taketurns.utils.files import write_text

NAMES = ("plain", "worked", "aligned")
TEAM = """\
# Three checkpoints on one base, SmolLM2-135M-Instruct: it continued on plain text, it was tuned on
# worked solutions, and as it is.
candidates:
  - name: plain
    model: {base}
    adapter: ./plain
    prompt: "Question: {{text}}\\nAnswer:"
  - name: worked
    model: {base}
    adapter: ./worked
  - name: aligned
    model: {base}

switcher:
{switcher}

policy:
  patch_size: 16
  max_tokens: {tokens}
  temperature: 0.7
"""
RANDOM, HEAD = "  kind: random", "  kind: head\n  path: ./switchers/head"


def write_team(path: Path, base: Path | str, switcher: str, tokens: int) -> None:
    """A team file beside the adapters."""
    write_text(path, TEAM.format(base=base, switcher=switcher, tokens=tokens))
