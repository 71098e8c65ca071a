"""The benchmark of the neighbours: its commands are commands, and its curves say what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.neighbours.curves import markdown, picture, places
from benchmarks.neighbours.knobs import BY_TEMPERATURE, KNOBS, TEMPERATURES
from benchmarks.neighbours.run import steps, write_pair, write_texts
from taketurns.config.loading import load_team_config
from tests.benchmarks.test_switching import parse


def test_every_step_is_a_command_with_an_output_of_its_own(tmp_path: Path) -> None:
    every = list(steps(tmp_path, "pocket"))
    assert len({step.name for step in every}) == len({step.output for step in every}) == len(every)
    commands = [step.command for step in every if step.command]
    for command in commands:
        parse(command)
    assert len(commands) == 8 + sum(len(knob.values) for knob in KNOBS) + len(TEMPERATURES)


def test_a_pair_is_the_first_and_the_last_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "pair.yaml"
    write_pair("pocket", file, {"kind": "nudging", "gamma": 0.3})
    pair, whole = load_team_config(file), load_team_config("pocket")
    assert pair.candidates == (whole.candidates[0], whole.candidates[-1])
    assert pair.policy.patch_size == whole.policy.max_tokens
    assert (pair.switcher.kind, pair.switcher.pair.gamma) == ("nudging", 0.3)  # type: ignore[union-attr]


def test_texts_are_questions_with_whole_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.neighbours.run.LEARNED", 2)
    write_texts("pocket", tmp_path / "texts.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 13
    assert all(line["text"] and line["answer"].startswith(" ") for line in lines)


def test_a_curve_has_the_score_and_the_spread_of_each_place(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu", reason="needs the eval extra")
    pytest.importorskip("matplotlib", reason="needs the eval extra")

    def write(folder: str, method: str, texts: list[str], score: float) -> None:
        path = tmp_path / "curves" / folder / "answers" / f"{method}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        records = [
            {"id": f"age/1@d#{seed}", "task": "age", "text": text, "score": score, "error": None}
            for seed, text in enumerate(texts)
        ]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))

    write("nudging-0.2/evaluation", "switch", ["he is ten years old"] * 3, 1.0)
    write("nudging-0.5/evaluation", "switch", ["he is ten", "she was old", "nobody knows it"], 0.25)
    write("temperature-0.7", BY_TEMPERATURE[0], ["a b c d", "a b c e"], 0.5)
    same, different, warm = places(tmp_path)
    assert (same.method, same.value, same.score) == ("nudging", 0.2, 1.0)
    assert same.diversity == pytest.approx((1 / 3, 0.0), abs=1e-6)
    assert different.diversity[0] == 1.0
    assert different.diversity[1] > 0.7
    assert 0 < warm.diversity[1] < different.diversity[1]
    assert "| nudging | 0.5 | 0.250 | 1.000 |" in markdown([different])
    assert "nudging" in picture([same, different, warm])
