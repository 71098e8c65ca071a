"""A head decides by one linear map of states that the candidates have, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns.config.policy import Policy
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import ConfigError
from taketurns.generation.handover import CandidateRuntime
from taketurns.generation.state import GenerationState
from taketurns.switchers.head import (
    CONFIG,
    Head,
    HeadConfig,
    HeadSwitcher,
    Scale,
    StateReader,
    View,
)
from taketurns.types import Candidate, ModelSpec, Patch, Query

NAMES = ("a", "b", "c")
QUERY = Query("q", text="Why?")


def head(mode: Any = "speaker", reader: str = "c") -> Head:
    config = HeadConfig(mode, NAMES, reader)
    config = HeadConfig(mode, NAMES, reader, dict.fromkeys(config.readers, (1, 2)))
    draws = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draws)

    scales = {name: Scale(some(8), some(8).abs() + 0.1, some(3, 8)) for name in config.readers}
    return Head(config, scales, some(4, 3))


async def draft(*speakers: int | None, context: int = 4096) -> GenerationState:
    engine = ScriptedEngine({name: [] for name in NAMES}, context=context)
    readers = [CandidateRuntime(Candidate(n, ModelSpec(n)), await engine.info(n)) for n in NAMES]
    made = GenerationState(QUERY, readers, ())
    made.resume([Patch(s, (10, 11), "xy", "length", "chosen") for s in speakers])
    return made


class Deep:
    """A session whose hidden states say which model was asked after how many tokens."""

    async def hidden(self, model: str, prompt: Any, layers: Any) -> torch.Tensor:
        return torch.full((len(layers), 4), float(NAMES.index(model) * 100 + len(prompt)))


@pytest.mark.parametrize(
    ("mode", "reader", "speakers", "expected"),
    [
        ("speaker", "c", (0, 1), (1, 1)),
        ("speaker", "c", (1, 0), (0, 0)),
        ("speaker", "c", (), (2, 3)),
        ("speaker", "a", (2, None), (2, 2)),
        ("candidate", "b", (0, 2), (1, 2)),
        ("candidate", "b", (), (1, 3)),
    ],
)
async def test_whose_state_is_read(
    mode: Any, reader: str, speakers: tuple[int | None, ...], expected: tuple[int, int]
) -> None:
    written = await draft(*speakers)
    view = await StateReader(head(mode, reader).config).view(Deep(), written)  # type: ignore[arg-type]
    assert (view.reader, view.last) == expected
    assert view.states is not None
    assert view.states.tolist() == [100 * expected[0] + len(written.prompt(expected[0]))] * 8


async def test_a_full_context_counts_as_the_average_state() -> None:
    full = await draft(0, context=6)
    assert full.room(0) == 0
    one = head()
    view = await StateReader(one.config).view(Deep(), full)  # type: ignore[arg-type]
    assert view.states is None
    average = View(view.reader, view.last, one.scales["a"].mean)
    assert one.logits(view).equal(one.bias[0])
    assert one.logits(average) == pytest.approx(one.bias[0])


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    for mode in ("speaker", "candidate"):
        one = head(mode)
        one.save(tmp_path)
        other = Head.load(str(tmp_path))
        assert other.config == one.config
        assert other.numbers == one.numbers == 12 + len(one.scales) * 40
        view = View(2, 1, torch.arange(8.0))
        assert other.logits(view).equal(one.logits(view))


def test_candidates_are_known_by_name() -> None:
    one = head()
    turned = one.ordered(("c", "a", "b"))
    view = one.logits(View(0, 1, torch.arange(8.0)))
    same = turned.logits(View(1, 2, torch.arange(8.0)))
    assert same.tolist() == pytest.approx([view[2].item(), view[0].item(), view[1].item()])
    with pytest.raises(ConfigError, match="was trained for a, b, c, not for a, b"):
        one.ordered(("a", "b"))


def test_states_of_another_size_are_another_model() -> None:
    with pytest.raises(
        ConfigError, match=r"expects 8 state values of a .* has 6: train the head again"
    ):
        head().logits(View(0, 0, torch.zeros(6)))


async def test_an_engine_without_hidden_states_is_refused(tmp_path: Path) -> None:
    head().save(tmp_path)
    engine = ScriptedEngine({name: [] for name in NAMES})
    with pytest.raises(
        ConfigError, match=r"the engine of a does not give: fold the head .* or use a"
    ):
        await HeadSwitcher(str(tmp_path)).prepare(engine, [await engine.info(n) for n in NAMES])


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": "other"}', '{"schema": "taketurns.head/1"}']
)
def test_what_is_no_head_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(ConfigError, match=CONFIG) as caught:
        Head.load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_head_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="head") as caught:
        Head.load("nobody/nothing")
    assert "\n" not in str(caught.value)
    (tmp_path / CONFIG).write_text(
        json.dumps(
            {
                "schema": "taketurns.head/1",
                "mode": "speaker",
                "candidates": NAMES,
                "reader": "a",
                "layers": {},
            }
        )
    )
    with pytest.raises(ConfigError, match=r"cannot load the head .* it has no head"):
        Head.load(str(tmp_path))


async def test_it_gives_a_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head().save(tmp_path)
    monkeypatch.setattr("taketurns.switchers.head.check_hidden", lambda info: None)
    engine = ScriptedEngine({name: [] for name in NAMES})
    switcher = HeadSwitcher(str(tmp_path))
    await switcher.prepare(engine, [await engine.info(name) for name in NAMES])
    probabilities = await switcher.begin(QUERY, Policy())(Deep(), await draft(1))  # type: ignore[arg-type]
    assert sum(probabilities) == pytest.approx(1)
    assert len(probabilities) == 3
