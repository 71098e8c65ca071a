r"""Inequalities in one variable as sets in LaTeX: `x > 2` as `(2,\infty)`."""

from __future__ import annotations

import re

WORDED = (
    (re.compile(r"\\(?:leq?slant|leq?|le)(?![a-z])|<=|=<"), "≤"),
    (re.compile(r"\\(?:geq?slant|geq?|ge)(?![a-z])|>="), "≥"),
    (re.compile(r"\\lt(?![a-z])"), "<"),
    (re.compile(r"\\gt(?![a-z])"), ">"),
    (re.compile(r"\\neq?(?![a-z])|!="), "≠"),
    (
        re.compile(
            r"\\(?:left|right|,|;|:|!|quad|displaystyle)(?![a-z])|[$\s]|(?<=\d),(?=\d{3}(?!\d))"
        ),
        "",
    ),
)
EITHER = re.compile(r"\\(?:text|mathrm|mbox)\{or\}|\\lor(?![a-z])|(?<![a-z\\])or(?![a-z])|\u2228")
MEMBER = re.compile(r"([a-z])(?:\\in(?![a-z])|∈)(.+)")
BUILT = re.compile(r"\\\{([a-z])(?:\\mid|\\vert|[|:])(.+)\\\}")
VARIABLE = re.compile(r"[A-Za-z]|\\[a-z]+theta|\\theta")
TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "≠": "≠"}


def as_set(text: str) -> tuple[str, str] | None:
    r"""The variable and the set of an inequality, of several joined by "or", of `x \in …` or of
    `\{x \mid …\}`; None for any other text."""
    for pattern, sign in WORDED:
        text = pattern.sub(sign, text)
    if built := BUILT.fullmatch(text):
        inner = as_set(built[2])
        return inner if inner and inner[0] == built[1] else None
    if member := MEMBER.fullmatch(text):
        return member[1], member[2]
    parts = [_interval(part.strip(",")) for part in EITHER.split(text)]
    intervals = [part for part in parts if part is not None]
    if len(intervals) < len(parts) or len({variable for variable, _ in intervals}) != 1:
        return None
    return intervals[0][0], r"\cup".join(interval for _, interval in intervals)


def _interval(text: str) -> tuple[str, str] | None:
    sides = re.split(r"([<>≤≥≠])", text)
    if len(sides) == 3 and all(sides):
        left, sign, right = sides
        if VARIABLE.fullmatch(right) and not VARIABLE.fullmatch(left):
            left, sign, right = right, TURNED[sign], left
        if not VARIABLE.fullmatch(left) or VARIABLE.fullmatch(right):
            return None
        closing = "]" if sign == "≤" else ")"
        opening = "[" if sign == "≥" else "("
        below, above = rf"(-\infty,{right}{closing}", rf"{opening}{right},\infty)"
        if sign == "≠":
            return left, rf"{below}\cup{above}"
        return left, below if sign in "<≤" else above
    if len(sides) == 5 and all(sides) and VARIABLE.fullmatch(sides[2]):
        low, first, variable, second, high = sides
        if first in ">≥" and second in ">≥":
            low, first, second, high = high, TURNED[second], TURNED[first], low
        if first in "<≤" and second in "<≤":
            left, right = "[" if first == "≤" else "(", "]" if second == "≤" else ")"
            return variable, f"{left}{low},{high}{right}"
    return None
