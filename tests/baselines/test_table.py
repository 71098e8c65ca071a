"""Methods by name, as they are made for a team."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from taketurns.engines.scripted import ScriptedEngine
from taketurns.evaluation.methods import trained
from taketurns.evaluation.methods.base import MethodContext
from taketurns.evaluation.methods.registry import methods

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}<assistant>"


@pytest.mark.parametrize("plain", [True, False])
async def test_an_untuned_chat_model_decides_in_the_form_in_which_it_answers(
    scripted: Callable[..., tuple[MethodContext, ScriptedEngine]],
    word: Any,
    monkeypatch: pytest.MonkeyPatch,
    plain: bool,
) -> None:
    """Fault: a chat model was asked who should write in bare text, its template left out."""
    task = word("t", {"who?": "x"})
    scripts = dict.fromkeys(("base", "sft", "aligned"), lambda prompt, sampling: "x")
    asked = {"aligned": lambda text, choices: [0.1, 0.1, 0.8]}
    stage, engine = scripted([task], scripts=scripts, scores=asked)
    base, sft, aligned = stage.config.candidates
    if not plain:
        aligned = replace(aligned, spec=replace(aligned.spec, prompt=None))
    stage.config = replace(stage.config, candidates=(base, sft, aligned))
    tokenizer = (await engine.info("aligned")).codec.tokenizer
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE)  # all scripted models share it
    entry = methods(stage.names, trained.own(stage.config, ["t"]), {})["untuned"]
    assert entry.make is not None
    await entry.make(stage).answer(task, task.queries("test")[0], 0)
    decided = next(call.text for call in engine.calls if call.kind == "score")
    assert decided.startswith("who?" if plain else "<user>who?")
    assert decided.endswith("is model " if plain else "is model </><assistant>")
