"""What holds of every closed scorer, for any gold answer: right in every common wording, never for
an empty text, and no wrong answer by accident of its wording."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from taketurns.tasks.scorers.base import Scorer
from taketurns.tasks.scorers.choice import Choice
from taketurns.tasks.scorers.mathematics import Mathematics
from taketurns.tasks.scorers.numbers import number
from taketurns.tasks.scorers.words import Alias, Exact, TokenF1
from taketurns.types import Query

Case = tuple[Scorer, object, list[str], dict[str, Any]]
SAID = st.sampled_from(
    ["{}", "The answer is {}.", "the answer is: {}", "Answer: {}", "**{}**", "**Answer:** {}",
     "The final answer is **{}**.", "\\boxed{{{}}}", "$\\boxed{{{}}}$.", "Thinking it over…\n\n{}",
     "First I said 3. Then I saw why not.\nSo the correct answer is {}",
     "The answer is \\boxed{{{}}}. I hope it is correct."]
)  # fmt: skip
KEYED = st.sampled_from(
    ["{}", "({})", "{}.", "{})", "{}:", "**{}**", "Answer: {}", "The answer is ({}).", "[{}]",
     "\\boxed{{{}}}", "I weighed them all. The correct option is {}.", "Option {}"]
)  # fmt: skip
whole = st.integers(-(10**7), 10**7)
decimals = st.decimals(-9999, 9999, places=3).map(lambda d: format(d.normalize(), "f"))
fractions = st.tuples(st.integers(-99, 99), st.integers(2, 99))
letters = st.characters(categories=["Lu", "Ll"], include_characters=" ")
# Words that are no wording of an answer themselves.
names = st.text(letters, min_size=2, max_size=20).map(str.split).filter(bool).map(" ".join)
KEYS = st.sampled_from(["ABCD", "ABCDEFGHIJKL", "1234", "wxyz"]).map(list)


def value(scorer: Scorer, gold: object, answer: str, **metadata: object) -> float | None:
    return scorer.score(Query("1", text="?", reference=gold, metadata=metadata), answer).value


@given(whole, SAID)
def test_a_whole_number_in_any_wording(n: int, said: str) -> None:
    for written in {str(n), f"{n:,}", f"{n}.0"}:
        assert value(Mathematics(), str(n), said.format(written)) == 1


@given(whole, whole, SAID)
def test_another_number_in_no_wording(n: int, other: int, said: str) -> None:
    assume(n != other)
    assert value(Mathematics(), str(n), said.format(other)) == 0


@given(decimals, SAID)
def test_a_decimal_is_not_its_digits(gold: str, said: str) -> None:
    assert value(Mathematics(), gold, said.format(gold)) == 1
    digits = gold.replace(".", "")
    assume(Fraction(digits) != Fraction(gold))
    assert value(Mathematics(), gold, said.format(digits)) == 0


@given(whole.filter(bool), SAID)
def test_a_sign_is_never_lost(n: int, said: str) -> None:
    assert value(Mathematics(), str(n), said.format(-n)) == 0


@given(fractions, SAID)
def test_a_fraction_however_it_is_written(parts: tuple[int, int], said: str) -> None:
    over, under = parts
    sign, size = "-" if over < 0 else "", abs(over)
    gold = f"{sign}\\frac{{{size}}}{{{under}}}"
    for written in (gold, f"{over}/{under}", f"{sign}\\dfrac{{{size}}}{{{under}}}"):
        assert value(Mathematics(), gold, said.format(written)) == 1
    assert value(Mathematics(), gold, said.format(f"{over}{under}")) == 0


@given(st.integers(1, 10**6), st.sampled_from(["apples", "km", "dollars per day", "%", "°"]))
def test_a_unit_changes_nothing(n: int, unit: str) -> None:
    for answer in (f"{n} {unit}", f"The answer is {n} {unit}.", f"\\boxed{{{n}\\text{{ {unit}}}}}"):
        assert value(Mathematics(), str(n), answer) == 1
        assert value(Mathematics(), str(n + 1), answer) == 0


@given(whole)
def test_a_number_is_read_back(n: int) -> None:
    assert number(f"{n:,}") == n
    assert number(f"${n}") == n
    assert number(f"{n}x") is None


@given(KEYS, st.data(), KEYED)
def test_an_option_by_its_key_whatever_the_keys(
    keys: list[str], data: st.DataObject, said: str
) -> None:
    choices = {key: f"this is option {i} of them" for i, key in enumerate(keys)}
    gold, other = data.draw(st.permutations(keys))[:2]
    assert value(Choice(), gold, said.format(gold), choices=choices) == 1
    assert value(Choice(), gold, said.format(other), choices=choices) == 0


@given(st.lists(names, min_size=2, max_size=5, unique_by=str.casefold), SAID)
def test_an_option_by_its_words(options: list[str], said: str) -> None:
    assume(all(not option.casefold().startswith(("a ", "an ", "the ")) for option in options))
    assume(all(len(option) > 1 and option.casefold() not in RESERVED for option in options))
    choices = {f"k{i}": option for i, option in enumerate(options)}
    assert value(Choice(), "k0", said.format(options[0]), choices=choices) == 1
    assert value(Choice(), "k1", said.format(options[0]), choices=choices) == 0


@given(names, SAID)
def test_words_in_any_wording(gold: str, said: str) -> None:
    assume(not RESERVED & set(gold.casefold().split()))
    for scorer in (Alias(), Exact(), TokenF1()):
        if scorer.name == "alias" or not said.startswith("Thinking"):
            assert value(scorer, gold, said.format(gold)) == 1


def unaccented(text: str) -> str:
    """As words are compared: without case and accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


