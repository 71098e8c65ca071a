"""Lanes keep what was written, whatever answers come, go, rest, fork and are taken back."""

from __future__ import annotations

import gc
import mmap
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taketurns.engines.local import lane_tensors, lanes, reclaimable
from taketurns.engines.local.lane_tensors import LayerShape
from taketurns.engines.local.lanes import CacheShape, LanePool
from taketurns.engines.local.masks import FULL, LayerSight
from taketurns.engines.local.parked import Parked
from taketurns.engines.local.reclaimable import Reclaimable, is_elastic

CPU = torch.device("cpu")
WINDOW = LayerSight("sliding_attention", 5)
CHUNK = LayerSight("chunked_attention", 6)
SIGHTS = (FULL, WINDOW, CHUNK)
SPARE = 7
_Row = tuple[list[int], int]  # a prompt, and how many of its tokens are encoded


@dataclass
class _Answer:
    """An answer as it should be: its tokens, and the parked tokens under test."""

    parked: Parked
    tokens: list[int] = field(default_factory=list)


class _Turns:
    """Writes tokens into a pool as a model would, and reads them back through each layer."""

    def __init__(self, max_bytes: int | None) -> None:
        layers = (LayerShape(2, 3, 3, torch.float32, CPU, sight) for sight in SIGHTS)
        self.pool = LanePool(CacheShape(tuple(layers)))
        self.pool.max_bytes = max_bytes
        self.encoded = 0
        self.in_any_order = True

    def turns(self, answers: list[tuple[_Answer, int]], random: Random) -> None:
        """A turn of each of these answers at once, of which so many tokens are new."""
        pool = self.pool
        prompts = [
            [*answer.tokens, *(random.randrange(1, 1000) for _ in range(new))]
            for answer, new in answers
        ]
        length = max(map(len, prompts)) + 1
        taken: list[tuple[_Answer, list[int], int]] = []
        for (answer, _), prompt in zip(answers, prompts, strict=True):
            if pool.fits(len(taken) + 1, length):
                taken.append((answer, prompt, pool.known(answer.parked, prompt)))
        if not taken:
            return
        pool.enter([(answer.parked, known) for answer, _, known in taken], length, length)
        assert [answer.parked.lane for answer, _, _ in taken] == [*range(len(taken))]
        rows = [(prompt, known) for _, prompt, known in taken]
        while any(known < len(prompt) for prompt, known in rows):
            rows = self._forward(rows, random.choice([1, 3, SPARE]))
        while taken:  # the last lane takes the place of one that leaves
            row = random.randrange(len(taken)) if self.in_any_order else -1
            answer, prompt, _ = taken[row]
            pool.leave(row % len(taken), prompt)
            answer.tokens = prompt
            taken[row] = taken[-1]
            taken.pop()

    def _forward(self, rows: list[_Row], block: int) -> list[_Row]:
        """Encode up to `block` more tokens of each prompt, and look at what each would see."""
        fed = [min(block, len(prompt) - known) for prompt, known in rows]
        width = max(fed)
        positions = np.full((len(rows), width), -1)
        values = torch.zeros((len(rows), 2, width, 3))
        for row, ((prompt, known), count) in enumerate(zip(rows, fed, strict=True)):
            if count:
                positions[row, width - count :] = np.arange(known, known + count)
                new = torch.tensor(prompt[known : known + count])
                values[row, :, width - count :] = new[:, None]
        done = [known + count for (_, known), count in zip(rows, fed, strict=True)]
        self.encoded += sum(fed)
        self.pool.plan(0, done, positions, np.array(done), max(done))
        for layer, sight in enumerate(SIGHTS):
            keys, read = self.pool.update(values, values + 0.5, layer)
            shown = self.pool.keys(sight).expand(len(rows), -1)
            for row, ((prompt, _), count) in enumerate(zip(rows, fed, strict=True)):
                for at in range(done[row] - count, done[row]):
                    hidden = sight.hides(shown[row][None, None], torch.tensor([[[at]]]))[0, 0]
                    seen = {
                        int(place): (float(keys[row, 1, cell, 2]), float(read[row, 0, cell, 1]))
                        for cell, place in enumerate(shown[row].tolist())
                        if not hidden[cell]
                    }
                    first = sight.first(at)
                    assert seen == {p: (prompt[p], prompt[p] + 0.5) for p in range(first, at + 1)}
        return [(prompt, known) for (prompt, _), known in zip(rows, done, strict=True)]


