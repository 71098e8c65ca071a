"""A head learns from the states that inference will read, in seconds, and finds its team again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.config.policy import PatchRule
from taketurns.config.team_config import TeamConfig
from taketurns.errors import ConfigError, DataError
from taketurns.switchers.head import HeadConfig, StateReader, View
from taketurns.training.labels.labels import Label
from taketurns.training.supervised import states
from taketurns.training.supervised.head import head_config
from taketurns.training.supervised.run import train
from taketurns.training.supervised.settings import HeadSettings, TrainingConfig

NAMES = ("pretrained", "sft", "aligned")


@pytest.fixture
def pocket() -> TeamConfig:
    return load_team_config("pocket")


@pytest.mark.parametrize(
    "settings", [HeadSettings(), HeadSettings("candidate", "sft", (-1,))], ids=["speaker", "one"]
)
def test_it_learns_what_calls_for_whom(
    settings: HeadSettings, pocket: TeamConfig, write_labels: Any, tmp_path: Path
) -> None:
    out = tmp_path / "head"
    metrics = train(pocket, write_labels(150), out, settings)
    assert metrics["validation"]["agreement"] >= 0.95
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "examples.jsonl",
        "examples.jsonl.manifest.json",
        "head.json",
        "head.safetensors",
        "metrics.json",
        "team.yaml",
    }
    with Team.load(out, patch_size=2) as team:
        trace = team.generate("what is 5?")
    assert trace.error is None
    assert len({patch.probabilities for patch in trace.patches}) > 1


@pytest.mark.parametrize("mode", ["speaker", "candidate"])
async def test_training_reads_what_inference_reads(
    mode: Any, pocket: TeamConfig, write_labels: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """The same states, to the bit, at every boundary of a real answer."""
    config = head_config(pocket, HeadSettings(mode))
    seen: list[View] = []
    view = StateReader.view

    async def spy(self: Any, session: Any, draft: Any) -> View:
        seen.append(await view(self, session, draft))
        return seen[-1]

    labels = write_labels(60)
    import asyncio

    await asyncio.to_thread(
        train, pocket, labels, tmp_path / "head", HeadSettings(mode), None, TrainingConfig(epochs=2)
    )
    monkeypatch.setattr(StateReader, "view", spy)
    async with Team.load(tmp_path / "head", patch_size=4) as team:
        trace = await team.agenerate("how many sheep does anna have?")
    at_inference = list(seen)
    assert len(at_inference) == len(trace.patches) > 1
    prefixes = [
        Label(str(i), trace.query, trace.patches[:i], (1, 0, 0), (1, 1, 1))
        for i in range(len(trace.patches))
    ]
    (tmp_path / "states").mkdir()
    at_training = await states.read_states(pocket, config, prefixes, tmp_path / "states")
    for ours, theirs in zip(at_training, at_inference, strict=True):
        assert (ours.reader, ours.last) == (theirs.reader, theirs.last)
        assert ours.states is not None
        assert theirs.states is not None
        assert (ours.states - theirs.states).abs().max() < 1e-4
    assert at_training[0].reader == 2
    assert at_training[0].last == 3


async def test_states_are_read_once(
    pocket: TeamConfig, write_labels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taketurns.training.labels.labels import read_labels

    monkeypatch.setattr(states, "PART", 4)
    labels = list(read_labels(write_labels(10), NAMES))
    config = head_config(pocket, HeadSettings())
    first = await states.read_states(pocket, config, labels, tmp_path)
    (tmp_path / "states-0001.safetensors").unlink()
    read: list[int] = []
    view = StateReader.view

    async def spy(self: Any, session: Any, draft: Any) -> View:
        read.append(1)
        return await view(self, session, draft)

    monkeypatch.setattr(StateReader, "view", spy)
    again = await states.read_states(pocket, config, labels, tmp_path)
    assert len(read) == 4
    for one, other in zip(first, again, strict=True):
        assert one.states is not None
        assert other.states is not None
        assert (one.reader, one.last) == (other.reader, other.last)
        assert one.states.equal(other.states)


def test_the_same_labels_give_the_same_head(
    pocket: TeamConfig, write_labels: Any, tmp_path: Path
) -> None:
    labels = write_labels(40)
    for name in ("one", "other"):
        train(pocket, labels, tmp_path / name, HeadSettings(), training=TrainingConfig(epochs=5))
    one, other = ((tmp_path / n / "head.safetensors").read_bytes() for n in ("one", "other"))
    assert one == other


def test_what_a_head_reads_by_default(pocket: TeamConfig) -> None:
    assert head_config(pocket, HeadSettings()) == HeadConfig(
        "speaker", NAMES, "aligned", dict.fromkeys(NAMES, (2, 3, 4))
    )
    one = head_config(pocket, HeadSettings("candidate", "sft", (-1, 0)))
    assert one.layers == {"sft": (4, 0)}
    with pytest.raises(ConfigError, match="there is no candidate 'chat'"):
        head_config(pocket, HeadSettings(reader="chat"))
    with pytest.raises(ConfigError, match=r"no layer 5 in pretrained: .* to 4, or from -5 to -1"):
        head_config(pocket, HeadSettings(layers=(5,)))


def test_a_pool_in_another_order_keeps_the_decisions(
    pocket: TeamConfig, write_labels: Any, tmp_path: Path
) -> None:
    train(
        pocket,
        write_labels(60),
        tmp_path / "head",
        HeadSettings(),
        training=TrainingConfig(epochs=5),
    )
    whole = load_team_config(tmp_path / "head", {"greedy_switcher": True, "max_tokens": 48})
    turned = replace(whole, candidates=whole.candidates[::-1])
    with Team.load(whole) as team, Team.load(turned) as other:
        one, two = team.generate("what is 5?", seed=1), other.generate("what is 5?", seed=1)
    assert one.text == two.text
    for mine, yours in zip(one.patches, two.patches, strict=True):
        assert mine.probabilities == pytest.approx((yours.probabilities or ())[::-1])
    fewer = replace(whole, candidates=whole.candidates[:2])
    with (
        Team.load(fewer) as team,
        pytest.raises(ConfigError, match="was trained for pretrained, sft, aligned, not for"),
    ):
        team.generate("what is 5?")


def test_a_head_for_any_token_learns_from_prefixes_cut_at_any(
    pocket: TeamConfig, write_labels: Any, tmp_path: Path
) -> None:
    """Its team ends patches where it would change speaker; labels of boundaries are refused."""
    team = replace(
        pocket, policy=replace(pocket.policy, patch=PatchRule("switcher", min=3, max=20))
    )
    labels = write_labels(150)
    with pytest.raises(DataError, match="rollout --cuts anywhere") as caught:
        train(team, labels, tmp_path / "refused", HeadSettings())
    assert "\n" not in str(caught.value)
    lines = [json.loads(line) | {"cuts": "anywhere"} for line in labels.read_text().splitlines()]
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics = train(team, labels, tmp_path / "head", HeadSettings())
    assert metrics["switcher"]["cuts"] == "anywhere"
    assert "It was trained at any token" in (tmp_path / "head" / "README.md").read_text()
    with Team.load(tmp_path / "head") as made:
        assert made.policy.patch == PatchRule("switcher", min=3, max=20)
        trace = made.generate("what is 5?")
    assert trace.error is None
    assert all(3 <= len(patch.token_ids) <= 20 for patch in trace.patches[:-1])
