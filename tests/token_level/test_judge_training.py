"""A judge is trained on comparisons: labels by plain forwards, the fit, and the run from rollouts
to a team."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns import Policy, Query, Team, UsageError
from taketurns.config.loading import load_team_config
from taketurns.config.pair_rules import MentorRule
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.errors import DataError
from taketurns.runs.records import encode_record
from taketurns.switchers.head import HeadConfig
from taketurns.switchers.judge import Judge
from taketurns.tasks.base import Split
from taketurns.training.labels.allocation import Uniform
from taketurns.training.labels.decision_points import DecisionPoint
from taketurns.training.labels.job import RolloutJob, make_rollouts
from taketurns.training.labels.labels import Label, label_from_json, read_labels
from taketurns.training.labels.rollouts import RolloutGenerator, Rollouts, rollouts_to_json
from taketurns.training.supervised.examples import Example
from taketurns.training.supervised.judge import Pair, fit
from taketurns.training.supervised.run import train
from taketurns.training.supervised.settings import JudgeSettings, Selection, TrainingConfig
from taketurns.types import Candidate, ModelSpec, Score
from tests.token_level.reference import plain
from tests.token_level.test_deferral_training import team_of

TOKENS, LOOKAHEAD = 12, 3
RULE = MentorRule(0.5, LOOKAHEAD)
TRAINING = TrainingConfig(learning_rate=0.02, weight_decay=0.0)
WORDS = ("the street", "at noon, ", "it is her", "red house. ", "no one ate", "so the tree")


@dataclass(frozen=True)
class Vowels:
    """An answer is worth the share of vowels among its letters."""

    name: str = "vowels"
    category: str = "reasoning"

    def queries(self, split: Split) -> tuple[Query, ...]:
        some = WORDS if split == "train" else ()
        return tuple(Query(f"{split}/{i}", text=text) for i, text in enumerate(some))

    def score(self, query: Query, answer: str) -> Score:
        return Score(sum(letter in "aeiou" for letter in answer) / max(1, len(answer)))


def team(models: dict[str, str], rule: MentorRule = RULE, **policy: Any) -> TeamConfig:
    rules = Policy(**{"max_tokens": TOKENS, "patch_size": TOKENS, "temperature": 0.0} | policy)
    switcher = SwitcherConfig(kind="mentorcollab", pair=rule)
    return replace(team_of(models), policy=rules, switcher=switcher)


@pytest.fixture(scope="module")
def models(
    make_model: Callable[..., Path], printable: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Two whose tokenizer has numbers, so that the writer can be asked."""
    made = (make_model(seed, tokenizer=printable, vocab_size=len(printable)) for seed in (12, 13))
    return dict(zip(("writer", "mentor"), map(str, made), strict=True))


async def test_a_label_is_a_comparison_by_plain_forwards(
    models: dict[str, str], printable: Any
) -> None:
    """The prefix ends where the next tokens differ, and the branches are greedy patches of both."""
    alone = [plain(models["writer"]), plain(models["mentor"])]
    task = Vowels()
    points = [
        DecisionPoint(task, query, n, "on-policy", "comparison")
        for query in task.queries("train")[:2] for n in range(2)
    ]  # fmt: skip
    async with Team.load(team(models)) as both:
        generator = RolloutGenerator(both, Uniform(2))
        made = [await generator.roll_out(point) for point in points]
        again = await generator.roll_out(points[1])
    for rollouts, point in zip(made, points, strict=True):
        written = [token for patch in rollouts.prefix for token in patch.token_ids]
        ids = [*printable.encode(point.query.text, add_special_tokens=False), *written]
        next_tokens = [int(model(ids).argmax()) for model in alone]
        assert next_tokens[0] != next_tokens[1]
        for branch, model in zip(rollouts.branches, alone, strict=True):
            patch: list[int] = []
            most = min(LOOKAHEAD, TOKENS - len(written))
            while len(patch) < most and printable.eos_token_id not in patch:
                patch.append(int(model([*ids, *patch]).argmax()))
            assert list(branch.patch.token_ids) == patch
        record = rollouts_to_json(rollouts, list(models), both.policy)
        label = label_from_json(record, list(models))
        assert label.cut_at == "comparison"
        assert [p.token_ids for p in label.patches] == [
            b.patch.token_ids for b in rollouts.branches
        ]
        assert label.query == point.query
    assert len({len(r.prefix) for r in made}) > 1
    assert records([again, made[1]], both)[0] == records([again, made[1]], both)[1]


