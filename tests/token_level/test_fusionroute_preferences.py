"""A router is trained on preferences: the loss by hand, the pairs that a team's answers make, and
the run from a trained router to a better one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns import ConfigError, DataError, ModelSpec, Patch, Query, Team, Trace, UsageError
from taketurns.config.loading import load_team_config
from taketurns.config.policy import Policy
from taketurns.config.team_config import TeamConfig
from taketurns.engines.local.loading import Weights
from taketurns.switchers.routing_head import WEIGHTS, RoutingHead
from taketurns.tasks.base import Split
from taketurns.training.deferral.texts import Text
from taketurns.training.distillation.sampling import TeamAnswer
from taketurns.training.distillation.settings import SamplingConfig
from taketurns.training.fusionroute.complement import FusedPreference, ReadPair, answers_read_by
from taketurns.training.fusionroute.improve import PreferenceSettings, improve_router
from taketurns.training.fusionroute.output import RouterSettings
from taketurns.training.fusionroute.preferences import compare, read_preferences
from taketurns.training.fusionroute.rows import ROUTER
from taketurns.training.fusionroute.run import train_router
from taketurns.training.supervised.settings import LMSettings, TrainingConfig
from taketurns.types import Score
from tests.token_level.reference import plain
from tests.token_level.test_deferral_training import team_of, texts, write
from tests.token_level.test_fusionroute_training import NAMES, frozen, read

FULL = RouterSettings(LMSettings(lora=False))


async def test_the_loss_is_that_of_plain_forwards(pair: dict[str, str], letters: Any) -> None:
    """The router before is one model and the router now another; the head decides by a state."""
    from transformers import AutoModelForCausalLM

    some = [Text(Query(str(i), text="the"), text) for i, text in enumerate((" street", " no", "a"))]
    rows, every = await read(team_of(pair), [*some, some[0]])
    candidates = frozen(pair, rows)
    torch.manual_seed(0)
    now = AutoModelForCausalLM.from_pretrained(pair["base"]).eval()
    size = now.config.hidden_size
    head = RoutingHead(NAMES, torch.randn(2, size), torch.zeros(2))
    before = Weights({ROUTER: ModelSpec(pair["aligned"])}).load(ROUTER)
    known = answers_read_by(before, head, candidates, every)
    assert {0, 1} == set(torch.cat([one.picks for one in known]).tolist())
    pairs = [ReadPair(known[0], known[1]), ReadPair(known[2], known[3])]
    objective = FusedPreference(pairs[:1], pairs[1:], candidates, beta=0.5)
    assert objective.lengths[0] == [max(row.length for row in every[:2])]
    batch = objective.collate(range(2), letters.eos_token_id)
    inputs = {n: batch[n] for n in ("input_ids", "attention_mask", "position_ids")}
    with torch.no_grad():
        loss, found = objective.loss(now(**inputs).logits, batch, None)

    models = {name: plain(path) for name, path in pair.items()}
    states = AutoModelForCausalLM.from_pretrained(pair["aligned"]).eval()

    def fused(row: Any, router: str) -> float:
        total, ids = 0.0, row.ids(0)
        start = len(row.prompts[0])
        for at in range(start, len(ids) + 1):
            seen = torch.tensor([ids[:at]])
            with torch.no_grad():
                state = states(seen, output_hidden_states=True).hidden_states[-1][0, -1]
            picked = NAMES[int((head.weight @ state).argmax())]
            product = models[picked](ids[:at]) * models[router](ids[:at])
            token = letters.eos_token_id if at == len(ids) else ids[at]
            total += log(float(product[token] / product.sum()))
        return total

    expected = []
    for good, bad in ((every[0], every[1]), (every[2], every[3])):
        gains = [fused(row, "base") - fused(row, "aligned") for row in (good, bad)]
        margin = 0.5 * (gains[0] - gains[1])
        expected.append(float(torch.tensor(margin).sigmoid().log()))
    assert found[:, 0].tolist() == pytest.approx(expected, abs=1e-3)
    assert float(loss) == pytest.approx(-sum(expected) / 2, abs=1e-3)
    measured = objective.measure(found.tolist())
    assert measured["right"] == sum(one > log(0.5) for one in expected) / 2


def answer(
    question: str, number: int, text: str, utility: float | None, finish: Any = "stop"
) -> TeamAnswer:
    patch = Patch(0, (1,), text, finish, "chosen")
    trace = Trace(Query(question, text="?"), (patch,), number)
    return TeamAnswer(f"{question}#{number}", "task", trace, utility)


def test_the_best_answer_is_paired_with_the_worst_while_they_differ() -> None:
    made = compare(
        [
            answer("a", 0, " b", 0.5),
            answer("b", 0, " same", 1.0),
            answer("a", 1, " worst", 0.0),
            answer("a", 2, " best", 1.0),
            answer("a", 3, " c", 0.5),
            answer("a", 4, " cut", 1.0, finish="length"),
            answer("b", 1, " same", 0.0),
            answer("b", 2, " unscored", None),
            answer("c", 0, " x", 0.2),
            answer("c", 1, " y", 0.2),
        ]
    )
    assert [(pair.query.id, pair.chosen, pair.rejected) for pair in made.pairs] == [
        ("a", " best", " worst")
    ]
    assert (made.answers, made.unfinished, made.questions, made.alike) == (10, 2, 3, 2)


@pytest.fixture
def router(pair: dict[str, str], tmp_path: Path) -> Path:
    """A router that one epoch of texts made."""
    made, given = tmp_path / "router", write(tmp_path / "texts.jsonl", texts(12))
    team = replace(team_of(pair), policy=Policy(max_tokens=12))
    train_router(team, given, made, FULL, TrainingConfig(epochs=1))
    return made


def compared(path: Path, number: int = 12) -> Path:
    lines = [
        {"id": text.query.id, "text": text.query.text, "chosen": text.answer, "rejected": " the at"}
        for text in texts(number)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_command_prefers_the_chosen_answers_and_goes_on_after_a_stop(
    invoke: Callable[..., tuple[int, str, str]], router: Path, tmp_path: Path
) -> None:
    given, made = compared(tmp_path / "pairs.jsonl"), tmp_path / "preferred"
    options = ("--switcher", "fusionroute", "--team", router, "--preferences", given)
    options = (*options, "--epochs", 3, "--learning-rate", "2e-3", "--batch-size", 4)
    code, _, err = invoke("train", *options, "--output", made)
    assert code == 0, err
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["validation"]["loss"] < metrics["standards"]["untrained"] == log(2)
    assert metrics["validation"]["right"] == 1.0
    assert metrics["examples"]["train_pairs"] == 10
    assert 0 <= metrics["validation"]["same_picks"] <= 1
    assert (made / WEIGHTS).read_bytes() == (router / WEIGHTS).read_bytes()
    assert "trained on preferences" in (made / "README.md").read_text()
    with Team.load(made) as team:
        assert team.generate("the street").text
    before = (made / "model.safetensors").read_bytes()
    assert before != (router / "model.safetensors").read_bytes()
    (made / "metrics.json").unlink()  # as if it was killed
    assert invoke("train", *options, "--output", made)[0] == 0
    assert (made / "model.safetensors").read_bytes() == before
    code, _, err = invoke("train", *options, "--beta", 0.5, "--output", made)
    assert code != 0
    assert "another run" in err or "settings" in err


@dataclass(frozen=True)
class Letters:
    """Answers are as good as they have many of one letter."""

    name: str = "letters"
    category: str = "form"

    def queries(self, split: Split) -> tuple[Query, ...]:
        words = {"train": ("the", "a", "no", "is", "red", "at"), "dev": ("her",), "test": ("it",)}
        return tuple(Query(f"{split}-{word}", text=word) for word in words[split])

    def score(self, query: Query, answer: str) -> Score:
        return Score(min(1.0, answer.count("e") / 4), answer)


def test_a_team_learns_from_its_own_answers(
    router: Path, tmp_path: Path, invoke: Callable[..., tuple[int, str, str]]
) -> None:
    team, said = load_team_config(router), list[str]()
    settings = PreferenceSettings(FULL, sampling=SamplingConfig(24))
    made = tmp_path / "own"
    training = TrainingConfig(epochs=2, learning_rate=1e-3)
    metrics = improve_router(team, [Letters()], made, settings, training, said.append)
    data = metrics["examples"]
    assert (data["learned"], data["answers"], data["questions"]) == ("answers", 144, 6)
    assert data["pairs"] == data["train_pairs"] + data["validation_pairs"] > 2
    assert f"{data['pairs']} pairs of 144 answers" in " ".join(said)
    worse = metrics["validation"]["loss"] >= log(2)
    assert worse == any("no epoch is better" in line for line in said)
    again = improve_router(team, [Letters()], made, settings, training, said.append)
    assert {**again, **metrics} == again
    assert "nothing to do" in said[-1]


def test_what_cannot_be_is_refused_before_anything_runs(
    invoke: Callable[..., tuple[int, str, str]],
    pair: dict[str, str],
    router: Path,
    tmp_path: Path,
) -> None:
    given, out = compared(tmp_path / "pairs.jsonl", 3), tmp_path / "out"
    with pytest.raises(ConfigError, match="switcher is random, and preferences train a router"):
        improve_router(team_of(pair), given, out)
    team: TeamConfig = load_team_config(router)
    with pytest.raises(UsageError, match="leave out --start"):
        improve_router(team, given, out, PreferenceSettings(RouterSettings(LMSettings("base"))))
    with pytest.raises(UsageError, match="beta must be above 0, not 0"):
        PreferenceSettings(beta=0.0)
    with pytest.raises(UsageError, match="two answers to a question are the least"):
        PreferenceSettings(sampling=SamplingConfig(1))
    with pytest.raises(DataError, match="cannot read"):
        read_preferences(tmp_path / "none.jsonl")
    alike = tmp_path / "alike.jsonl"
    alike.write_text('{"id": "q", "text": "a", "chosen": "b", "rejected": "b"}\n')
    with pytest.raises(DataError, match=r"alike.jsonl: the record 'q' has no two answers"):
        read_preferences(alike)
    for wrong, why in (
        (("--texts", given, "--preferences", given), "leave out the other options"),
        (("--labels", given), "leave out the other options"),
    ):
        options = ("--team", router, "--switcher", "fusionroute", *wrong, "--output", out)
        code, _, err = invoke("train", *options)
        assert code != 0
        assert why in err
    head = ("--team", router, "--switcher", "head", "--preferences", given, "--output", out)
    code, _, err = invoke("train", *head)
    assert code != 0
    assert "--preferences are for a router" in err
    assert not out.exists()
