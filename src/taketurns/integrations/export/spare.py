"""Finds spare tokens, which a model never needs: their output rows are free for a head."""

from __future__ import annotations

import re

from taketurns.checkpoints.text import TextCodec
from taketurns.types import ModelSpec

# Names of reserved entries in published tokenizers.
_RESERVED = re.compile(r"reserved|unused|dummy|placeholder|<\|?extra_|special_\d|control_\d", re.I)
_TAG = re.compile(r"<model (\d+) (?:begins|ends)>")


def spare_tokens(
    codec: TextCodec, spec: ModelSpec, ends: frozenset[int], rows: int, candidates: int
) -> list[int]:
    """The ids that no text and no answer needs, of a model whose output matrix has `rows` rows.

    First come the tokenizer's entries with a reserved name (and this package's tags for numbers of
    `candidates` or more), then rows without an entry. Tokens that have a role, end an answer
    (`ends`) or occur in the prompt are left out.
    """
    vocabulary = {int(i): text for text, i in codec.tokenizer.get_vocab().items()}
    roles = {int(i) for i in codec.tokenizer.all_special_ids if _has_role(codec, int(i))} | ends
    prompt = f"{codec.tokenizer.chat_template or ''}{spec.prompt or ''}"
    named = [
        token
        for token, text in sorted(vocabulary.items())
        if _reserved(text, candidates) and token not in roles and text not in prompt
    ]
    nameless = [token for token in range(rows) if token not in vocabulary]
    return [token for token in named if token < rows] + nameless


def _reserved(text: str, candidates: int) -> bool:
    tag = _TAG.fullmatch(text)
    if tag is not None:
        return int(tag[1]) >= candidates
    return text[:1] in "<[" and _RESERVED.search(text) is not None


def _has_role(codec: TextCodec, token: int) -> bool:
    named = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")
    return token in {getattr(codec.tokenizer, f"{role}_token_id", None) for role in named}
