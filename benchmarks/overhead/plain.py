"""transformers' own generation, in the usual way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PAD = 0


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    temperature: float,
    top_p: float,
    full: bool = False,
    processors: Sequence[Any] = (),
) -> list[list[int]]:
    """Continue prompts of token ids by up to `tokens` each, in one batch padded on the left; what
    follows a model's end token, and that token, is cut off. `full` keeps models from ending."""
    ids, mask = _padded(prompts, model.device)
    with torch.inference_mode():
        rows = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=temperature,
            top_p=top_p,
            top_k=0,
            max_new_tokens=tokens,
            min_new_tokens=tokens if full else None,
            pad_token_id=PAD,
            logits_processor=list(processors),
        )
    ends = _ends(model)
    return [_until(row, ends) for row in rows[:, ids.shape[1] :].tolist()]


def _padded(prompts: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prompts))
    ids = [[PAD] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _ends(model: Any) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    return frozenset(ends if isinstance(ends, list) else () if ends is None else (ends,))


def _until(row: list[int], ends: frozenset[int]) -> list[int]:
    return next((row[:at] for at, token in enumerate(row) if token in ends), row)
