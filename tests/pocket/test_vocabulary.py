"""Text goes in and comes out the same, and patches join exactly."""

from random import Random
from typing import Any

import pytest

from recipes.pocket.corpus import documents
from recipes.pocket.vocabulary import CHAT_TEMPLATE, SPECIAL, TAGS, build_tokenizer, words
from taketurns.pocket.questions import MAKERS, QuestionPool
from taketurns.pocket.text import PLAIN_PROMPT
from taketurns.pocket.world import World


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(chat=True)


def _texts(seed: int) -> list[str]:
    world, rng = World(seed), Random(seed)
    stream = documents(world, rng)
    items = [make(QuestionPool.of(world, None), rng) for make in MAKERS.values() for _ in range(20)]
    return [next(stream) for _ in range(300)] + [f"{i.question} {i.worked}" for i in items]


@pytest.mark.parametrize("seed", [0, 1])
def test_round_trip_and_exact_joins(tokenizer: Any, seed: int) -> None:
    rng = Random(0)
    for text in _texts(seed):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids) == f" {text}"
        cut = rng.randrange(len(ids) + 1)
        assert tokenizer.decode(ids[:cut]) + tokenizer.decode(ids[cut:]) == f" {text}"
        assert "".join(tokenizer.decode([i]) for i in ids) == f" {text}"


def test_numbers_are_single_digits_and_decode_without_gaps(tokenizer: Any) -> None:
    ids = tokenizer.encode("72 - 6 = 66.", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == [" 7", "2", " -", " 6", " =", " 6", "6", "."]
    assert tokenizer.decode(ids) == " 72 - 6 = 66."


def test_the_switchers_pieces_are_in_the_vocabulary(tokenizer: Any) -> None:
    question = (
        " Which model should generate the next segment? Please respond with a number from 0 to 2."
        " The answer is model "
    )
    assert tokenizer.unk_token_id not in tokenizer.encode(question, add_special_tokens=False)
    for i in range(10):
        for piece in (f"<model {i} begins>", f" <model {i} begins> ", f" <model {i} ends>"):
            ids = tokenizer.encode(piece, add_special_tokens=False)
            assert tokenizer.convert_ids_to_tokens(ids) == [piece.strip()]
        assert len(tokenizer.encode(str(i), add_special_tokens=False)) == 1
    assert not set(TAGS) & set(tokenizer.all_special_tokens)


def test_words_in_quotes_and_brackets_are_words(tokenizer: Any) -> None:
    ids = tokenizer.encode('the "river" (honey) is 3.5 or 72a', add_special_tokens=False)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == ' the " river" ( honey) is 3.5 or 72 a'


def test_unknown_words_decode_to_nothing(tokenizer: Any) -> None:
    ids = tokenizer.encode("the schadenfreude is 7 \u00e9\u4e2d", add_special_tokens=False)
    assert tokenizer.unk_token_id in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == " the is 7"


def test_the_chat_template_is_the_plain_prompt(tokenizer: Any) -> None:
    turns = [{"role": "user", "content": "when was x born?"}]
    chat = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert chat == tokenizer.encode(PLAIN_PROMPT.format(text="when was x born?"))
    turns += [{"role": "assistant", "content": "in 45."}, {"role": "user", "content": "and y?"}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert text == ("<bos>question: when was x born? answer: in 45.<eos>question: and y? answer:")
    half = tokenizer.apply_chat_template(turns[:2], continue_final_message=True, tokenize=False)
    assert half == "<bos>question: when was x born? answer: in 45."


def test_the_base_has_no_chat_template_and_the_same_ids(tokenizer: Any) -> None:
    base = build_tokenizer(chat=False)
    assert base.chat_template is None
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert base.get_vocab() == tokenizer.get_vocab()


def test_the_vocabulary_has_no_token_twice() -> None:
    every = [*SPECIAL, *TAGS, *words()]
    assert len(every) == len(set(every))
