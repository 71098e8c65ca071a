"""`taketurns distill` as a person uses it: what comes out, what is refused, what a kill changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import taketurns.pocket
from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.config.settings import parse_setting
from taketurns.config.team_config import TeamConfig
from taketurns.evaluation.distillation import compare
from taketurns.pocket import TASKS
from taketurns.training.distillation.run import DistillJob, distill
from taketurns.training.distillation.settings import (
    ComparisonConfig,
    FilterConfig,
    SamplingConfig,
    StudentConfig,
)

Invoke = Callable[..., tuple[int, str, str]]
BUNDLED = Path(taketurns.pocket.__file__).parent / "weights"
SMALL = ("--task", "recall", "--questions", 6, "--answers", 1, "--epochs", 1, "--limit", 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A student that was taught recall and is asked what it was taught."""
    out = tmp_path_factory.mktemp("runs") / "student"
    order = DistillJob(
        load_team_config("pocket"),
        [TASKS["recall"]],
        SamplingConfig(answers=2, questions=28),
        FilterConfig(),
        StudentConfig(epochs=6, held_out=0.1),
        ComparisonConfig(split="train", limit=28),
    )
    return out, distill(order, out, compare)


def refusal(result: tuple[int, str, str]) -> str:
    code, out, err = result
    said = [line for line in err.splitlines() if line.startswith("taketurns: ")]
    assert (code, out, len(said)) == (2, "", 1), result
    return said[0].removeprefix("taketurns: ")


def weights(folder: Path) -> bytes:
    return (folder / "student" / "model.safetensors").read_bytes()


def test_a_student_keeps_what_the_team_gains(finished: tuple[Path, Any]) -> None:
    """The team knows facts that the aligned checkpoint forgot; the student has learned them."""
    compared = finished[1]["comparison"]
    scores = {method: own["average"]["mean"] for method, own in compared["scores"].items()}
    assert scores["team"] > scores["aligned"] + 0.2
    assert compared["gain"]["kept"]["low"] > 0.3
    assert 0 < compared["cost_ratio"]["parameters"] < 1
    assert compared["cost"]["team"]["parameters"] == pytest.approx(
        compared["cost"]["team"]["tokens"] * 913_280, rel=1e-4
    )  # all pocket models are of one size


