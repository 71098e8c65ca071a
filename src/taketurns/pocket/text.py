"""The format of the pocket world's text: its plain prompt and the pattern of its tokens."""

from __future__ import annotations

import re

PLAIN_PROMPT = "question: {text} answer:"
CLINGING = ".,?:;!)"
PIECE = rf" ?[a-z_]+| ?[0-9]|[{re.escape(CLINGING)}]| ?[^\s0-9a-z]"
"""Matches one token, with its leading space; `CLINGING` punctuation has no leading space."""
