"""Prompts that begin alike are encoded once.

Answers to one question under several seeds, or to many questions under one system prompt, begin
with the same tokens. While one of them is alive, a new one takes over the keys and values of the
common beginning, as a fork would. Only whole blocks are taken over: what is left is then encoded in
the same blocks as without that, so in exact rounds no bit of the answer depends on who else is
there."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

from taketurns.engines.local.batch_invariant import BLOCK
from taketurns.engines.local.parked import Beginning, Parked


class SharedBeginnings:
    """The answers that are alive, by model and first block."""

    def __init__(self) -> None:
        self._beginnings: WeakValueDictionary[tuple[str, tuple[int, ...]], Beginning]
        self._beginnings = WeakValueDictionary()

    def register(self, model: str, prompt: Sequence[int], parked: Parked) -> None:
        """Let later prompts take over what `parked` will have encoded of `prompt`."""
        if len(prompt) < BLOCK:
            return
        key = (model, tuple(prompt[:BLOCK]))
        beginning = self._beginnings.get(key)
        if beginning is None:
            beginning = self._beginnings[key] = Beginning()
        beginning.answers.add(parked)
        parked.beginning = beginning

    def encoded(self, model: str, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt could be taken over now."""
        return self._longest(model, prompt)[1]

    def take_over(self, model: str, prompt: Sequence[int], parked: Parked) -> None:
        """Let `parked`, which has nothing encoded, begin as a fork of the answer that has encoded
        most of the beginning of `prompt`, if there is one."""
        answer, common = self._longest(model, prompt)
        if answer is not None:
            parked.tokens, parked.origin = list(prompt[:common]), answer

    def _longest(self, model: str, prompt: Sequence[int]) -> tuple[Parked | None, int]:
        beginning = self._beginnings.get((model, tuple(prompt[:BLOCK])))
        best, most = None, 0
        for answer in () if beginning is None else beginning.answers:
            if answer.holder is answer and (common := common_blocks(prompt, answer.tokens)) > most:
                best, most = answer, common
        return best, most


def common_blocks(prompt: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens of a prompt can be taken over from what is encoded of another: the blocks
    that both have, without the last two tokens, since one token alone would be encoded in another
    shape than in a block."""
    most = max(0, min(len(prompt) - 2, len(other))) // BLOCK * BLOCK
    for start in range(0, most, BLOCK):
        if list(prompt[start : start + BLOCK]) != list(other[start : start + BLOCK]):
            return start
    return most
