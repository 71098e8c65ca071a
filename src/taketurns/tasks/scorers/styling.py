"""Remove what surrounds an answer in a text: sections of thinking, emphasis, polite beginnings."""

from __future__ import annotations

import re

NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|scratchpad|reflection)"
# Pairs of tags around a model's thinking; those of the last three pairs are single tokens.
TAGS = (
    (rf"<\s*{NAMES}\s*>", rf"<\s*/\s*{NAMES}\s*>"),
    (rf"\[{NAMES}\]", rf"\[/{NAMES}\]"),
    (rf"◁{NAMES}▷", rf"◁/{NAMES}▷"),
    (rf"<\|{NAMES}\|>", rf"<\|/{NAMES}\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (
        r"<\|?channel\|?>\s*(?:analysis|thought)\b",
        r"<channel\|>|<\|channel\|>final<\|message\|>",
    ),
)
TAG = re.compile(
    "|".join(f"(?P<open{i}>{opening})|(?P<close{i}>{closing})"
             for i, (opening, closing) in enumerate(TAGS)),
    re.IGNORECASE,
)  # fmt: skip
# Emphasis opens at the beginning of a word and closes at the end of one.
PAIRED = re.compile(
    r"(?<![^\s(\[\"'“‘*_:—–>-])(?:(?P<stars>\*{1,3})(?![\s*])|(?P<strokes>_{1,3})(?![\s_]))"
    r"(?P<inside>[^\n]*?\S)"
    r"(?:(?(stars)(?P=stars)(?![\w*])|(?P=strokes)(?![\w_])))"
)
HTML = re.compile(r"<(b|i|em|strong|u|mark)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
LATEX = re.compile(r"\\(?:textbf|textit|emph|underline)\{([^{}]*)\}")
# Stars of unclosed bold; the stars of a power have something to their left and right.
LEFT_OVER = re.compile(
    r"(?<!\w)(?<![)\]}])(?<!\s)\*\*|(?:(?<=\s)|^)\*\*(?=\S)|(?<=\S)\*\*(?![\w({\\]|-\d)"
    r"|(?<!\w)__(?=\w)|(?<=\w)__(?!\w)",
    re.MULTILINE,
)
POLITE = re.compile(
    r"\s*(?:(?:sure|certainly|of course|absolutely|gladly|okay|ok|well|thank(?:s| you)"
    r"|(?:great|good|interesting) question|happy to help|no problem"
    r"|(?:i'd|i would) be (?:happy|glad) to help|here (?:is|'s) (?:the|my) answer|hello|hi)\b"
    r"(?: thing| you go| there| for (?:asking|your question)| you| with (?:that|this))*"
    r"\s*[!.,:]+\s*)+",
    re.IGNORECASE,
)


def answered(text: str) -> str:
    """A text without its sections of thinking. A section that begins in the prompt is removed up to
    its closing tag; after a section without a closing tag there is no answer."""
    kept, at, inside = [], 0, None
    for tag in TAG.finditer(text):
        kind = tag.lastgroup or ""
        if inside is None and kind.startswith("open"):
            kept.append(text[at : tag.start()])
            inside = kind.replace("open", "close")
        elif inside is None:
            kept, at = [], tag.end()
        elif kind == inside:
            at, inside = tag.end(), None
    return "".join(kept) if inside is not None else "".join((*kept, text[at:]))


def unstyled(text: str) -> str:
    """A text without bold and italics, in any notation."""
    while True:
        plain = LATEX.sub(r"\1", HTML.sub(r"\2", text))
        plain = PAIRED.sub(r"\g<inside>", plain)
        if plain == text:
            return LEFT_OVER.sub("", text)
        text = plain


def unprefaced(text: str) -> str:
    """A text without a polite beginning ("Sure! …")."""
    return text[match.end() :] if (match := POLITE.match(text)) else text