def test_it_loads_anywhere_and_stands_in_the_aligned_ones_place(
    finished: tuple[Path, Any],
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, metrics = finished
    model = AutoModelForCausalLM.from_pretrained(out / "student")
    tokenizer = AutoTokenizer.from_pretrained(out / "student")
    asked = [{"role": "user", "content": "what does rebol fonul work as?"}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
    written = model.generate(**ids, max_new_tokens=20, do_sample=False)
    assert tokenizer.eos_token_id in written[0, ids["input_ids"].shape[1] :].tolist()
    team = load_team_config(out)
    assert [c.name for c in team.candidates] == ["pretrained", "sft", "aligned"]
    assert team.candidates[2].spec.model == str(out / "student")
    assert team.switcher.kind == "random"  # the head knew the old one's hidden states
    with Team.load(team) as loaded:
        assert loaded.generate("what does rebol fonul work as?").error is None
    card = (out / "student" / "README.md").read_text()
    assert "library_name: transformers" in yaml.safe_dump(yaml.safe_load(card.split("---")[1]))
    assert "gain kept: " in card
    assert f"{metrics['comparison']['scores']['team']['recall']['mean']:.3f}" in card
    assert not (out / "work").exists()


def test_a_finished_run_is_only_asked_what_it_has_not_been_asked(
    finished: tuple[Path, Any], pocket: TeamConfig
) -> None:
    out, metrics = finished
    asked = (
        SamplingConfig(answers=2, questions=28),
        FilterConfig(),
        StudentConfig(epochs=6, held_out=0.1),
    )
    said: list[str] = []
    same = DistillJob(pocket, [TASKS["recall"]], *asked, ComparisonConfig(split="train", limit=28))
    before = weights(out)
    assert distill(same, out, compare, said.append)["comparison"] == metrics["comparison"]
    assert said == [f"{out} is finished; nothing to do"]
    more = DistillJob(pocket, [TASKS["recall"]], *asked, ComparisonConfig(split="train", limit=29))
    assert distill(more, out, compare)["comparison"]["scores"]["student"]["recall"]["n"] == 29
    assert weights(out) == before
    assert distill(same, out, compare)["comparison"]["gain"] == metrics["comparison"]["gain"]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(invoke: Invoke, tmp_path: Path) -> None:
    """SIGKILL while sampling, while training and while comparing."""
    stages = ("answers.jsonl", "work/checkpoint-*/trainer_state.json", "evaluation/aligned.jsonl")
    command = ["distill", *SMALL, "--loss", "both", "--split", "dev", "-o", tmp_path / "killed"]
    for stage in stages:
        running = subprocess.Popen(
            [sys.executable, "-m", "taketurns", *map(str, command)],
            stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        deadline = time.monotonic() + 600
        while not any(file.stat().st_size for file in (tmp_path / "killed").glob(stage)):
            assert time.monotonic() < deadline
            assert running.poll() is None, running.stderr and running.stderr.read()
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert not (tmp_path / "killed" / "metrics.json").exists()
    assert invoke(*command)[0] == 0
    command[-1] = tmp_path / "whole"
    assert invoke(*command)[0] == 0
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    killed, whole = (
        json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("killed", "whole")
    )
    assert killed["comparison"]["scores"] == whole["comparison"]["scores"]
    assert killed["history"] == whole["history"]
    for file in ("answers.jsonl", "kept.jsonl"):
        pair = [(tmp_path / run / file).read_bytes() for run in ("killed", "whole")]
        assert pair[0] == pair[1]


def test_students_share_what_the_team_answered(invoke: Invoke, tmp_path: Path) -> None:
    """The second student is trained on the same answers, and only its own are asked for. A language
    model that switches reads text, so it stays in the student's team."""
    shared, switcher = tmp_path / "shared", BUNDLED / "switchers" / "lm"
    own = "switcher.candidates=[pretrained, sft, aligned]"
    asked = (*SMALL, "--team", switcher, "--split", "dev", "--shared", shared, "--json")
    asked = (*asked, "--set", own)
    written = []
    for loss in ("sft", "kl"):
        code, printed, _ = invoke("distill", *asked, "--loss", loss, "-o", tmp_path / loss)
        assert code == 0
        files = sorted(shared.rglob("*.jsonl"))
        assert [file.name for file in files] == ["answers.jsonl", "aligned.jsonl", "team.jsonl"]
        written.append([file.stat().st_mtime_ns for file in files])
        assert json.loads(printed)["student"]["loss"] == loss
    assert written[0] == written[1]
    assert weights(tmp_path / "sft") != weights(tmp_path / "kl")
    team = load_team_config(tmp_path / "kl")
    told = load_team_config(switcher, dict([parse_setting(own)]))
    assert team.switcher == told.switcher
    assert team.candidates[2].spec.model == str(tmp_path / "kl" / "student")


@pytest.mark.slow
def test_an_adapter_is_a_student_and_learns_on_in_the_next_round(
    invoke: Invoke, tmp_path: Path
) -> None:
    """The second round's student starts from the first's adapter; both are adapters on aligned."""
    out = tmp_path / "first"
    asked = (*SMALL, "--split", "dev", "--loss", "sft", "--learning-rate", "1e-2")
    assert invoke("distill", *asked, "--lora", "-o", out)[0] == 0
    assert (out / "student" / "adapter_model.safetensors").exists()
    team = load_team_config(out)
    assert team.candidates[2].spec.adapter == str(out / "student")
    second = tmp_path / "second"
    assert invoke("distill", *asked, "--team", out, "-o", second)[0] == 0
    spec = load_team_config(second).candidates[2].spec
    assert (spec.model, spec.adapter) == (team.candidates[2].spec.model, str(second / "student"))
    tuned = [(run / "student" / "adapter_model.safetensors").read_bytes() for run in (out, second)]
    assert tuned[0] != tuned[1]
    assert (
        "is a LoRA adapter, and --full trains all weights of a model: leave out --full"
        in refusal(invoke("distill", *asked, "--team", out, "--full", "-o", tmp_path / "third"))
    )


def test_bad_input_is_one_sentence(
    invoke: Invoke, make_model: Any, other_tokenizer: Any, tmp_path: Path
) -> None:
    out = ("-o", tmp_path / "out")
    assert "there is no candidate 'best'; the candidates are pretrained, sft, aligned" in refusal(
        invoke("distill", *out, "--aligned", "best")
    )
    stranger = make_model()
    assert (
        "is a llama with 2 layers and hidden size 64, and no candidate is one (pretrained: llama"
        in refusal(invoke("distill", *out, "--student", stranger))
    )
    assert "is neither a candidate nor a model that can be loaded" in refusal(
        invoke("distill", *out, "--student", "nobody/nothing")
    )
    models = {"one": stranger, "other": make_model(tokenizer=other_tokenizer)}
    team = tmp_path / "team.yaml"
    listed = [{"name": name, "model": str(path)} for name, path in models.items()]
    team.write_text(yaml.safe_dump({"candidates": listed}))
    assert "the vocabularies of one and the student (other) differ" in refusal(
        invoke("distill", *out, "--team", team, "--task", "given", "--loss", "kl")
    )
    code, _, said = invoke("distill", *out, *SMALL, "--task", "given", "--set", "max_tokens=2")
    assert code == 2
    assert "answers is kept: the best score is 0 and --min-score is 1" in said
    assert "min_score must be above 0 and at most 1" in refusal(
        invoke("distill", *out, "--min-score", "3")
    )
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    assert "holds other files already" in refusal(invoke("distill", "-o", full))


def test_a_folder_is_one_runs(finished: tuple[Path, Any], invoke: Invoke) -> None:
    asked = ("--task", "recall", "--questions", 28, "--answers", 2, "--epochs", 9)
    assert "belongs to another run, whose learning differed" in refusal(
        invoke("distill", *asked, "--held-out", "0.1", "-o", finished[0])
    )
