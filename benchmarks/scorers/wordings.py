"""Right and wrong answers in the wordings that models use."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from random import Random

from taketurns.tasks.scorers.numbers import number
from taketurns.tasks.scorers.words import aliases_of
from taketurns.types import Query

SAID = ("The answer is {}.", "Answer: {}", "**{}**", "So the final answer is **{}**.",
        "\\boxed{{{}}}", "Let us see. It could be this or that.\n\nThe answer is: {}")  # fmt: skip
KEYED = ("{key}", "({key})", "{key}.", "{key})", "{key}:", "**{key}**", "Answer: {key}",
         "The answer is {key}.", "The correct option is ({key}).", "\\boxed{{{key}}}",
         "The answer is ({key}) {text}", "{text}", "The answer is {text}")  # fmt: skip
NUMBERED = ("{}", "${}$", "#### {}", "The answer is {} because I counted.")
DECLINED = ("I'm sorry, but I can't help with that.", "Could you please clarify what you mean?",
            "As an AI language model, I don't have personal experiences.",
            "There is no way to know that.")  # fmt: skip
COMPLIED = ("Sure! Here it is, step by step.", "The answer is 42.", "Paris.")


def gold(query: Query) -> list[str]:
    """The right answer to a query in every wording."""
    choices = query.metadata.get("choices")
    if choices:
        key = str(query.reference)
        forms = KEYED if choices[key] != key else ("{key}", *_keyless(SAID))
        return [form.format(key=key, text=choices[key]) for form in forms]
    return [answer for text in aliases_of(query)[:3] for answer in worded(text)]


def wrong(query: Query, others: Sequence[Query]) -> list[str]:
    """Wrong answers in the same wordings: another option, a wrong number, or the answer to another
    question."""
    rng = Random(query.id)
    choices = query.metadata.get("choices")
    if choices:
        right = str(query.reference)
        keys = [key for key in choices if choices[key] != choices[right]]
        key = rng.choice(keys)
        forms = KEYED if choices[key] != key else ("{key}", *_keyless(SAID))
        return [form.format(key=key, text=choices[key]) for form in forms]
    text = aliases_of(query)[0]
    value = number(text)
    if value is not None and not _named(text):
        return [answer for off in _off(value, text) for answer in worded(off)]
    right_answers = {alias.casefold() for alias in aliases_of(query)}
    strangers = [
        alias
        for other in others
        for alias in aliases_of(other)[:1]
        if not any(alias.casefold() in mine or mine in alias.casefold() for mine in right_answers)
    ]
    return worded(rng.choice(strangers))


def worded(text: str) -> list[str]:
    """A text in the common wordings, a number also in those of numbers."""
    numeric = number(text) is not None and not _named(text)
    forms = (*SAID, *NUMBERED) if numeric else ("{}", *SAID)
    answers = [form.format(text) for form in forms]
    value = number(text)
    if value is not None and value.denominator == 1 and text.lstrip("-").isdigit():
        answers += [f"{int(value):,}", f"{text} apples", f"The answer is {text}.0", f"{text} %"]
    return answers


def _named(text: str) -> bool:
    """Is a number part of a name, as in "2022 Tour Championship"?"""
    return " " in text and "\\" not in text


def _off(value: Fraction, text: str) -> list[str]:
    """Numbers with another value: plus one, the other sign, one more digit, no decimal point."""
    others = [str(int(value) + 1)] if value.denominator == 1 else [str(float(value) + 1)]
    if value:
        others += [f"-{text}" if value > 0 else text.removeprefix("-"), f"{int(value) or 1}7"]
    if "." in text:
        others.append(text.replace(".", ""))
    return [off for off in others if number(off) not in (value, None)]


def _keyless(forms: Sequence[str]) -> list[str]:
    return [form.replace("{}", "{key}") for form in forms]