def records(some: list[Rollouts], both: Team) -> list[Any]:
    return [rollouts_to_json(one, ["writer", "mentor"], both.policy) for one in some]


async def test_without_a_comparison_there_is_no_label(
    models: dict[str, str], tmp_path: Path
) -> None:
    """Fault: two models that agree in a whole answer made a record of a failure, so the command
    failed, and failed again whenever it was repeated."""
    task = Vowels()
    point = DecisionPoint(task, task.queries("train")[0], 0, "on-policy", "comparison")
    async with Team.load(team(models, MentorRule(0.0))) as both:
        record = await RolloutGenerator(both, Uniform(1)).record(point)
    assert record == {
        "id": point.id,
        "left_out": "the switcher compares no patches in this answer",
    }
    file = tmp_path / "labels.jsonl"
    file.write_bytes(encode_record(record))
    assert list(read_labels(file, list(models))) == []


def pairs(count: int, seed: int) -> list[Pair]:
    """The mentor's patch is the better one where the first number of its state is the greater in
    size, which no linear map can say."""
    torch.manual_seed(seed)
    made = []
    for states in torch.randn(count, 2, 3):
        own, mentors = states[:, 0].abs().tolist()
        utilities = (float(own > mentors), float(mentors > own))
        label = Label("q", Query("q", text="?"), (), utilities, (1, 1))
        made.append(Pair(Example(label, label.targets("tied")), states))
    return made


def test_it_learns_which_patch_leads_to_the_better_answer() -> None:
    config = HeadConfig("candidate", ("a", "b"), "a", {"a": (-1,)})
    known, held_out = pairs(400, 1), pairs(100, 2)
    fitted = fit(config, known, held_out, JudgeSettings(), TRAINING)
    first, best = fitted.history[0], fitted.history[fitted.best_epoch - 1]
    assert best["loss"] < first["loss"]
    assert best["utility"] > 0.9
    right = [
        int(fitted.judge.logits(pair.states).argmax()) in pair.example.label.best
        for pair in held_out
    ]
    assert sum(right) / len(right) == pytest.approx(best["agreement"])
    again = fit(config, known, held_out, JudgeSettings(), TRAINING)
    assert torch.equal(again.judge.value.weight, fitted.judge.value.weight)


