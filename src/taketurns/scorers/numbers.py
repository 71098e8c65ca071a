"""Numbers as people write them: signs, thousands, fractions, currency and units.

Values are exact fractions, so 3.5 is not 35, and 0.1 + 0.2 is 0.3.
"""

from __future__ import annotations

import re
from fractions import Fraction

DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,100})(?:\.\d{1,100})?|\.\d{1,100}"
UNSIGNED = rf"(?:\d{{1,50}}\s*/\s*\d{{1,50}}|\d+ \d+/\d+|(?:{DIGITS})(?:[eE][+-]?\d{{1,3}})?)"
ATTACHED = r"(?:\\?%|°|km|cm|mm|kg|mg|ml|lbs?|mph|hrs?|mins?|am|pm|th|st|nd|rd)?"
SIGN = r"(?:(?<![\w)}\]])[-+])?"
INSIDE = re.compile(
    rf"(?<![\w.,/^]){SIGN}[$€£]?(?P<number>{UNSIGNED}){ATTACHED}(?![\w/]|[.,]\d|\s*\^|\\[a-z])",
    re.ASCII,
)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
UNIT = re.compile(
    r"(?:\\?%|°|\^\{?\\circ\}?|\\(?:text|mathrm|mbox)\{[^{}\d]*\}|(?:km|cm|mm|kg|mg|ml|lbs?|mph)"
    r"|\s+[A-Za-z][A-Za-z ./'-]*(?:\^?[23²³])?)"
)
SINGLE = frozenset("mgshlLAKNJWVCF")  # letters that are units; others are variables
WORDS = """pi sqrt sin cos tan log ln or and to plus minus times over out in by half halves third
thirds quarter quarters fifths tenths hundred dozen score more less fewer not but if mod"""
VALUES = frozenset(WORDS.split())  # they make another value of the number before them
FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]+)\}|(\d))\s*(?:\{([^{}]+)\}|(\d))")


def number(text: str) -> Fraction | None:
    """The value of a text that is one number, with currency or a unit perhaps; else None.

    A percent sign counts as a unit.
    """
    text = _plain(text)
    match = re.match(rf"([-+]?)\s*[$€£]?\s*([-+]?)({UNSIGNED})", text)
    if match is None or (match[1] and match[2]):
        return None
    value, rest = _value(match[3]), text[match.end() :]
    if value is None:
        return None
    word, _, after = rest.strip().partition(" ")
    if rest[:1].isspace() and word in SCALES:
        value, rest = value * SCALES[word], f" {after}" if after else ""
    if rest.strip() and not _is_unit(rest):
        return None
    return -value if "-" in (match[1], match[2]) else value


def numbers(text: str) -> list[tuple[Fraction, int, int]]:
    """The numbers within a text, and where each begins and ends in the text that `plain_minus`
    makes of it."""
    text = plain_minus(text)
    found = []
    for match in INSIDE.finditer(text):
        value = _value(match["number"])
        if value is not None:
            negative = match[0].startswith("-")
            found.append((-value if negative else value, match.start(), match.end()))
    return found


def plain_minus(text: str) -> str:
    """A text with fractions as a/b and one kind of minus, for `numbers`."""
    text = text.replace("−", "-").replace("–", "-").replace("\\$", "$").replace("\\%", "%")
    text = re.sub(r"\^\{?\\circ\}?|\\degree\b", "°", text)
    text = re.sub(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}", r"\1/\2", text)
    text = re.sub(r"\\[dt]?frac\s*(\d)\s*(\d)", r"\1/\2", text)
    return re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r" \1", text).replace("$", " ")


def _plain(text: str) -> str:
    text = text.strip().replace("−", "-").replace("\\$", "$").replace("\\!", "").replace("\\,", "")
    text = text.replace("\\left", "").replace("\\right", "").replace("{,}", ",")
    match = re.fullmatch(rf"([-+]?)\s*{FRACTION.pattern}(.*)", text, re.DOTALL)
    if match:
        over, under = match[2] or match[3], match[4] or match[5]
        if re.fullmatch(r"-?\d{1,50}", over) and re.fullmatch(r"\d{1,50}", under):
            sign = "-" if (match[1] == "-") != over.startswith("-") else ""
            return f"{sign}{over.removeprefix('-')}/{under}{match[6]}"
    return text


def _value(digits: str) -> Fraction | None:
    whole, _, part = digits.rpartition(" ") if re.match(r"\d+ \d", digits) else ("", "", digits)
    try:
        value = Fraction(part.replace(",", "").replace(" ", ""))
    except ZeroDivisionError:
        return None
    return value + int(whole) if whole else value


def _is_unit(rest: str) -> bool:
    if UNIT.fullmatch(rest.rstrip()) is None:
        return False
    words = re.findall(r"[A-Za-z]+", rest.replace("\\text", "").replace("\\mathrm", ""))
    if not words or rest.lstrip().startswith(("^", "\\%", "%", "°")):
        return True
    first = words[0]
    return first.casefold() not in VALUES and (len(first) > 1 or first in SINGLE or "\\" in rest)