@given(names, names, SAID)
def test_other_words_in_no_wording(gold: str, other: str, said: str) -> None:
    mine, theirs = (set(re.findall(r"\w+", unaccented(text))) for text in (gold, said + other))
    assume(mine.isdisjoint(theirs))
    assert value(Alias(), gold, said.format(other)) == 0
    assert value(Exact(), gold, said.format(other)) == 0


@given(
    st.one_of(whole.map(str), names), st.sampled_from(["", " ", "\n", "**", "$$", "\\boxed{}", "."])
)
def test_an_empty_answer_is_never_right(gold: str, empty: str) -> None:
    choices = {"A": gold, "B": gold + "x"}
    for scorer in (Mathematics(), Exact(), Alias(), TokenF1()):
        assert value(scorer, gold, empty) == 0
    assert value(Choice(), "A", empty, choices=choices) == 0


PREFACES = st.sampled_from(
    ["Sure! ", "Certainly. ", "Of course! ", "Great question! ", "Okay, ", "I'd be happy to help! ",
     "I'm not sure, but ", "If I'm not mistaken, "]
)  # fmt: skip
REASONS = st.sampled_from(
    ["Let me think about it.\n\n", "First I looked at all of it, and then at the rest.\n",
     "Step one: read. Step two: weigh.\n\n"]
)  # fmt: skip
STYLES = st.sampled_from(["*{}*", "_{}_", "**{}**", "__{}__", "***{}***", "**_{}_**"])
TAGS = st.sampled_from(
    [("<think>", "</think>"), ("", "</think>"), ("<thinking>", "</thinking>"),
     ("[THINK]", "[/THINK]"), ("<reasoning>", "</reasoning>"), ("◁think▷", "◁/think▷")]
)  # fmt: skip
OPTIONS = {"A": "iron ore", "B": "table salt", "C": "candle wax", "D": "olive oil"}
# What is asked, and what may be answered: by each scorer, right for one of them alone.
CASES = st.sampled_from(
    [(Mathematics(), "12", ["12", "13", "-12", "12.5", "0.12"], {}),
     (Mathematics(), "1/2", ["1/2", r"\frac{1}{2}", "2/1", r"1\frac{1}{2}"], {}),
     (Mathematics(), "x^2+1", ["x^2+1", "x^2-1", "x^3+1"], {}),
     (Mathematics(), "(2,1)", ["(2,1)", r"\{2,1\}", "(1,2)"], {}),
     (Choice(), "B", [*OPTIONS, *OPTIONS.values()], {"choices": OPTIONS}),
     (Alias(), ["Paris", "City of Light"], ["Paris", "City of Light", "Lyon", "Nice"], {}),
     (Exact(), "salt and pepper", ["salt and pepper", "pepper"], {}),
     (TokenF1(), "red old barn", ["red old barn", "old barn", "ship"], {})]
)  # fmt: skip


