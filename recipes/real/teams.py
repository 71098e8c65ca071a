"""Team files of the real models, written beside them."""

from __future__ import annotations

from pathlib import Path

from taketurns.utils.files import write_text

# Gemma is pretrained only, so its question is in a plain prompt.
TEAM = """\
# A team of three real models with three tokenizers: a pretrained checkpoint and two that were
# taught to follow instructions. Small as they are, what they write is fluent and often wrong.
candidates:
  - name: gemma
    model: gemma
    prompt: "Question: {text}\\nAnswer:"
  - name: smollm2
    model: smollm2
  - name: qwen
    model: qwen
switcher:
  kind: random
policy:
  patch_size: 24
  max_tokens: 256
"""


def write_teams(cache: Path) -> Path:
    """Write `team.yaml` into the cache folder unless it exists: a user may have changed it."""
    team = cache / "team.yaml"
    if not team.exists():
        write_text(team, TEAM)
    return team
