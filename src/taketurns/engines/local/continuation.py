"""Whether a model goes on from keys and values that were cut out of its cache, found out by trying.

Some models' caches hold something else, and some models read several tokens only at the beginning
of a text."""

from __future__ import annotations

import torch

from taketurns.engines.local.equivalence import apart, bound
from taketurns.engines.local.plain_forward import PlainForward
from taketurns.engines.local.text_caches import as_cache, keys_and_values, stacked

_READ, _KEPT, _WHOLE = 15, 11, 24  # tokens; more than the window of a small copy
_FIRST_ID, _STRIDE = 4, 5  # of the ids that are read


@torch.inference_mode()
def continued_bytes(plain: PlainForward) -> int | None:
    """The bytes that a token takes in the cache of a model that continues texts cut out of it; None
    if the model does not give the logits of one forward then, or its cache cannot be cut."""
    size = plain.model.get_input_embeddings().weight.shape[0]
    context = getattr(plain.model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and context < _WHOLE:
        return None
    ids = [(_FIRST_ID + _STRIDE * place) % size for place in range(_WHOLE)]
    try:
        begun = plain(ids[:_READ], carries=True)
        layers = keys_and_values(begun.carried, 1, _READ)
        if layers is None:
            return None
        before = as_cache(plain.model, stacked([(layers, _KEPT)], _KEPT))
        rest = plain(ids[_KEPT:], carried=before, carries=True)
        distance = apart(rest.logits[0], plain(ids).logits[0, _KEPT:])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a model may fail in any way at what it was not made for
        return None
    if not distance <= bound(plain):
        return None
    return sum(tensor[:, :, :1].nbytes for pair in layers for tensor in pair)
