"""Ids to text and back: pieces join to the whole, and nothing is shown that must be taken back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taketurns.checkpoints.text import StopFilter, TextCodec
from taketurns.engines.scripted import scripted_codec

TEXT = st.text(st.characters(exclude_characters="\N{REPLACEMENT CHARACTER}", codec="utf-8")).filter(
    lambda text: "<|end|>" not in text
)  # the codec's control token, which has no text


@given(TEXT, st.lists(st.integers(0, 200)))
def test_pieces_join_to_the_text_however_the_tokens_arrive(text: str, cuts: list[int]) -> None:
    codec = scripted_codec()
    ids = codec.encode(text)
    stream = codec.stream()
    bounds = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    pieces = [stream.push(*ids[a:b]) for a, b in pairwise(bounds)]
    assert "".join(pieces) + stream.flush() == text


def test_a_character_shows_with_the_token_that_completes_it() -> None:
    codec = scripted_codec()
    stream = codec.stream()
    first, second, third = codec.encode("€")
    assert stream.push(first) == ""
    assert stream.pending
    assert stream.push(second) == ""
    assert stream.push(third) == "€"
    assert not stream.pending


@given(TEXT, st.integers(0, 400))
@example("\U00010000" * 5, 19)  # what a stream looks back on may itself begin inside a character
def test_what_was_begun_before_a_stream_comes_with_what_finishes_it(text: str, cut: int) -> None:
    """Fault: a stream that begins inside a character never shows it, so no stop string with that
    character was seen."""
    codec = scripted_codec()
    ids = codec.encode(text)
    before, after = ids[:cut], ids[cut:]
    whole = bytes(text, "utf-8")[:cut].decode("utf-8", "ignore")
    stream = codec.stream(before)
    shown = "".join(map(stream.push, after))
    assert shown + stream.flush() == text[len(whole) :]


def test_a_replacement_character_is_whole() -> None:
    """Somebody wrote it; it is not the sign of a character that is to be finished."""
    codec = scripted_codec()
    assert codec.stream(codec.encode("a\N{REPLACEMENT CHARACTER}")).push(*codec.encode("b")) == "b"


def test_bytes_that_begin_no_character_are_not_waited_for() -> None:
    codec = scripted_codec()
    continuation = codec.encode("é")[1]
    assert codec.stream([continuation] * 9).push(*codec.encode("b")) == "b"


def test_half_a_character_at_the_end_is_dropped() -> None:
    codec = scripted_codec()
    stream = codec.stream()
    shown = stream.push(*codec.encode("a€")[:-1])
    assert shown + stream.flush() == "a"


def test_the_first_word_keeps_its_space(byte_tokenizer: Any) -> None:
    codec = TextCodec(byte_tokenizer)
    assert codec.stream(codec.encode("Answer:")).push(*codec.encode(" 42")) == " 42"


@given(
    st.text("abc", max_size=40),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 40)),
)
def test_text_is_shown_up_to_the_first_stop_string(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    whole = StopFilter(stops)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    shown = ""
    for a, b in pairwise(bounds):
        shown += whole.push(text[a:b])
        assert not any(stop in shown for stop in stops)
    ended = whole.stopped
    shown += whole.flush()
    # The stop that completes first ends the text, whatever the pieces were.
    ends = [at + len(stop) for stop in stops if (at := text.find(stop)) >= 0]
    assert ended == bool(ends)
    if not ends:
        assert shown == text
    else:
        assert text.startswith(shown)
        assert any(text[len(shown) :].startswith(stop) for stop in stops)


def test_a_stop_string_may_begin_in_what_was_written_before() -> None:
    stops = StopFilter(["\nQ:"], written="the end.\n")
    assert stops.held == "\n"
    assert stops.push("Q") == ""
    assert stops.push(": next") == ""
    assert stops.stopped


@pytest.mark.parametrize("text", [" So:", "So:", "\n\nSo", "  a", ".", ""])
def test_a_text_in_mid_answer_gets_no_space_that_it_has_not(
    text: str, spacing_tokenizer: Any, byte_tokenizer: Any
) -> None:
    codec, before = TextCodec(spacing_tokenizer), "Q?"
    ids = codec.encode_after(text)
    assert codec.decode([*codec.encode(before), *ids]) == before + text
    assert codec.stream(codec.encode(before)).push(*ids) == text
    plain = TextCodec(byte_tokenizer)
    assert plain.encode_after(text) == plain.encode(text)


def test_only_ordinary_tokens_make_a_fingerprint(byte_tokenizer: Any, other_tokenizer: Any) -> None:
    import copy

    plain = TextCodec(byte_tokenizer)
    chatty = copy.deepcopy(byte_tokenizer)
    chatty.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    assert TextCodec(chatty).fingerprint == plain.fingerprint
    assert TextCodec(other_tokenizer).fingerprint != plain.fingerprint
    wordy = copy.deepcopy(byte_tokenizer)
    wordy.add_tokens(["<ordinary>"])
    assert TextCodec(wordy).fingerprint != plain.fingerprint


def test_a_number_is_single_only_if_one_token_writes_it(byte_tokenizer: Any) -> None:
    codec = TextCodec(byte_tokenizer)
    assert codec.single("7") == codec.encode("7")[0]
    assert codec.single("10") is None
