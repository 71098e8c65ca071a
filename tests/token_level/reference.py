"""Token-level turns in a few lines, by plain forwards of transformers without caches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Model = Callable[[Sequence[int]], torch.Tensor]
"""Probabilities of the next token, `[vocabulary]`, after these ids."""
BaseWrites = Callable[[torch.Tensor, "str | None"], bool]
"""From the base's probabilities, and the text of the most probable token, None for the end."""


def plain(folder: str) -> Model:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def after(ids: Sequence[int]) -> torch.Tensor:
        logits: torch.Tensor = model(torch.tensor([list(ids)])).logits
        return logits[0, -1].softmax(-1)

    return after


def turns(
    models: tuple[Model, Model],
    prompt: Sequence[int],
    base_writes: BaseWrites,
    tokens: int,
    tokenizer: Any,
    *,
    anywhere: bool,
) -> list[tuple[int, int]]:
    """A greedy answer as (speaker, token); the first model is the base. With `anywhere` (Nudging)
    the base stops at any token, and white space goes with the other one's next word."""

    def text(token: int) -> str | None:
        return None if token == tokenizer.eos_token_id else str(tokenizer.decode([token]))

    def between(before: str, follows: str | None) -> bool:
        return not (before[-1:].isalnum() and (follows or "")[:1].isalnum())

    written: list[tuple[int, int]] = []
    speaker, word, before = 0, "", ""
    while len(written) < tokens:
        likely = [model([*prompt, *(token for _, token in written)]) for model in models]
        top = [int(probabilities.argmax()) for probabilities in likely]
        follows = text(top[1])
        spoken = word.strip() or (word and not anywhere)
        if speaker == 1 and spoken and follows is not None and between(word, follows):
            speaker, before = 0, ""
        asked = anywhere or between(before, text(top[0]))
        if speaker == 0 and asked and not base_writes(likely[0], text(top[0])):
            speaker, word = 1, ""
        if text(top[speaker]) is None:
            break
        written.append((speaker, top[speaker]))
        before = text(top[speaker]) or ""
        word += before
    return written


def deferred(
    models: tuple[Model, Model],
    defers: Callable[[Sequence[int]], bool],
    prompt: Sequence[int],
    tokens: int,
    end: int,
) -> list[tuple[int, int]]:
    """A greedy answer as (speaker, token), where the first model defers to the second token by
    token; `defers` says so of the ids so far."""
    written: list[tuple[int, int]] = []
    while len(written) < tokens:
        ids = [*prompt, *(token for _, token in written)]
        speaker = int(defers(ids))
        token = int(models[speaker](ids).argmax())
        if token == end:
            break
        written.append((speaker, token))
    return written


def routed(
    models: Sequence[Model],
    router: Model,
    picks: Callable[[Sequence[int]], int],
    prompt: Sequence[int],
    tokens: int,
    end: int,
) -> list[tuple[int, int]]:
    """FusionRoute's greedy answer as (speaker, token): `picks` names the speaker after these ids,
    and the most probable token is that of the product of its distribution and the router's."""
    written: list[tuple[int, int]] = []
    while len(written) < tokens:
        ids = [*prompt, *(token for _, token in written)]
        speaker = picks(ids)
        token = int((models[speaker](ids) * router(ids)).argmax())
        if token == end:
            break
        written.append((speaker, token))
    return written


def divergences(
    base: Model,
    other: Model,
    meaning: Callable[[Sequence[int]], object],
    prompt: Sequence[int],
    tokens: int,
    end: int,
) -> tuple[list[int], list[bool]]:
    """R2R: the other one's greedy answer, and at which of its tokens, its end included, the base's
    token leads the other one to an answer with another meaning."""

    def answer(begun: Sequence[int]) -> list[int]:
        written = list(begun)
        while len(written) < tokens and end not in written:
            written.append(int(other([*prompt, *written]).argmax()))
        return written

    whole = answer(())
    parts = []
    for place in range(len(whole)):
        token = int(base([*prompt, *whole[:place]]).argmax())
        parts.append(meaning(answer([*whole[:place], token])) != meaning(whole))
    return whole, parts


def mentored(
    models: tuple[Model, Model],
    prompt: Sequence[int],
    sampled: Callable[[int], bool],
    prefers_mentor: Callable[[Sequence[int], list[int], list[int]], bool],
    lookahead: int,
    tokens: int,
    end: int,
) -> list[tuple[int, int]]:
    """MentorCollab's greedy answer as (speaker, token); the first model writes."""

    def greedy(model: Model, most: int) -> list[int]:
        patch: list[int] = []
        while len(patch) < most and end not in patch:
            likely = model([*prompt, *(token for _, token in written), *patch])
            patch.append(int(likely.argmax()))
        return patch

    written: list[tuple[int, int]] = []
    while len(written) < tokens and (0, end) not in written and (1, end) not in written:
        own, mentors = (greedy(model, 1) for model in models)
        speaker, patch = 0, own
        if sampled(len(written)) and own != mentors:
            most = min(lookahead, tokens - len(written))
            own, mentors = (greedy(model, most) for model in models)
            text = [*prompt, *(token for _, token in written)]
            speaker = int(own != mentors and prefers_mentor(text, own, mentors))
            patch = mentors if speaker else own
        written += [(speaker, token) for token in patch]
    return [(speaker, token) for speaker, token in written if token != end]
