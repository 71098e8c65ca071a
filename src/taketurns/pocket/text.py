"""The form of the pocket world's text: its plain prompt, and the pieces that are its tokens."""

from __future__ import annotations

import re

PLAIN_PROMPT = "question: {text} answer:"
CLINGING = ".,?:;!)"
PIECE = rf" ?[a-z_]+| ?[0-9]|[{re.escape(CLINGING)}]| ?[^\s0-9a-z]"
"""A token with its own leading space; `CLINGING` punctuation has none."""
