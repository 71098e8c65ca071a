"""Few labels: a head decides by the prior where it has none, and is no worse where it has some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from taketurns.config.loading import load_team_config
from taketurns.errors import NotANumberError
from taketurns.generation.check.roles import describe_switcher, switcher_notes
from taketurns.switchers.head import Head, HeadConfig, View, describe_blind, describe_labels
from taketurns.training.labels.labels import Label
from taketurns.training.supervised import head, shrinkage
from taketurns.training.supervised.choice_metrics import measure_choices
from taketurns.training.supervised.examples import Example
from taketurns.training.supervised.run import train
from taketurns.training.supervised.settings import HeadSettings, TrainingConfig
from taketurns.types import Query

NAMES = ("a", "b", "c")
NOBODY, WIDTH = 3, 24
COURSE = TrainingConfig(epochs=15, learning_rate=0.01)  # as far as 60 smaller steps
PRIOR = torch.tensor([0.6, 0.3, 0.1])


def config(mode: Any = "speaker") -> HeadConfig:
    made = HeadConfig(mode, NAMES, "c")
    return HeadConfig(mode, NAMES, "c", dict.fromkeys(made.readers, (1,)))


def drawn(
    lasts: Sequence[int], seed: int, strength: float = 1.0, sizes: Sequence[int] = (WIDTH,) * 3
) -> tuple[list[View], list[Example]]:
    """Labels of a world in which the states of every reader say in the same way who is best, the
    more surely the greater `strength`, around a prior."""
    draws = torch.Generator().manual_seed(seed)
    truth = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(99)) / WIDTH**0.5
    views, examples = [], []
    for number, last in enumerate(lasts):
        reader = 2 if last == NOBODY else last
        states = torch.randn(WIDTH, generator=draws)
        chances = (PRIOR.log() + strength * truth @ states).softmax(-1)
        best = int(torch.multinomial(chances, 1, generator=draws))
        label = Label(str(number), Query(str(number), text="?"), (),
                      tuple(float(i == best) for i in range(3)), (1, 1, 1))  # fmt: skip
        views.append(View(reader, last, states.repeat(sizes[reader] // WIDTH)))
        examples.append(Example(label, label.targets("hard")))
    return views, examples


def fit(
    lasts: Sequence[int], seed: int = 0, held_out: int = 16, bias: bool = True, **world: Any
) -> head.FittedHead:
    views, examples = drawn(lasts, seed, **world)
    kept = len(examples) - held_out
    return head.fit(config(), views, examples[:kept], examples[kept:], COURSE, bias)


def loss(fitted: Head, lasts: Sequence[int], **world: Any) -> float:
    views, examples = drawn(lasts, 1000, **world)
    return measure_choices([fitted.logits(v).softmax(-1).tolist() for v in views], examples).loss


def test_after_speakers_without_labels_the_prior_decides() -> None:
    """Fault: all prefixes were empty, and after any speaker it drew evenly."""
    fitted = fit([NOBODY] * 108).head
    for last in (0, 1):
        found = fitted.logits(View(last, last, torch.randn(WIDTH))).softmax(-1)
        assert found.tolist() == pytest.approx(PRIOR.tolist(), abs=0.12)
    assert fitted.config.labels == (0, 0, 0, 92)
    assert fitted.blind == (0, 1)
    said = describe_blind(fitted) or ""
    assert said.startswith("after a and after b it reads no states and draws by how often each")
    assert "after c there are fewer than 10 labels" in said
    assert describe_labels(fitted.config) == "labels by last speaker: a 0, b 0, c 0, none yet 92"
    assert fitted.bias[2].equal(fitted.bias[NOBODY])  # one reader reads both


def test_of_a_handful_of_labels_no_map_is_made() -> None:
    """A deviation of two states says nothing: what is read later may lie a thousand of them
    away."""
    fitted = fit([NOBODY] * 100 + [0, 0] + [NOBODY] * 16).head
    assert "a" not in fitted.scales
    assert fitted.logits(View(0, 0, 50 * torch.ones(WIDTH))).softmax(-1)[0] < 0.8


@pytest.mark.parametrize("sizes", [(WIDTH,) * 3, (WIDTH, 2 * WIDTH, WIDTH)], ids=["one", "several"])
@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_few_labels_are_no_worse_on_held_out_ones(
    sizes: tuple[int, ...], strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On labels that it never saw, against each reader's own map alone."""
    world: dict[str, Any] = {"strength": strength, "sizes": sizes}
    lasts, asked = [0, 1, 2, NOBODY] * 27, [0, 1, 2, NOBODY] * 60
    drawn_in = [fit(lasts, seed, **world) for seed in range(2)]
    monkeypatch.setattr(shrinkage, "PLENTY", 0)
    monkeypatch.setattr(shrinkage, "LEAST", 0)
    alone = [fit(lasts, seed, **world) for seed in range(2)]
    ours = [loss(one.head, asked, **world) for one in drawn_in]
    theirs = [loss(one.head, asked, **world) for one in alone]
    assert fmean(ours) < fmean(theirs)
    shared = fmean(sum((one.shrunk.shared or {}).values()) / 3 for one in drawn_in)
    assert shared > 0.3 if len(set(sizes)) == 1 and strength else shared < 0.3


