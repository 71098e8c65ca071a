r"""Numbers as people write them: signs, thousands, fractions, powers, currency and units.

Values are exact fractions, so 3.5 is not 35, and 0.1 + 0.2 is 0.3. "1\frac{1}{2}" and "1 1/2" are
mixed numbers, "3e8" and "3 \times 10^{8}" are the same number, "2^{10}" is read as its value, and
so is "5!" if it is the whole text (in a sentence it may be an exclamation).
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from math import factorial

DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,100})(?:\.\d{1,100})?|\.\d{1,100}"
EXPONENT = (
    r"\s*(?:\^|\*\*)\s*"
    r"(?:\{\s*[-+]?\d{1,3}\s*\}|\(\s*[-+]?\d{1,3}\s*\)|[-+]?\d{1,3}(?!\d))"
)
SCIENTIFIC = rf"(?:{DIGITS})\s*[×*xX]\s*10{EXPONENT}"
POWER = rf"\d{{1,9}}{EXPONENT}"
UNSIGNED = (
    rf"(?:{SCIENTIFIC}|{POWER}|\d{{1,50}}\s*/\s*\d{{1,50}}|\d+ \d+/\d+"
    rf"|(?:{DIGITS})(?:[eE][+-]?\d{{1,3}})?)"
)
GROUPED = r"\d{1,3}(?: \d{3})+(?:\.\d{1,100})?(?![\d/])"  # thousands with spaces, whole text only
FACTORIAL = r"\d{1,3}!(?!!)"
ATTACHED = r"(?:\\?%|°|km|cm|mm|kg|mg|ml|lbs?|mph|hrs?|mins?|am|pm|th|st|nd|rd)?"
SIGN = r"(?:(?<![\w)}\]])[-+])?"
INSIDE = re.compile(
    rf"(?<![\w.,/^]){SIGN}[$€£]?(?P<number>{UNSIGNED}){ATTACHED}(?![\w/]|[.,]\d|\s*\^|\*\*|\\[a-z])",
    re.ASCII,
)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
UNIT = re.compile(
    r"(?:\\?%|°|\^\{?\\circ\}?|\\(?:text|mathrm|mbox)\{[^{}\d]*\}|(?:km|cm|mm|kg|mg|ml|lbs?|mph)"
    r"|\s+[A-Za-z][A-Za-z ./'-]*(?:\^?[23²³])?)"
)
SINGLE = frozenset("mgshlLAKNJWVCF")  # letters that are units; other letters are variables
WORDS = """pi sqrt sin cos tan log ln or and to plus minus times over out in by half halves third
thirds quarter quarters fifths tenths hundred dozen score more less fewer not but if mod"""
VALUES = frozenset(WORDS.split())  # words that change the value of the number before them
FRACTION = re.compile(
    r"(?:(?P<whole>(?<![\w^_.{}])\d+)\s*)?\\(?:[dtc]?frac|nicefrac|sfrac)\s*"
    r"(?:\{\s*(?P<over>-?\d{1,50})\s*\}|(?P<top>\d))\s*(?:\{\s*(?P<under>\d{1,50})\s*\}|(?P<low>\d))"
)
VULGAR = re.compile(r"(\d)?[ \u2009\u202f]?([¼½¾⅐-⅞])")
SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺"
RAISED = re.compile(rf"(?<=[\d)])[{SUPERSCRIPTS}]+")
THIN = re.compile(r"(?<=\d)(?:[\u00a0\u2009\u202f]|\\[,;: ]|~)(?=\d{3}(?!\d))")
NUMERAL = re.compile(
    r"(?<![\w.,\\])(?P<digits>-?\(?(?:\d[\dA-Za-z]*|[A-Z]+\d[\dA-Z]*)(?:\.[\dA-Z]+)?)\)?\s*"
    r"(?:_\s*(?:\{\s*(?:\\text\{)?\s*(?P<braced>\d{1,2}|[a-z]+)\s*\}?\s*\}|(?P<plain>\d(?!\d)))"
    r"|\s*\(?(?:in )?base[- ](?P<named>\d{1,2}|[a-z]+)\)?)(?!\w)"
)
BASES = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen")  # fmt: skip


def number(text: str) -> Fraction | None:
    """The value of a text that is one number, possibly with a currency or unit; else None.

    A percent sign counts as a unit.
    """
    text = _plain(text)
    sign = r"([-+]?)\s*[$€£]?\s*([-+]?)"
    match = re.match(rf"{sign}({FACTORIAL}|{GROUPED}|{UNSIGNED})", text)
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
    """The numbers within a text, as (value, start, end) with positions in the result of
    `plain_minus`."""
    text = plain_minus(text)
    places = []
    for match in INSIDE.finditer(text):
        value = _value(match["number"])
        if value is not None:
            negative = match[0].startswith("-")
            places.append((-value if negative else value, match.start(), match.end()))
    return places


def plain_minus(text: str) -> str:
    """A text with fractions as a/b and a single kind of minus sign, for `numbers`."""
    text = _one_way(text.replace("–", "-"))
    text = re.sub(r"\^\{?\\circ\}?|\\degree\b", "°", text)
    return re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r" \1", text).replace("$", " ")


def numeral(text: str) -> tuple[str, int] | None:
    """The last number with a base in a text: its digits, and the base from 2 to 36."""
    last = None
    for match in NUMERAL.finditer(re.sub(r"[₀-₉]+", _lowered, text).replace("$", "")):
        name = (match["braced"] or match["plain"] or match["named"]).casefold()
        base = int(name) if name.isdigit() else BASES.index(name) + 2 if name in BASES else 0
        digits = match["digits"].replace("(", "").upper()
        if 2 <= base <= 36 and all(int(digit, 36) < base for digit in re.sub(r"[-.]", "", digits)):
            last = re.sub(r"^(-?)0+(?=[^.])", r"\1", digits), base
    return last


def _plain(text: str) -> str:
    return _one_way(text.strip()).replace("\\left", "").replace("\\right", "").strip()


def _one_way(text: str) -> str:
    """A text with a single notation for minus, times, powers, fractions and thousands."""
    text = text.replace("−", "-").replace("\\$", "$").replace("\\%", "%").replace("\u2044", "/")
    text = THIN.sub("", text.replace("\\!", "").replace("{,}", ","))
    text = text.replace("\\,", "")
    text = re.sub(r"\\times(?![a-z])|\\cdot(?![a-z])|[·⋅∙]", "×", text)
    text = RAISED.sub(lambda match: f"^{{{unicodedata.normalize('NFKC', match[0])}}}", text)
    text = text.replace("−", "-")  # also a raised minus
    text = VULGAR.sub(_spelled, text)
    return FRACTION.sub(_stroke, text)


def _spelled(match: re.Match[str]) -> str:
    fraction = unicodedata.normalize("NFKC", match[2]).replace("\u2044", "/")
    return f"{match[1]} {fraction}" if match[1] else fraction


def _stroke(match: re.Match[str]) -> str:
    over, under = match["over"] or match["top"], match["under"] or match["low"]
    return f"{match['whole']} {over}/{under}" if match["whole"] else f"{over}/{under}"


def _lowered(match: re.Match[str]) -> str:
    return f"_{{{unicodedata.normalize('NFKC', match[0])}}}"


def _value(digits: str) -> Fraction | None:
    digits = digits.replace(",", "")
    if digits.endswith("!"):
        return Fraction(factorial(int(digits[:-1])))
    try:
        if raised := re.fullmatch(rf"(?:({DIGITS})\s*[×*xX])?\s*(\d+){EXPONENT}", digits):
            exponent = int(re.findall(r"[-+]?\d+", digits)[-1])
            return Fraction(raised[1] or 1) * Fraction(int(raised[2])) ** exponent
        if mixed := re.fullmatch(r"(\d+) (\d+/\d+)", digits):
            return Fraction(mixed[1]) + Fraction(mixed[2])
        return Fraction(digits.replace(" ", ""))
    except ZeroDivisionError:
        return None


def _is_unit(rest: str) -> bool:
    if UNIT.fullmatch(rest.rstrip()) is None:
        return False
    words = re.findall(r"[A-Za-z]+", rest.replace("\\text", "").replace("\\mathrm", ""))
    if not words or rest.lstrip().startswith(("^", "\\%", "%", "°")):
        return True
    first = words[0]
    return first.casefold() not in VALUES and (len(first) > 1 or first in SINGLE or "\\" in rest)
