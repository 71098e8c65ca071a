"""A deferral head is trained without labels: the likelihood by hand, the places of texts by plain
forwards, and the run from a file of texts to a team."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from taketurns import Candidate, ConfigError, DataError, ModelSpec, Query, Team, UsageError
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import TeamConfig
from taketurns.switchers.head import Head, HeadConfig, View
from taketurns.training.deferral.fit import fit, marginal_loss
from taketurns.training.deferral.places import Places, read_places
from taketurns.training.deferral.run import DeferralSettings, train_on_texts
from taketurns.training.deferral.texts import Text
from taketurns.training.supervised.settings import TrainingConfig
from tests.token_level.reference import plain

CONFIG = HeadConfig("candidate", ("base", "aligned"), "base", {"base": (-1,)})
WORDS = ("the street", " is red.", " no one", " ate it", " at noon,", " so the house", " is hers.")


def test_the_loss_is_that_of_the_mixture_by_hand() -> None:
    d, known = 0.3, [(0.5, 0.2), (0.1, 0.8)]
    logprobs = torch.tensor([[log(1 - d), log(d)]] * 2)
    loss = marginal_loss(logprobs, torch.tensor(known).log())
    by_hand = -sum(log((1 - d) * base + d * other) for base, other in known) / 2
    assert float(loss) == pytest.approx(by_hand)


def places(count: int, seed: int) -> Places:
    """Where the first number of the state is positive the other one is right, else the base."""
    torch.manual_seed(seed)
    states = torch.randn(count, 3)
    other = torch.where(states[:, 0] > 0, 0.9, 0.1)
    return Places(states, torch.stack((1 - other, other), 1).log())


@pytest.mark.parametrize("base", [0, 1])
def test_it_learns_where_the_other_one_predicts_better(base: int) -> None:
    """No label says so; and the base may be either candidate."""

    def turned(one: Places) -> Places:
        return one if base == 0 else Places(one.states, one.logprobs.flip(1))

    names = CONFIG.candidates if base == 0 else CONFIG.candidates[::-1]
    config = HeadConfig("candidate", names, "base", CONFIG.layers)
    train, held_out = [turned(places(60, n)) for n in range(8)], [turned(places(60, 99))]
    fitted = fit(config, train, held_out, TrainingConfig(learning_rate=0.05, weight_decay=0.0))
    best = fitted.history[fitted.best_epoch - 1]
    assert best["loss"] < 0.25 < fitted.standards["half"] < fitted.standards["base"]
    assert fitted.standards["half"] == pytest.approx(log(2))
    for sign in (-1, 1):
        view = View(base, 0, torch.tensor([float(sign), 0.0, 0.0]))
        deferred = float(fitted.head.logits(view).softmax(-1)[1 - base])
        assert (deferred > 0.8) if sign > 0 else (deferred < 0.2)
    assert 0.3 < best["deferred"] < 0.7


def team_of(models: Mapping[str, str]) -> TeamConfig:
    candidates = (Candidate(n, ModelSpec(path, prompt="{text}")) for n, path in models.items())
    return TeamConfig(tuple(candidates))


def texts(number: int) -> list[Text]:
    return [
        Text(Query(str(i), text=WORDS[i % 3]), "".join(WORDS[(i + j) % 7] for j in (3, 5, 6)))
        for i in range(number)
    ]


async def test_places_are_those_of_plain_forwards(
    pair: dict[str, str], letters: Any, tmp_path: Path
) -> None:
    """With one vocabulary one before each token, and the end; read again from the files."""
    from transformers import AutoModelForCausalLM

    some = texts(3)
    kept, found = await read_places(team_of(pair), CONFIG, some, tmp_path)
    assert kept == some
    base = AutoModelForCausalLM.from_pretrained(pair["base"]).eval()
    models = [plain(pair["base"]), plain(pair["aligned"])]
    for text, one in zip(some, found, strict=True):
        prompt = letters.encode(text.query.text, add_special_tokens=False)
        answer = letters.encode(text.answer, add_special_tokens=False)
        assert one.logprobs.shape == (len(answer) + 1, 2)
        for place, token in enumerate([*answer, letters.eos_token_id]):
            ids = [*prompt, *answer[:place]]
            for column, model in enumerate(models):
                expected = float(model(ids)[token].log())
                assert float(one.logprobs[place, column]) == pytest.approx(expected, abs=1e-3)
            with torch.inference_mode():
                states = base(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
            torch.testing.assert_close(one.states[place], states[0, -1], atol=1e-3, rtol=1e-3)
    _, again = await read_places(team_of(pair), CONFIG, some, tmp_path)
    assert all(map(torch.equal, (p.logprobs for p in found), (p.logprobs for p in again)))
    with pytest.raises(DataError, match="belongs to another run: its texts have other places"):
        await read_places(team_of(pair), CONFIG, texts(3)[::-1], tmp_path)


async def test_between_two_tokenizers_a_place_is_before_a_word(
    unlike_pair: dict[str, str], letters: Any, other_letters: Any, tmp_path: Path
) -> None:
    """And nothing of the text is left out: its probability is that of the whole, end included."""
    some = texts(2)
    _, found = await read_places(team_of(unlike_pair), CONFIG, some, tmp_path)
    models = [
        (plain(unlike_pair["base"]), letters), (plain(unlike_pair["aligned"]), other_letters)
    ]  # fmt: skip
    for text, one in zip(some, found, strict=True):
        assert 3 < len(one.logprobs) < len(text.answer) / 2
        for column, (model, tokenizer) in enumerate(models):
            ids = tokenizer.encode(text.query.text + text.answer, add_special_tokens=False)
            start = len(tokenizer.encode(text.query.text, add_special_tokens=False))
            assert tokenizer.decode(ids[start:]) == text.answer
            whole = [*ids, tokenizer.eos_token_id]
            expected = sum(
                float(model(whole[:at])[whole[at]].log()) for at in range(start, len(whole))
            )
            assert float(one.logprobs[:, column].sum()) == pytest.approx(expected, abs=1e-2)


def write(path: Path, some: Sequence[Text]) -> Path:
    lines = [
        json.dumps({"id": text.query.id, "text": text.query.text, "answer": text.answer})
        for text in some
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def team_file(pair: dict[str, str], tmp_path: Path) -> Path:
    entries = [{"name": n, "model": path, "prompt": "{text}"} for n, path in pair.items()]
    policy = {"max_tokens": 12, "patch": {"until": "sentence"}}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({"candidates": entries, "policy": policy}), encoding="utf-8")
    return path


def test_a_command_makes_a_team_of_texts_and_goes_on_after_a_stop(
    invoke: Callable[..., tuple[int, str, str]], team_file: Path, tmp_path: Path
) -> None:
    read = write(tmp_path / "texts.jsonl", texts(6))
    options = ("--switcher", "deferral", "--texts", read, "--epochs", 3)
    code, _, err = invoke("train", "--team", team_file, *options, "--output", tmp_path / "head")
    assert code == 0, err
    assert "nats" not in err
    assert "one half everywhere" in err
    made = tmp_path / "head"
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["switcher"]["kind"] == "deferral"
    assert metrics["examples"]["train_texts"] + metrics["examples"]["validation_texts"] == 6
    assert "marginal likelihood" in (made / "README.md").read_text()
    config = load_team_config(made)
    assert config.switcher.kind == "deferral"
    assert config.policy.patch is None
    with Team.load(made) as team:
        assert {patch.name for patch in team.generate("the street").patches} <= {"base", "aligned"}
    weights = (made / "head.safetensors").read_bytes()
    assert invoke("train", "--team", team_file, *options, "--output", made)[0] == 0
    (made / "metrics.json").unlink()  # as if it was killed
    assert invoke("train", "--team", team_file, *options, "--output", made)[0] == 0
    assert (made / "head.safetensors").read_bytes() == weights
    code, _, err = invoke("train", "--team", team_file, *options, "--seed", 1, "--output", made)
    assert code != 0
    assert "another run" in err or "settings" in err
    code, _, err = invoke("train", "--team", team_file, "--switcher", "deferral", "--output", made)
    assert code != 0
    assert "name the tasks to ask" in err
    for wrong in (
        ("--switcher", "deferral", "--labels", read), ("--switcher", "head", "--texts", read)
    ):  # fmt: skip
        code, _, err = invoke("train", "--team", team_file, *wrong, "--output", tmp_path / "no")
        assert code != 0
        assert "leave out the other option" in err
    wrong = ("--method", "policy-gradient", "--texts", read)
    code, _, err = invoke("train", "--team", team_file, *wrong, "--output", tmp_path / "no")
    assert code != 0
    assert "leave out --texts" in err


def test_what_cannot_be_is_refused_before_anything_runs(
    pair: dict[str, str], tmp_path: Path
) -> None:
    team, good = team_of(pair), write(tmp_path / "good.jsonl", texts(3))
    three = team_of({**pair, "c": pair["base"]})
    with pytest.raises(UsageError, match=r"two candidates, not 3 \(base, aligned, c\)"):
        train_on_texts(three, good, tmp_path / "out")
    with pytest.raises(ConfigError, match="no candidate 'c' to read"):
        train_on_texts(team, good, tmp_path / "out", DeferralSettings("c"))
    with pytest.raises(UsageError, match="validation must be a share"):
        DeferralSettings(validation=1.0)
    for content, message in (
        ('{"text": "a"}', "the record '1' has no answer to learn from"),
        ('{"text": "a", "answer": ""}', "the record '1' has no answer to learn from"),
        ('{"answer": "b"}', 'bad.jsonl:1: either "text" or "messages"'),
        ("", "is empty"),
    ):
        bad = tmp_path / "bad.jsonl"
        bad.write_text(content)
        with pytest.raises(DataError, match=message):
            train_on_texts(team, bad, tmp_path / "out")
    with pytest.raises(DataError, match="cannot read"):
        train_on_texts(team, tmp_path / "none.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    one = write(tmp_path / "one.jsonl", texts(1))
    with pytest.raises(DataError, match="at least two texts that fit"):
        train_on_texts(team, one, tmp_path / "one")


def test_texts_that_do_not_fit_are_left_out_and_counted(
    pair: dict[str, str], tmp_path: Path
) -> None:
    long = Text(Query("long", text="a"), " the street" * 200)
    read = write(tmp_path / "texts.jsonl", [*texts(3), long])
    said: list[str] = []
    training = TrainingConfig(epochs=1)
    metrics = train_on_texts(
        team_of(pair), read, tmp_path / "out", training=training, say=said.append
    )
    assert metrics["examples"]["too_long"] == 1
    assert "1 of 4 texts are left out" in said[0]
    head = Head.load(str(tmp_path / "out"))
    assert head.config.reader == "base"
    assert exp(metrics["standards"]["half"]) > 1
