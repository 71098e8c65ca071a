r"""The conclusion of a text, as text.

It is the last of `\boxed{…}`, `<answer>…</answer>`, "the answer is …", "Answer: …" and GSM8K's
"#### …"; else the last words in bold; else there is none. Sections of thinking must be removed
first (`styling.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from taketurns.tasks.scorers.styling import HTML, unstyled

BOXED = re.compile(r"\\f?box(?:ed)?\s*\{")
SAID = re.compile(
    r"\b(?:answers?|correct (?:option|choice|letter))"
    r"(?:\s+to\s+(?:this|the)\s+(?:question|problem))?"
    r"\s*(?::|=|\bis\b|\bare\b|\bwould be\b|\bmust be\b)(?!\s*n[o']t\b)\s*:?",
    re.IGNORECASE,
)
HASHES = re.compile(r"^#{4}(?!#)", re.MULTILINE)
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
BOLD = re.compile(
    r"(?<!\*)\*{2,3}(?!\*)([^*\n]+)\*{2,3}|(?<![\w_])_{2,3}(?!_)([^_\n]+)_{2,3}(?!\w)"
)
WRAPPED = re.compile(
    r"^\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|emph|underline|bm|boldsymbol)"
    r"\{([^{}]*)\}$"
)
SENTENCE = re.compile(r"[.!?](?=\s|$)")


def concluded(text: str) -> str | None:
    """The answer that the text states, up to the end of its line; None if it states none."""
    plain = unstyled(text)
    last = max((*_boxed(plain), *_tagged(plain), *_said(plain)), default=None)
    if last is not None:
        return last[1]
    marked = [match[1] or match[2] for match in BOLD.finditer(HTML.sub(r"**\2**", text))]
    bold = [words for words in marked if not words.rstrip().endswith(":")]
    return bold[-1].strip() if bold else None


def _boxed(text: str) -> Iterator[tuple[int, str]]:
    r"""The contents of each box, up to its closing brace; an unclosed box has none. If the line
    closes more braces than it opens, the extra ones are contents ("\boxed{> }}")."""
    for match in BOXED.finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
        spare, depth = max(0, line.count("}") - line.count("{")), 1
        for at in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0) if text[at - 1] != "\\" else 0
            if depth == -spare:
                if content := text[match.end() : at].strip():
                    yield match.start(), content
                break


def _tagged(text: str) -> Iterator[tuple[int, str]]:
    for match in TAGGED.finditer(text):
        if content := match[1].strip():
            yield match.start(), concluded(content) or content


def _said(text: str) -> Iterator[tuple[int, str]]:
    for pattern in (SAID, HASHES):
        for match in pattern.finditer(text):
            rest = text[match.end() :].lstrip()  # the answer may be on the next line
            if line := rest.partition("\n")[0].strip():
                yield match.start(), line


def bare(text: str) -> str:
    """A text without styling: bold, surrounding dollar signs, quotation marks, and a full stop at
    the end. An exclamation mark after a number or a variable stays, as it may be a factorial."""
    while True:
        shorter = unstyled(text).strip().strip("`").strip()
        shorter = WRAPPED.sub(r"\1", shorter)
        for opening, closing in ('""', "''", "“”", "‘’", "$$", ("\\(", "\\)"), ("\\[", "\\]")):
            inside = shorter[len(opening) : len(shorter) - len(closing)]
            if (
                len(shorter) > len(opening) + len(closing)
                and shorter.startswith(opening)
                and shorter.endswith(closing)
                and opening not in inside
            ):
                shorter = inside
        shorter = re.sub(r"(?<=\S)(?:[.,;:]|(?<![\d)])(?<!\b[a-z])!|(?<=!)!)+$", "", shorter)
        if shorter == text:
            return text
        text = shorter


def sentence(text: str) -> str:
    """The first sentence."""
    return SENTENCE.split(text, maxsplit=1)[0]


def last_line(text: str) -> str:
    """The last line that is not empty."""
    return text.strip().rpartition("\n")[2].strip()
