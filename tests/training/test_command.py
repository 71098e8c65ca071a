"""`taketurns train` as a person uses it: what is written, what is said, what is refused."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from taketurns.cli import app
from taketurns.config.loading import load_team_config
from taketurns.config.team_file import team_yaml

Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Train:
    """Run `taketurns train --team pocket …`; its exit code, standard output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        words = ["taketurns", "train", "--team", "pocket", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        with pytest.raises(SystemExit) as caught:
            app.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return int(caught.value.code or 0), out, err

    return run


def refusal(result: tuple[int, str, str]) -> str:
    code, out, err = result
    said = [line for line in err.splitlines() if line.startswith("taketurns: ")]
    assert (code, out, len(said)) == (2, "", 1), result
    return said[0].removeprefix("taketurns: ")


def test_a_head_its_card_and_its_team(train: Train, write_labels: Any, tmp_path: Path) -> None:
    out = tmp_path / "head"
    asked = ("--labels", write_labels(60), "-o", out, "--switcher", "head", "--epochs", "3")
    code, printed, said = train(*asked, "--json")
    assert code == 0
    metrics = json.loads(printed)
    written = json.loads((out / "metrics.json").read_text())
    assert written == {"schema": "taketurns.switcher/1", **metrics}
    assert " for training; " in said
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "taketurns"
    assert f"{metrics['validation']['utility']:.4f}" in card
    assert "always aligned" in card
    config = load_team_config(out)
    assert config.switcher.kind == "head"
    assert config.switcher.path == str(out)
    assert [c.name for c in config.candidates] == ["pretrained", "sft", "aligned"]
    before = (out / "head.safetensors").stat().st_mtime_ns
    code, _, said = train(*asked)
    assert code == 0
    assert "is finished; nothing to do" in said
    compare = f"taketurns evaluate --team {out} --task TASK --output report"
    assert f"next, compare it with other methods: {compare}\n" in said
    assert (out / "head.safetensors").stat().st_mtime_ns == before


def test_a_folder_is_one_runs(train: Train, write_labels: Any, tmp_path: Path) -> None:
    labels, out = write_labels(60), tmp_path / "head"
    asked = ("--labels", labels, "-o", out, "--switcher", "head", "--epochs", "2")
    assert train(*asked)[0] == 0
    assert "belongs to another run, whose settings differed" in refusal(
        train(*asked, "--patience", 9)
    )
    other = ("--labels", write_labels(50, name="other.jsonl"), *asked[2:])
    assert "belongs to another run, whose examples differed" in refusal(train(*other))
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    assert "holds other files already" in refusal(train("--labels", labels, "-o", full))
    assert "is a file; name a folder" in refusal(train("--labels", labels, "-o", labels))


def test_what_cannot_be_learned_from_is_one_sentence(
    train: Train, write_labels: Any, tmp_path: Path, pocket_codec: Any
) -> None:
    out = ("-o", tmp_path / "out")
    named = write_labels(9, name="named.jsonl", names=("base", "sft", "aligned"))
    assert (
        "were made with the candidates base, sft, aligned, but the team has pretrained"
        in refusal(train("--labels", named, *out))
    )
    silent = write_labels(9, name="silent.jsonl", tie=True)
    assert "none of the 9 labels shows which candidate should write next" in refusal(
        train("--labels", silent, *out)
    )
    labels = write_labels(9)
    assert "no label belongs to task 'chess'; the labels' tasks are recall" in refusal(
        train("--labels", labels, *out, "--task", "chess")
    )
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(labels.read_bytes()[:-40])
    assert "torn.jsonl:9: not a record" in refusal(train("--labels", torn, *out))
    assert "cannot read" in refusal(train("--labels", tmp_path / "gone.jsonl", *out))
    assert "--temperature" in train("--labels", labels, *out, "--temperature", "hot")[2]
    assert "temperature must be above 0" in refusal(
        train("--labels", labels, *out, "--temperature", "0")
    )
    assert "there is no layer 9" in refusal(
        train("--labels", labels, *out, "--switcher", "head", "--layer", "9")
    )


def test_a_team_file_says_what_the_team_says(tmp_path: Path) -> None:
    (tmp_path / "models" / "sft").mkdir(parents=True)
    path = tmp_path / "team.yaml"
    path.write_text(
        "candidates:\n"
        "  - {name: base, model: org/base, revision: abc, prompt: 'Q: {text}\\nA:'}\n"
        "  - {name: sft, model: ./models/sft, dtype: bfloat16}\n"
        "policy: {opening: sft, stop: ['\\n\\n'], patch_size: 7}\n"
        "engine: {memory: 1 GiB, deterministic: false}\n"
    )
    team = load_team_config(path)
    out = tmp_path / "runs" / "switcher"
    out.mkdir(parents=True)
    (out / "team.yaml").write_text(team_yaml(team, {"kind": "lm", "model": "."}, out))
    written = load_team_config(out)
    assert written.candidates == team.candidates
    assert written.policy == team.policy
    assert written.engine == team.engine
    assert written.switcher.spec is not None
    assert written.switcher.spec.model == str(out)
    text = (out / "team.yaml").read_text()
    assert f"model: ..{os.sep}..{os.sep}models{os.sep}sft" in text
    assert str(tmp_path) not in text