@given(CASES, st.data(), TAGS, st.sampled_from(["{}", "The answer is {}.", "Answer: {}"]))
def test_thinking_before_changes_no_score(
    case: Case, data: st.DataObject, tags: tuple[str, str], said: str
) -> None:
    scorer, gold, answers, metadata = case
    answer, thought = data.draw(st.sampled_from(answers)), data.draw(st.sampled_from(answers))
    plain = said.format(answer)
    after = f"{tags[0]}\nHm. The answer is {thought}. \\boxed{{{thought}}}{tags[1]}\n\n{plain}"
    assert scored(scorer, gold, after, metadata) == scored(scorer, gold, plain, metadata)


@given(CASES, st.data(), PREFACES, st.booleans())
def test_a_polite_beginning_changes_no_score(
    case: Case, data: st.DataObject, preface: str, concluding: bool
) -> None:
    scorer, gold, answers, metadata = case
    answer = data.draw(st.sampled_from(answers))
    hedged = preface.endswith(("but ", "mistaken, "))
    plain = f"The answer is {answer}." if concluding or hedged else answer
    polite = preface + plain
    assert scored(scorer, gold, polite, metadata) == scored(scorer, gold, plain, metadata)


@given(CASES, st.data(), REASONS)
def test_reasoning_before_changes_no_score(case: Case, data: st.DataObject, reason: str) -> None:
    scorer, gold, answers, metadata = case
    plain = f"The answer is {data.draw(st.sampled_from(answers))}."
    assert scored(scorer, gold, reason + plain, metadata) == scored(scorer, gold, plain, metadata)


@given(CASES, st.data(), STYLES, st.sampled_from(["{}", "The answer is {}.", "Answer: {}"]))
def test_bold_and_italics_change_no_score(
    case: Case, data: st.DataObject, style: str, said: str
) -> None:
    scorer, gold, answers, metadata = case
    answer = data.draw(st.sampled_from(answers))
    plain, styled = said.format(answer), said.format(style.format(answer))
    assert scored(scorer, gold, styled, metadata) == scored(scorer, gold, plain, metadata)
    whole = style.format(plain)
    assert scored(scorer, gold, whole, metadata) == scored(scorer, gold, plain, metadata)


@given(CASES, st.data(), st.sampled_from([str.upper, str.capitalize, str.swapcase]))
def test_case_changes_no_score(
    case: Case, data: st.DataObject, other: Callable[[str], str]
) -> None:
    scorer, gold, answers, metadata = case
    answer = data.draw(st.sampled_from([a for a in answers if a not in OPTIONS and "\\" not in a]))
    assume(not isinstance(scorer, Mathematics) or not re.search("[a-z]", answer))
    plain = f"The answer is {answer}."
    assert scored(scorer, gold, other(plain), metadata) == scored(scorer, gold, plain, metadata)


def scored(
    scorer: Scorer, gold: object, answer: str, metadata: dict[str, Any]
) -> tuple[float | None, bool]:
    score = scorer.score(Query("1", text="?", reference=gold, metadata=metadata), answer)
    return score.value, score.parsed


RESERVED = {
    "answer", "final", "correct", "option", "not", "is", "the", "a", "an", "i", "it", "so", "said",
    "rather", "instead", "then", "than", "of", "solution", "first", "hope", "why", "saw", "over",
    "thinking",
}  # fmt: skip
