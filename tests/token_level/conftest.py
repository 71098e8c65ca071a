"""Two tiny models whose tokens are letters, marks and some pairs, so that words take several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

LETTERS = "Ġ\u010aetaoinshrdlu.,"  # the first two are a space and a line break


def tokenizer(merges: Sequence[tuple[str, str]], skip: int = 0, letters: str = LETTERS) -> Any:
    """Byte-level BPE over few `letters`; `skip` gives the letters other ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [*letters, *(a + b for a, b in merges)]
    tokens = tokens[skip:] + tokens[:skip]
    made = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("</s>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")


@pytest.fixture(scope="session")
def letters() -> Any:
    return tokenizer([("Ġ", "t"), ("h", "e")])


@pytest.fixture(scope="session")
def other_letters() -> Any:
    return tokenizer([("t", "h"), ("Ġ", "a")], skip=3)


@pytest.fixture(scope="session")
def printable() -> Any:
    """One token for each printable character of ASCII."""
    return tokenizer([], letters="Ġ\u010a" + "".join(map(chr, range(33, 127))))


@pytest.fixture(scope="session")
def pair(make_model: Callable[..., Path], letters: Any) -> dict[str, str]:
    """Two models with one tokenizer, a base and an aligned one by name."""
    return {
        name: str(make_model(seed, tokenizer=letters, vocab_size=len(letters)))
        for name, seed in _SEEDS.items()
    }


@pytest.fixture(scope="session")
def unlike_pair(
    make_model: Callable[..., Path], letters: Any, other_letters: Any
) -> dict[str, str]:
    """The same with a tokenizer each."""
    made = {"base": letters, "aligned": other_letters}
    return {
        name: str(make_model(_SEEDS[name], tokenizer=which, vocab_size=len(which)))
        for name, which in made.items()
    }


_SEEDS = {"base": 3, "aligned": 4}
