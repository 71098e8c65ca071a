"""Worked steps: one equation or comparison, written alike in every stage except for its bracket.

The bare form, which pretraining text uses, lacks only the bracket: `72 - 66 = 6` instead of
`72 - 66 = [ 12 - 6 = 6, 7 - 6 - 1 = 0 ] 6`. So a hand-over inside an equation reads naturally.
"""

from __future__ import annotations

from typing import Literal

Operator = Literal["+", "-"]


def result(a: int, sign: Operator, b: int) -> int:
    """The value of `a sign b`."""
    return a + b if sign == "+" else a - b


def equation(a: int, sign: Operator, b: int, worked: bool) -> str:
    """`a sign b = c`, by columns when worked. Numbers are 0..99 and, for "-", `a >= b`."""
    working = f"{_columns(a, sign, b)} " if worked else ""
    return f"{a} {sign} {b} = {working}{result(a, sign, b)}"


def _columns(a: int, sign: Operator, b: int) -> str:
    (tens_a, ones_a), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
    if sign == "+":
        ones = ones_a + ones_b
        carry, tens = " + 1" if ones > 9 else "", tens_a + tens_b + ones // 10
    else:
        borrow = ones_a < ones_b
        ones_a += 10 if borrow else 0
        ones = ones_a - ones_b
        carry, tens = " - 1" if borrow else "", tens_a - tens_b - borrow
    return f"[ {ones_a} {sign} {ones_b} = {ones}, {tens_a} {sign} {tens_b}{carry} = {tens} ]"


def earlier(a: int, b: int, worked: bool) -> str:
    """`a and b: c`, c being the lesser of two numbers 10..99; digit by digit when worked."""
    working = f"{_digits(a, b)} " if worked else ""
    return f"{a} and {b}: {working}{min(a, b)}"


def _digits(a: int, b: int) -> str:
    (tens_a, ones_a), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
    if tens_a != tens_b:
        return f"[ {tens_a} {_relation(tens_a, tens_b)} {tens_b} ]"
    return f"[ {tens_a} = {tens_b}, {ones_a} {_relation(ones_a, ones_b)} {ones_b} ]"


def _relation(a: int, b: int) -> str:
    return "<" if a < b else ">" if a > b else "="
