"""A byte-level vocabulary of the size that real ones have, learned from the Python files of this
environment, so that nothing is fetched."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

FILES = 6000


def learned_tokenizer(size: int) -> Any:
    """A tokenizer with `size` tokens and no control token but the end of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def _texts() -> Iterator[str]:
    folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    files = (file for folder in folders for file in sorted(folder.rglob("*.py")))
    for file in islice(files, FILES):
        yield file.read_text(encoding="utf-8", errors="ignore")
