"""Mathematical equality: numbers exactly, expressions by math-verify.

The answer is the conclusion of the text (`reading.py`). Without a conclusion it is the last number
of the text for a numeric gold answer, otherwise its last line. In a conclusion with several
numbers, the part after its last equals sign counts, else the first number, unless another one is
offered with it ("5 or 6"). A unit, currency or percent sign in the answer is ignored; "20 %" is
also right for 0.2. A number with a base is right with the same digits in the same base, or without
a base. An inequality is read as an interval; a pair in brackets is ordered, a set is not.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar

from taketurns.errors import DataError
from taketurns.tasks.scorers.base import unparsed
from taketurns.tasks.scorers.numbers import number, numbers, numeral, plain_minus
from taketurns.tasks.scorers.reading import bare, concluded, last_line, sentence
from taketurns.tasks.scorers.relations import as_set
from taketurns.tasks.scorers.styling import answered, unprefaced, unstyled
from taketurns.types import Query, Score
from taketurns.utils.extras import require

SECONDS = 3  # for one comparison of expressions
LONGEST = 400  # characters of an expression
TOWER = re.compile(r"\^\s*\{?[^{}]*\^|(?:\^|\*\*)\s*\{?\s*-?\d{4,}|\d{4,}!|!{2}")
OFFERED = re.compile(r"\s*(?:or|and|/|to|,)\s*-?[.\d]")
RECKONED = re.compile(r"\s*(?:[-+*/=^x×÷]|\\times|\\cdot)\s*[-($\d]")
FACTOR = re.compile(r"\s*(?:[*^(×]|[+x]\s*[\d(]|(?![amgshl]\b)[a-z]\b|pi\b|\\[a-z])")
DENIED = re.compile(r"\b(?:not|n't)\s*$")
FORMULA = re.compile(r"\$\$?([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
PROSE = re.compile(r"(?<![\\\w{])[A-Za-z]{4,}")
LOOSE = re.compile(r"(?<!\\)\b[A-Za-z]{2,}\s|\s[A-Za-z]{2,}|[-+*/=]\s*$")  # words, or half a sum
EMPTY = re.compile(r"[\s\\{}$().,\[\]]*")
EXCLAIMED = re.compile(r"[^$\\]*\s[^$\\]*\d!\s*", re.DOTALL)
ASIDE = re.compile(r"\s*(?:or|and|/|to|,)\s*[$€£]?")  # between two alternative numbers
CALCULATION = re.compile(r"(?:\\[a-z]+|[a-z](?![a-z])|[\d\s.(){}+\-*/^!×÷·√π])+", re.IGNORECASE)
OPERATED = re.compile(r"[\d)}!]\s*(?:[-+*/^×÷·!(√π]|\\[a-z])|[√π]\s*\(?\d|\\[a-z]+\{?\(?\d")
SCIENTIFIC = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})(?![\w.])")
PAIR = re.compile(r"[(\[](?P<inside>[^()\[\]]*|(?:[^()\[\]]|\([^()]*\))*)[)\]]")
SET = re.compile(r"\\\{((?!\\[{}]).)*\\\}", re.DOTALL)


@dataclass(frozen=True)
class Mathematics:
    """1 for an answer equal to the reference, else 0."""

    stored_name: ClassVar[str] = "Mathematics"

    name: str = "mathematics"
    version: ClassVar[int] = 2

    def check(self, query: Query) -> None:
        require("comparing mathematics", "math_verify")
        if not isinstance(query.reference, str | int | float) or not str(query.reference).strip():
            raise DataError(
                f"the reference must be a number or an expression, not {query.reference!r}"
            )

    def score(self, query: Query, answer: str) -> Score:
        gold, answer = str(query.reference), unprefaced(answered(answer))
        if (based := _same_numeral(gold, answer)) is not None:
            return based
        value = number(bare(gold))
        if value is not None and (readings := _readings(answer)):
            right = any(_same(value, gold, meant, written) for written, meant in readings)
            return Score(float(right), readings[0][0])
        written = _expression(answer)
        if written is None:
            return unparsed("no expression" if value is None else "no number")
        if value is not None and re.search(r"[\d\\]", written) is None:
            return unparsed("no number")
        return Score(float(_plain(written) == _plain(gold) or _equal(gold, written)), written)

    def canonical_answer(self, query: Query, answer: str) -> str | None:
        """The value of a number, or an expression as it is written, without spaces: the reading of
        `score` for a numeric gold answer, unless the conclusion is a formula that is not a
        number."""
        answer = unprefaced(answered(answer))
        if (based := numeral(_whole(answer))) is not None:
            return f"{based[0]}_{based[1]}"
        expression = _expression(answer)
        if (
            expression is not None
            and not LOOSE.search(expression)
            and not EXCLAIMED.fullmatch(answer)
        ):
            value = number(bare(expression.rpartition("=")[2]))
            return _plain(expression) if value is None else str(value)
        if readings := _readings(answer):
            return str(readings[0][1])
        return None if expression is None else _plain(expression)


def _whole(text: str) -> str:
    """The conclusion of a text; the whole text if it has none."""
    conclusion = concluded(text)
    return text if conclusion is None else conclusion


def _same_numeral(gold: str, answer: str) -> Score | None:
    """The score if the gold answer or the answer has a base; None if neither has."""
    gold_numeral, answer_numeral = numeral(gold), numeral(_whole(answer))
    if gold_numeral is None and (answer_numeral is None or number(bare(gold)) is None):
        return None
    if gold_numeral is None or answer_numeral is None:
        digits = gold_numeral[0] if gold_numeral else bare(gold).replace(",", "").upper()
        written = (
            bare(sentence(_whole(answer)).rpartition("=")[2])
            if answer_numeral is None
            else answer_numeral[0]
        )
        if answer_numeral is None and (match := re.search(r"[-\w.]*\d[\w.]*(?=\W*$)", written)):
            written = match[0]
        return Score(float(digits == written.replace(",", "").strip("$.").upper()), written)
    return Score(float(gold_numeral == answer_numeral), f"{answer_numeral[0]}_{answer_numeral[1]}")


def _readings(text: str) -> list[tuple[str, Fraction]]:
    """The number that a text answers, as (text, value) pairs. "The answer is 5!" may be an
    exclamation or a factorial, so it gives both readings."""
    reading = _numeric(text)
    if reading is None:
        return []
    if EXCLAIMED.fullmatch(unstyled(text)) and reading[0].endswith("!"):
        plain = reading[0].rstrip("!")
        if (value := number(plain)) is not None:
            return [(plain, value), reading]
    return [reading]


def _numeric(text: str) -> tuple[str, Fraction] | None:
    """The number that a text answers: as it is written, and its value."""
    conclusion = concluded(text)
    if conclusion is None or _heads(conclusion, text):
        whole = bare(text)
        if (value := number(whole)) is not None:
            return whole, value
        plain = plain_minus(unstyled(text))
        if _calculates(whole):
            return None
        places = [place for place in numbers(plain) if not DENIED.search(plain, 0, place[1])]
        if len(places) > 1 and ASIDE.fullmatch(plain, places[-2][2], places[-1][1]):
            return None
        return (plain[places[-1][1] : places[-1][2]], places[-1][0]) if places else None
    for part in (conclusion, sentence(conclusion)):
        if (value := number(bare(part))) is not None:
            return bare(part), value
    if "\\" in plain_minus(conclusion):  # an expression: math-verify reads it
        return None
    side = plain_minus(sentence(conclusion))
    places = numbers(side)
    if not places or places[0][1] > 0 or RECKONED.match(side, places[0][2]):
        side = side.rpartition("=")[2]
        places = numbers(side)
        if (value := number(bare(side))) is not None:
            return bare(side), value
    if not places:
        return None
    value, start, end = places[0]
    if OFFERED.match(side, end) or FACTOR.match(side, end):
        return None
    return side[start:end].strip(), value


def _calculates(text: str) -> bool:
    """Is a text a formula with more than a number, which math-verify must compute?"""
    return CALCULATION.fullmatch(text) is not None and OPERATED.search(text) is not None


def _heads(conclusion: str, text: str) -> bool:
    """Does "Answer: …" only begin the reasoning? It has no number, and further lines follow."""
    return not re.search(r"[\d\\]", conclusion) and conclusion not in unstyled(last_line(text))


def _same(gold: Fraction, gold_written: str, answer: Fraction, answer_written: str) -> bool:
    if gold == answer:
        # "0.2 %" is wrong for 0.2, but "20 %" is right for a gold answer of 20
        return (
            not answer_written.rstrip().endswith("%")
            or abs(gold) >= 1
            or gold_written.rstrip().endswith("%")
        )
    if answer_written.rstrip().endswith("%") and not gold_written.rstrip().endswith("%"):
        return gold == answer / 100
    return (
        gold_written.rstrip().endswith("%") and "%" not in answer_written and gold / 100 == answer
    )


def _expression(text: str) -> str | None:
    """The expression in the conclusion of a text; else its last formula, or its last line."""
    conclusion = concluded(text)
    if conclusion is None:
        formulas = FORMULA.findall(text)
        expression = bare("".join(formulas[-1]) if formulas else last_line(text))
        if " " in expression and PROSE.search(expression):
            return None
    else:
        expression = bare(conclusion)
        if "\\" not in expression:
            expression = bare(sentence(expression))
    return None if EMPTY.fullmatch(expression) else expression


def _plain(expression: str) -> str:
    """An expression without spaces, sizes of brackets and kinds of fraction."""
    text = re.sub(r"\\(?:left|right|,|!|;|:|quad|displaystyle)|[$\s]", "", bare(expression))
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    return re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r"\1", text)


def _equal(gold: str, answer: str) -> bool:
    """Equality by math-verify; an expression that cannot be read in time is equal to none."""
    if len(answer) > LONGEST or TOWER.search(answer):
        return False
    left, right = as_set(bare(gold)), as_set(bare(answer))
    if left and right and left[0] != right[0]:
        return False
    if left or right:
        gold, answer = left[1] if left else gold, right[1] if right else answer
    elif None not in (kinds := (_kind(gold), _kind(answer))) and kinds[0] != kinds[1]:
        return False
    return _verified(_powered(gold), _powered(answer))


def _kind(expression: str) -> str | None:
    """The kind of a list: "ordered" in brackets, "set" in braces; None if it is not enclosed."""
    text = _plain(expression.rpartition("=")[2])
    if SET.fullmatch(text):
        return "set"
    pair = PAIR.fullmatch(text)
    return "ordered" if pair and "," in pair["inside"] else None


def _powered(expression: str) -> str:
    """An expression with powers of ten for "3e8", which math-verify reads as a product with Euler's
    number."""
    return SCIENTIFIC.sub(r"\1\\times 10^{\2}", expression)


@lru_cache(maxsize=4096)  # rollouts repeat the same comparisons
def _verified(gold: str, answer: str) -> bool:
    import math_verify

    # Its time limit uses an alarm signal, which works only in the main thread.
    alone = threading.current_thread() is threading.main_thread()
    seconds = SECONDS if alone else None
    try:
        left, right = (_parsed(math_verify, text, seconds) for text in (gold, answer))
        return bool(left and right and math_verify.verify(left, right, timeout_seconds=seconds))
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return False


def _parsed(math_verify: Any, text: str, seconds: int | None) -> list[Any]:
    """The parsed expression, without math-verify's fallback to strings, which `_plain` compares."""
    dressed = f"${bare(text)}$"
    return list(math_verify.parse(dressed, fallback_mode="no_fallback", parsing_timeout=seconds))
