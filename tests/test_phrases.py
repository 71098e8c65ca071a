"""Phrases are found as a regular expression over the whole text would find them, piece by piece."""

from __future__ import annotations

import re
import sys

from hypothesis import given
from hypothesis import strategies as st

from taketurns.generation.phrases import PhraseAutomaton, _unit

LETTERS = st.text("ab_ \n.Bß", max_size=12)


def whole(phrases: list[str], text: str) -> bool:
    """What is asked, the slow way; none of these letters has a case that is longer but ß."""

    def words(phrase: str) -> str:
        return r"\s+".join(re.escape(word) for word in phrase.replace("ß", "ss").split())

    expression = "|".join(rf"(?<!\w){words(phrase)}(?!\w)" for phrase in phrases)
    return re.search(expression, text.replace("ß", "ss"), re.IGNORECASE) is not None


@given(
    st.lists(LETTERS.filter(str.strip), min_size=1, max_size=4),
    st.lists(LETTERS, max_size=6),
)
def test_pieces_find_what_the_whole_finds(phrases: list[str], pieces: list[str]) -> None:
    finder = PhraseAutomaton(phrases)
    reading, text = finder.start, ""
    for piece in pieces:
        text += piece
        after = finder.read(reading, piece)
        found = after is None or after.ending
        assert found == whole(phrases, text)
        if after is None:
            break
        reading = after
        assert len(reading.recent) == len(finder.start.recent)


def test_a_reading_can_be_gone_on_from_again() -> None:
    finder = PhraseAutomaton(["bad word"])
    first = finder.read(finder.start, "a bad ")
    assert first is not None
    second = finder.read(first, "word")
    assert second is not None
    assert second.ending
    assert finder.read(second, "!") is None
    other = finder.read(first, "wording")
    assert other is not None
    assert not other.ending


def test_case_is_folded_at_least_as_far_as_regular_expressions_do() -> None:
    capitals = [letter for letter in map(chr, range(sys.maxunicode + 1)) if letter.isupper()]
    assert all(_unit(c)[0] == _unit(c.lower())[0] for c in capitals if len(c.lower()) == 1)
    for pair in ("ſs", "İi", "ıi", "ßẞ", "µμ", "ςσ", "KK", "ﬅﬆ"):  # noqa: RUF001
        assert re.fullmatch(pair[0], pair[1], re.IGNORECASE) or pair[0] == "ß"
        assert _unit(pair[0])[0] == _unit(pair[1])[0]
    assert (
        PhraseAutomaton(["STRASSE"]).read(PhraseAutomaton(["STRASSE"]).start, "die Straße hier")
        is None
    )


def test_what_a_piece_costs_does_not_depend_on_what_stood_before() -> None:
    """Each character is looked at once, however long a phrase it could be the beginning of."""
    finder = PhraseAutomaton([f"{'a ' * 100}{letter}" for letter in "bcdefghij"])
    steps = 0
    inner = finder._step

    def counted(state: int, letter: str) -> int:
        nonlocal steps
        steps += 1
        return inner(state, letter)

    finder._step = counted  # type: ignore[method-assign]
    reading = finder.start
    for _ in range(2000):
        after = finder.read(reading, "a ")
        assert after is not None
        reading = after
    assert steps == 4000