def test_a_head_with_plenty_of_labels_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lasts = [0, 1, 2, NOBODY] * 40
    monkeypatch.setattr(shrinkage, "PLENTY", 30)
    plenty = fit(lasts).shrunk
    assert (plenty.kept, plenty.shared) == (None, None)
    views, examples = drawn(lasts, 0)
    scales = head._scales(config(), views[:-16], True)
    rows = torch.stack([head._features(config(), scales, view, True) for view in views])
    weight, _, _ = head._descend(config(), rows, examples[:-16], examples[-16:], COURSE)
    as_before = head._head(config(), scales, weight)
    assert plenty.head.bias.equal(as_before.bias)
    for name, scale in as_before.scales.items():
        assert plenty.head.scales[name].weight.equal(scale.weight)


def test_a_head_to_fold_has_no_prior_and_says_so() -> None:
    fitted = fit([2] * 80 + [NOBODY] * 28, bias=False).head
    assert not fitted.bias.any()
    assert "draws evenly" in (describe_blind(fitted) or "")


def test_the_counts_are_kept_and_follow_the_candidates(tmp_path: Path) -> None:
    fitted = fit([NOBODY] * 60 + [0] * 20 + [NOBODY] * 16).head
    fitted.save(tmp_path)
    again = Head.load(str(tmp_path))
    assert again.config.labels == fitted.config.labels == (20, 0, 0, 60)
    assert again.ordered(("c", "a", "b")).config.labels == (0, 20, 0, 60)
    record = json.loads((tmp_path / "head.json").read_text())
    del record["labels"]  # as heads were written before
    (tmp_path / "head.json").write_text(json.dumps(record))
    assert Head.load(str(tmp_path)).config.labels == ()


def test_train_the_card_and_check_say_what_few_labels_mean(
    write_labels: Any, tmp_path: Path
) -> None:
    said: list[str] = []
    labels = write_labels(108)
    lines = [json.loads(line) for line in labels.read_text().splitlines()]
    for line in lines:
        line["prefix"] = [patch for patch in line["prefix"] if line["prefix"][-1]["speaker"] == 2]
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "head"
    metrics = train(
        load_team_config("pocket"), labels, out, HeadSettings(), None, COURSE, said.append
    )
    (counts,) = [line for line in said if line.startswith("labels by last speaker: ")]
    assert counts.startswith("labels by last speaker: pretrained 0, sft 0, aligned ")
    blind = (
        "after pretrained and after sft it reads no states and draws by how often each candidate"
    )
    assert any(line.startswith(blind) for line in said)
    parts = metrics["switcher"]["labels"]
    assert [part["after"] for part in parts] == ["pretrained", "sft", "aligned", None]
    card = (out / "README.md").read_text()
    assert "| training prefixes | 0 | 0 |" in card
    assert f"A{blind[1:]}" in card
    team = load_team_config(out)
    assert counts in describe_switcher(team)
    assert [note for note in switcher_notes(team) if blind in note]
    assert not list(switcher_notes(load_team_config("pocket")))


def test_a_fit_that_diverges_is_no_head() -> None:
    views, examples = drawn([NOBODY] * 20, 0)
    far = TrainingConfig(epochs=20, learning_rate=1e37)
    with pytest.raises(NotANumberError, match=r"training diverged in epoch \d+: "):
        head.fit(config(), views, examples[:16], examples[16:], far)