@pytest.fixture(autouse=True)
def _short_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lane_tensors, lanes):
        monkeypatch.setattr(module, "SPARE", SPARE)


@pytest.mark.parametrize("elastic", [True, False])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), limit=st.sampled_from([None, 30_000, 60_000]))
def test_every_token_sees_what_its_layer_looks_at(
    elastic: bool, seed: int, limit: int | None
) -> None:
    """In full layers, windows and chunks, with rings and without, under a limit that lets answers
    move out and without one."""
    random = Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        if not elastic:
            for module in (lanes, reclaimable):
                patch.setattr(module, "is_elastic", lambda device: False)
        turns = _Turns(limit)
        answers = [_Answer(Parked(40)) for _ in range(4)]
        for _ in range(12):
            act = random.randrange(5)
            chosen = random.choice(answers)
            if act == 0 and len(answers) < 8:
                answers.append(_Answer(chosen.parked.fork(), list(chosen.tokens)))
            elif act == 1 and len(answers) > 2:
                answers.remove(chosen)  # its forks may not have been continued yet
                del chosen
            elif act == 2:
                del chosen.tokens[random.randrange(len(chosen.tokens) + 1) :]
            else:
                some = random.sample(answers, random.randrange(1, len(answers) + 1))
                turns.turns([(answer, random.randrange(1, 20)) for answer in some], random)
            if limit is not None and not elastic:
                assert turns.pool.nbytes <= limit


def test_an_answer_that_goes_on_copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is asked again where it rests, alone or beside others."""
    turns, random = _Turns(None), Random(0)
    turns.in_any_order = False
    first, second = _Answer(Parked(90)), _Answer(Parked(90))
    turns.turns([(first, 5), (second, 9)], random)
    for what in ("copy", "swap", "save", "load"):
        monkeypatch.setattr(lane_tensors.LaneTensors, what, _forbidden)
    for _ in range(3):
        turns.turns([(first, 4)], random)
        turns.turns([(first, 2), (second, 6)], random)


def _forbidden(*arguments: object) -> None:
    raise AssertionError("copied")


def test_a_fork_encodes_nothing_again_and_outlives_its_origin() -> None:
    turns, random = _Turns(None), Random(0)
    answer = _Answer(Parked())
    turns.turns([(answer, 9)], random)
    fork = _Answer(answer.parked.fork(), list(answer.tokens))
    assert fork.parked.lane is None
    del answer
    gc.collect()
    before = turns.encoded
    turns.turns([(fork, 3)], random)
    assert turns.encoded - before == 3
    turns.pool.sweep()
    assert turns.pool.bytes_used < 13 * sum(shape.bytes_per_token for shape in turns.pool.shapes)


def test_a_ring_holds_no_more_than_its_window_and_some() -> None:
    turns, random = _Turns(None), Random(0)
    answer = _Answer(Parked(500))
    for _ in range(20):
        turns.turns([(answer, 20)], random)
    size = turns.pool.shapes[0].bytes_per_token
    cells = 400 + (WINDOW.size + SPARE) + (CHUNK.size + SPARE)
    assert turns.pool.bytes_used == cells * size
    before = turns.encoded
    del answer.tokens[-SPARE + 2 :]
    turns.turns([(answer, 2)], random)
    assert turns.encoded - before == 2  # within what the ring has to spare
    del answer.tokens[-SPARE - 3 :]
    turns.turns([(answer, 2)], random)
    assert turns.encoded - before > 380  # the ring has lost what they looked at


@pytest.mark.skipif(not is_elastic("cpu"), reason="memory is elastic on Linux alone")
def test_memory_is_taken_when_written_and_given_back() -> None:
    size = 64 * 2**20
    before = _resident()
    tensor = Reclaimable((size // 4,), torch.float32, CPU)
    assert float(tensor.data.sum()) == 0.0
    assert _resident() - before < size // 4
    tensor.data.fill_(1.0)
    assert _resident() - before > size * 3 // 4
    tensor.discard(1, size // 4 - 1)
    assert _resident() - before < size // 4
    assert float(tensor.data[0]) == 1.0
    assert float(tensor.data[mmap.PAGESIZE]) == 0.0


def _resident() -> int:
    assert sys.platform == "linux"
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