def test_a_judge_that_has_learned_nothing_prefers_no_patch() -> None:
    config = HeadConfig("candidate", ("a", "b"), "a", {"a": (-1,)})
    fitted = fit(config, pairs(4, 1), pairs(2, 2), JudgeSettings(), replace(TRAINING, epochs=1,
                 learning_rate=1e-9))  # fmt: skip
    values = fitted.judge.logits(torch.randn(5, 2, 3)).softmax(-1)
    torch.testing.assert_close(values, torch.full((5, 2), 0.5), atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def labels(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    job = RolloutJob.of(
        team(models), [Vowels()], prefixes=12, allocation=Uniform(1), traces="on-policy",
        cut_at="comparison",
    )  # fmt: skip
    summary = make_rollouts(job, path)
    assert not summary.failures
    return path


def test_a_run_makes_a_team_of_labels_and_goes_on_after_a_stop(
    models: dict[str, str], labels: Path, tmp_path: Path
) -> None:
    output, config = tmp_path / "judge", team(models)
    settings, selection = JudgeSettings(width=8), Selection(min_margin=0.01, validation=0.3)
    training = replace(TRAINING, epochs=20)
    metrics = train(config, labels, output, settings, selection, training)
    assert metrics["switcher"]["kind"] == "mentorcollab"
    assert metrics["history"][-1]["loss"] != metrics["history"][0]["loss"]
    card = (output / "README.md").read_text()
    assert "judge" in card
    assert f"where patches of {LOOKAHEAD} tokens were compared" in card
    made = load_team_config(output)
    assert (made.switcher.kind, made.switcher.pair) == ("mentorcollab", RULE)
    judge = Judge.load(str(output))
    assert (judge.config.reader, len(judge.mean)) == ("writer", 64)
    with Team.load(output) as both:
        assert both.generate("the street").error is None
    weights = (output / "judge.safetensors").read_bytes()
    (output / "metrics.json").unlink()  # as if it was killed
    train(config, labels, output, settings, selection, training)
    assert (output / "judge.safetensors").read_bytes() == weights
    other = team(models, replace(RULE, rate=0.3))
    with pytest.raises(DataError, match="rule"):
        train(other, labels, output, settings, selection, training)


def test_the_states_of_training_are_those_of_judging(
    models: dict[str, str], labels: Path, tmp_path: Path
) -> None:
    """The same numbers from the labels' file and in an answer."""
    import asyncio

    from taketurns.engines.base import DeepSession
    from taketurns.training.supervised.judge import after_patches, judge_config
    from taketurns.training.supervised.states import read_states

    config = team(models)
    (label, *_) = read_labels(labels, list(models))
    reads = judge_config(config, JudgeSettings())
    examples = [Example(label, label.targets("tied"))]
    views = asyncio.run(read_states(config, reads, after_patches(examples), tmp_path))

    async def asked() -> list[torch.Tensor]:
        async with Team.load(config) as both:
            state = await both.draft(label.query)
            state.resume(label.prefix)
            found = []
            async with both.answer(state, 0) as answer:
                for who in range(2):
                    async with answer.fork(0) as fork:
                        await fork.trial(who)
                        assert isinstance(fork.session, DeepSession)
                        prompt = fork.state.prompt(0)
                        states = await fork.session.hidden("writer", prompt, (-1,))
                        found.append(states.flatten())
        return found

    for view, states in zip(views, asyncio.run(asked()), strict=True):
        assert view.states is not None
        torch.testing.assert_close(view.states, states)


def test_what_cannot_be_is_refused_before_anything_runs(
    models: dict[str, str], labels: Path, tmp_path: Path, write_boundaries: Path
) -> None:
    output = tmp_path / "out"
    judge = JudgeSettings()
    with pytest.raises(DataError, match="do not say where patches were compared"):
        train(team(models), write_boundaries, output, judge)
    random = replace(team(models), switcher=SwitcherConfig())
    selection = Selection(min_margin=0.01)
    with pytest.raises(UsageError, match="a judge is for a switcher of kind mentorcollab"):
        train(random, labels, output, judge, selection)
    other = replace(
        team(models),
        candidates=tuple(Candidate(name, ModelSpec(models["writer"])) for name in ("a", "b")),
    )
    with pytest.raises(DataError, match="made with the candidates writer, mentor"):
        train(other, labels, output, judge)
    assert not output.exists()
    for traces, config in (("random", team(models)), ("on-policy", random)):
        with pytest.raises(UsageError, match="--cuts comparison is for a switcher that compares"):
            RolloutJob.of(
                config, [Vowels()], prefixes=1, allocation=Uniform(1), traces=traces,
                cut_at="comparison",
            )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture
def write_boundaries(labels: Path, tmp_path: Path) -> Path:
    """The same labels, as if they were of patch boundaries."""
    path = tmp_path / "boundaries.jsonl"
    lines = (json.loads(line) for line in labels.read_text().splitlines())
    path.write_text("".join(json.dumps(line | {"cuts": "boundary"}) + "\n" for line in lines))
    return path


def test_the_command_trains_it(
    invoke: Callable[..., tuple[int, str, str]], models: dict[str, str], labels: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "two.yaml"
    entries = "".join(
        f"  - {{name: {name}, model: {model}, prompt: '{{text}}'}}\n"
        for name, model in models.items()
    )
    path.write_text(f"candidates:\n{entries}switcher: {{kind: mentorcollab}}\n")
    options = ("--labels", labels, "--min-margin", "0.01", "--epochs", "2", "--layer", "1")
    made = tmp_path / "judge"
    words = ("train", "--team", path, "--switcher", "mentorcollab", *options, "--output", made)
    code, _, err = invoke(*words)
    assert code == 0, err
    assert json.loads((made / "judge.json").read_text())["layers"] == {"writer": [1]}
    assert "compare it with other methods" in err
