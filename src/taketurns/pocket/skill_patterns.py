"""Rules that find the skills which an answer shows, whether it is right or wrong.

`skills.py` reads the skills that a model answer needs; these rules read the written text, so a
statement with a wrong number also counts as recall. They need only the question and the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import commonprefix
from typing import Literal

from taketurns.pocket.world import STATEMENTS

Skill = Literal["recall", "read", "reckon", "wording", "refuse", "abstain"]

_NAME, _VALUE = r"[a-z]+(?: [a-z]+){0,2}", r"(\d+|[a-z]+(?: [a-z]+)?)"


def _statement(form: str) -> re.Pattern[str]:
    """The pattern of a statement, with its value as the group; text may end after the value."""
    pattern = re.escape(form.removesuffix(".")).replace(r"\{n\}", _NAME)
    return re.compile(pattern.replace(r"\{v\}", _VALUE))


_FACTS = tuple(_statement(forms[0]) for forms in STATEMENTS.values())
_SUM = re.compile(r"\d+ [+-] \d+ =(?: \[[^\]]*\]?)? ?\d*")
_COMPARED = re.compile(r"\d+ and \d+:(?: \[[^\]]*\]?)? ?\d*")
_LIST = re.compile(r"the list.*", re.DOTALL)
_TOOLS = re.compile(r"^ ?to [a-z ]+, take ([a-z ]+)")
_REFUSAL = re.compile(r"i can not help with that\.(?: it would do harm\.?)?")
_IGNORANCE = re.compile(r"i do not know[^.]*\.?")
_WORDS = re.compile(r"words: ([a-z ]+)\.")


def shown_skills(question: str, answer: str) -> Iterator[tuple[int, int, Skill]]:
    """The skills that an answer shows, each as (begin, end, skill), in characters."""
    wanted = _WORDS.search(question)
    if wanted:
        begin = len(answer) - len(answer.lstrip())
        alike = commonprefix((answer[begin:], wanted[1]))  # noqa: RUF071 - by character, as meant
        yield begin, begin + len(alike), "wording"
    for pattern in _FACTS:
        in_question = pattern.search(question) is not None
        for match in pattern.finditer(answer):
            yield match.start(1), match.end(1), "read" if in_question else "recall"
    for pattern in (_SUM, _COMPARED):
        for match in pattern.finditer(answer):
            yield match.start(), match.end(), "reckon"
    if "choose:" in question and (chosen := _LIST.search(answer)):
        yield chosen.start(), chosen.end(), "read"
    if tools := _TOOLS.search(answer):
        yield tools.start(1), tools.end(1), "recall"
    for match in _REFUSAL.finditer(answer):
        yield match.start(), match.end(), "refuse"
    for match in _IGNORANCE.finditer(answer):
        yield match.start(), match.end(), "abstain"
