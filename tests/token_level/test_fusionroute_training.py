"""A router is trained on texts: its loss by hand, its head where the candidates differ, and the run
from a file of texts to a team."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from taketurns import Candidate, ConfigError, DataError, ModelSpec, Query, Team
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.engines.local.engine import LocalEngine
from taketurns.engines.local.loading import Weights
from taketurns.switchers.routing_head import WEIGHTS, RoutingHead
from taketurns.training.deferral.texts import Text
from taketurns.training.fusionroute.objective import (
    NOWHERE,
    FrozenCandidates,
    FusedNextToken,
    Likelihoods,
    likelihoods,
)
from taketurns.training.fusionroute.output import RouterSettings
from taketurns.training.fusionroute.routing import RoutedPlaces, fit, read_states
from taketurns.training.fusionroute.rows import ROUTER, FusionRow, FusionRows, read_rows
from taketurns.training.fusionroute.run import train_router
from taketurns.training.supervised.settings import LMSettings, TrainingConfig
from tests.token_level.reference import plain
from tests.token_level.test_deferral_training import team_of, texts, write

NAMES = ("base", "aligned")


def test_the_likelihoods_are_those_of_products_by_hand() -> None:
    base, other, router = (0.5, 0.3, 0.2), (0.1, 0.1, 0.8), (0.2, 0.6, 0.2)
    known = likelihoods(
        torch.tensor([[base, other]]).log(), torch.tensor([router]).log(), torch.tensor([1])
    )
    assert known.alone.tolist() == [pytest.approx([log(0.3), log(0.1)])]
    fused = [log(p[1] * 0.6 / sum(a * b for a, b in zip(p, router, strict=True)))
             for p in (base, other)]  # fmt: skip
    assert known.fused.tolist() == [pytest.approx(fused)]


async def read(team: TeamConfig, some: list[Text]) -> tuple[FusionRows, list[FusionRow]]:
    rows = await read_rows(team, team.candidates[1].spec, some)
    return rows, [row for row in rows.rows if row is not None]


def frozen(pair: dict[str, str], rows: FusionRows) -> FrozenCandidates:
    weights = Weights({name: ModelSpec(path) for name, path in pair.items()})
    return FrozenCandidates([weights.load(name) for name in NAMES], rows.outcomes)


async def test_the_loss_is_that_of_plain_forwards(pair: dict[str, str], letters: Any) -> None:
    """Of rows with different lengths, by the candidate that is best at each place, end included."""
    from transformers import AutoModelForCausalLM

    some = [*texts(2), Text(Query("x", text="a"), "t the")]
    rows, every = await read(team_of(pair), some)
    objective = FusedNextToken(every[:2], every[2:], frozen(pair, rows))
    batch = objective.collate(range(3), letters.eos_token_id)
    router = AutoModelForCausalLM.from_pretrained(pair["aligned"]).eval()
    inputs = {n: batch[n] for n in ("input_ids", "attention_mask", "position_ids")}
    with torch.no_grad():
        loss, sums = objective.loss(router(**inputs).logits, batch, None)
    models, expected = [plain(pair[name]) for name in NAMES], []
    for text, (_, places) in zip(some, sums.tolist(), strict=True):
        prompt = letters.encode(text.query.text, add_special_tokens=False)
        answer = letters.encode(text.answer, add_special_tokens=False)
        assert places == len(answer) + 1
        for place, token in enumerate([*answer, letters.eos_token_id]):
            said = [model([*prompt, *answer[:place]]) for model in models]
            best = max(said, key=lambda p, token=token: float(p[token]))  # type: ignore[misc]
            product = best * said[1]  # the router is the aligned one
            expected.append(-log(float(product[token] / product.sum())))
    assert float(loss) == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    measured = objective.measure(sums.tolist())
    assert measured["likelihood"] == pytest.approx(-float(loss), rel=1e-5)
    assert batch["targets"][2, 0] == NOWHERE


async def test_the_states_are_those_that_the_engine_reads(
    pair: dict[str, str], letters: Any
) -> None:
    rows, every = await read(team_of(pair), texts(5))
    router = Weights({ROUTER: ModelSpec(pair["aligned"])}).load(ROUTER)
    places = read_states(router, frozen(pair, rows), every)
    assert len(places.states) == sum(len(row.answer) + 1 for row in every)
    engine = LocalEngine({ROUTER: ModelSpec(pair["aligned"])})
    at = 0
    async with engine.session(0) as session:
        for row in every:
            ids = row.ids(-1)
            state = (await session.hidden(ROUTER, ids, (-1,)))[0]
            at += len(row.answer) + 1
            torch.testing.assert_close(places.states[at - 1], state, atol=1e-3, rtol=1e-3)
    await engine.close()
    assert 0 < places.differ.float().mean() < 1


def places(count: int, seed: int) -> RoutedPlaces:
    """Where the first number of the state is positive the second candidate is right."""
    torch.manual_seed(seed)
    states = torch.randn(count, 3)
    second = torch.where(states[:, 0] > 0, 0.9, 0.1)
    alone = torch.stack((1 - second, second), 1).log()
    return RoutedPlaces(states, Likelihoods(alone, alone / 2), torch.ones(count, dtype=torch.bool))


def test_the_head_learns_who_predicts_better() -> None:
    fitted = fit(NAMES, places(400, 0), places(100, 1), TrainingConfig(weight_decay=0.0))
    best = fitted.history[fitted.best_epoch - 1]
    assert best["right"] > 0.9
    assert fitted.best <= best["loss"] < -log(0.5) / 2
    assert fitted.head.probabilities(torch.tensor([2.0, 0.0, 0.0]))[1] > 0.8
    assert fitted.head.probabilities(torch.tensor([-2.0, 0.0, 0.0]))[0] > 0.8
    same = places(10, 2)
    same = RoutedPlaces(same.states, same.known, torch.zeros(10, dtype=torch.bool))
    with pytest.raises(DataError, match=r"at all 10 places .* nothing to route: give"):
        fit(NAMES, same, same, TrainingConfig())


@pytest.fixture
def team_file(pair: dict[str, str], tmp_path: Path) -> Path:
    entries = [{"name": n, "model": path, "prompt": "{text}"} for n, path in pair.items()]
    policy = {"max_tokens": 12, "patch": {"until": "sentence"}}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({"candidates": entries, "policy": policy}), encoding="utf-8")
    return path


@pytest.mark.parametrize("how", ["--full", pytest.param("--lora", marks=pytest.mark.slow)])
def test_a_command_makes_a_team_of_texts_and_goes_on_after_a_stop(
    invoke: Callable[..., tuple[int, str, str]], team_file: Path, tmp_path: Path, how: str
) -> None:
    given, made = write(tmp_path / "texts.jsonl", texts(12)), tmp_path / "router"
    options = ("--switcher", "fusionroute", "--texts", given, how, "--epochs", 3)
    options = (*options, "--learning-rate", "2e-3", "--batch-size", 4)
    code, _, err = invoke("train", "--team", team_file, *options, "--output", made)
    assert code == 0, err
    metrics = json.loads((made / "metrics.json").read_text())
    losses = metrics["history"]["router"]
    assert len(losses) == 3
    assert min(losses) < losses[0]
    standards = metrics["standards"]
    assert standards["best"] <= metrics["validation"]["loss"] < min(standards["alone"].values())
    assert "preference stage comes after" in (made / "README.md").read_text()
    config = load_team_config(made)
    assert (config.switcher.kind, config.policy.patch) == ("fusionroute", None)
    with Team.load(made) as team:
        trace = team.generate("the street")
    assert {patch.name for patch in trace.patches} <= set(NAMES)
    weights = "model.safetensors" if how == "--full" else "adapter_model.safetensors"
    before = [(made / name).read_bytes() for name in (weights, WEIGHTS)]
    assert RoutingHead.load(str(made)).candidates == NAMES
    assert invoke("train", "--team", team_file, *options, "--output", made)[0] == 0
    if how == "--full":
        (made / "metrics.json").unlink()  # as if it was killed
        assert invoke("train", "--team", team_file, *options, "--output", made)[0] == 0
        assert [(made / name).read_bytes() for name in (weights, WEIGHTS)] == before
    code, _, err = invoke("train", "--team", team_file, *options, "--seed", 1, "--output", made)
    assert code != 0
    assert "another run" in err or "settings" in err


def test_what_cannot_be_is_refused_before_anything_runs(
    invoke: Callable[..., tuple[int, str, str]],
    team_file: Path,
    pair: dict[str, str],
    unlike_pair: dict[str, str],
    tmp_path: Path,
) -> None:
    given, out = write(tmp_path / "texts.jsonl", texts(3)), tmp_path / "out"
    with pytest.raises(ConfigError, match="because their vocabularies differ: use models with"):
        train_router(team_of(unlike_pair), given, out)
    other = RouterSettings(LMSettings(start=unlike_pair["aligned"]))
    with pytest.raises(ConfigError, match=r"base, aligned, \(router\) cannot write a token"):
        train_router(team_of(pair), given, out, other)
    adapter = Candidate("aligned", ModelSpec(pair["base"], adapter="org/adapter"))
    team = TeamConfig((team_of(pair).candidates[0], adapter))
    with pytest.raises(ConfigError, match="training starts from a whole model"):
        train_router(team, given, out)
    with pytest.raises(DataError, match="cannot read"):
        train_router(team_of(pair), tmp_path / "none.jsonl", out)
    for wrong, why in (
        ((), "learns from texts first"),
        (("--labels", given), "leave out the other options"),
        (("--texts", given, "--labels", given), "leave out the other options"),
    ):
        options = ("--switcher", "fusionroute", *wrong, "--output", out)
        code, _, err = invoke("train", "--team", team_file, *options)
        assert code != 0
        assert why in err
    assert not out.exists()


async def test_texts_that_do_not_fit_are_left_out(pair: dict[str, str]) -> None:
    long = Text(Query("long", text="a"), " the street" * 200)
    rows = await read_rows(team_of(pair), ModelSpec(pair["base"]), [*texts(2), long])
    assert [row is None for row in rows.rows] == [False, False, True]
