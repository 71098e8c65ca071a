"""An expression is found in pieces where it is found in the whole, and does not take for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taketurns.config.policy import Guard
from taketurns.errors import ConfigError, EngineError
from taketurns.generation.guards import Rules
from taketurns.utils import expressions
from taketurns.utils.expressions import Expression

PATTERNS = [
    "ab", "a+b", r"\bab\b", r"b\b", r"\Ba", r"a \bb", r"b\B", "a.b", "(?i)AB", "a{2,3}b", "[^a]b",
    "(a|bb)b", "(?<=a)b", "(?<!a)b", "a(?=b)", "a(?!b)", "^a", "(?m)^a", "a$", r"\Aab",
    r"ab\Z", r"(a)b\1",
    "(?s)a.*b", "a(?#x)b", "(?>a+)b", "(?:)", "b?a",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    st.lists(st.text("ab \n", max_size=5), max_size=6),
)
def test_pieces_find_what_the_whole_finds(patterns: list[str], pieces: list[str]) -> None:
    rules = Rules((), patterns)
    begun, *rest = pieces or [""]
    read, text = rules.begin(begun), begun
    for piece in rest:
        text += piece
        after = rules.read(read, piece)
        assert (after is None) == any(re.search(pattern, text) for pattern in patterns)
        if after is None:
            break
        read = after


@pytest.mark.parametrize(
    ("pattern", "reach"),
    [
        ("abc", 4),
        (r"\bhow to (burn|rob)\b", 12),
        ("a{2,9}", 10),
        ("yx*", None),
        ("^a", None),
        ("(?<=a)b", None),
        (r"(a)\1", None),
        ("a$", None),
    ],
)
def test_what_is_bounded_reads_no_more_than_it_needs(pattern: str, reach: int | None) -> None:
    assert Expression(pattern).reach == reach
    read = Rules((), [pattern]).read(Rules((), [pattern]).begin(""), "x" * 1000)
    assert read is not None
    assert len(read.tail) == (1000 if reach is None else reach)


def test_an_expression_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "SECONDS", 1e-9)
    with pytest.raises(EngineError, match="the guard's pattern 'b' did not finish on 100000 char"):
        Expression("b").found_in("a" * 100_000)


@pytest.mark.parametrize("pattern", ["x{e}", "(?:bad){s<=1}", "a{1<=e<=2}"])
def test_what_the_engine_would_take_for_something_else_is_refused(pattern: str) -> None:
    re.compile(pattern)
    with pytest.raises(ConfigError, match=r"patterns: .*write \\{"):
        Guard(0, patterns=(pattern,))
    escaped = pattern.replace("{", r"\{")
    assert Expression(escaped).found_in(re.sub(r"\(\?:|\)", "", pattern))


@pytest.mark.parametrize("pattern", ["(", r"\p{L}", "[a", "a**"])
def test_what_is_no_expression_of_python_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="is not a regular expression"):
        Guard(0, patterns=(pattern,))
