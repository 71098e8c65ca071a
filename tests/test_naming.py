"""A language model numbers its candidates; whose the numbers are is written, whatever the order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from recipes.pocket.recipe import CHECKPOINTS
from taketurns import Candidate, ConfigError, ModelSpec, Policy, ScriptedEngine, Team
from taketurns.checkpoints.prompts import digit_ids
from taketurns.config.loading import load_team_config
from taketurns.config.team_config import SwitcherConfig, TeamConfig
from taketurns.engines.scripted import scripted_codec
from taketurns.pocket import TASKS
from taketurns.switchers import candidate_order
from taketurns.switchers.base import Switcher
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.simple import SubsetSwitcher

SHARES = dict(zip(digit_ids(scripted_codec(), 3), (0.2, 0.1, 0.7), strict=True))
"""What the scripted switcher gives its numbers 0, 1 and 2."""


def scripted(names: str, switcher: Switcher) -> tuple[Team, ScriptedEngine]:
    """Candidates named by a letter, who write it."""

    def script(name: str):  # type: ignore[no-untyped-def]
        return lambda prompt, sampling: name * sampling.max_tokens

    engine = ScriptedEngine(
        {name: script(name) for name in names},
        scores={"s": lambda prompt, choices: [SHARES[token] for token in choices]},
    )
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in names]
    policy = Policy(patch_size=2, max_tokens=4, greedy_switcher=True)
    return Team(candidates, engine, switcher, policy), engine


@pytest.mark.parametrize("names", ["abc", "bca", "cab", "acb", "cba"])
def test_tags_and_digits_are_the_switchers_and_probabilities_the_teams(names: str) -> None:
    team, engine = scripted(names, LMSwitcher("s", candidates="bca"))  # b is 0, c is 1, a is 2
    trace = team.generate("Q?")
    assert trace.text == "aaaa"
    expected = {"b": 0.2, "c": 0.1, "a": 0.7}
    assert trace.patches[0].probabilities == pytest.approx([expected[name] for name in names])
    asked = [call.text for call in engine.calls if call.kind == "score"]
    assert asked[1].startswith("Q? <model 2 begins> aa <model 2 ends> Which model")


def test_where_nobody_says_whose_they_are_the_numbers_are_the_teams() -> None:
    for names in ("abc", "cab"):
        trace = scripted(names, LMSwitcher("s"))[0].generate("Q?")
        assert trace.text == 4 * names[2]


def test_a_part_of_the_pool_is_numbered_as_the_whole() -> None:
    team, _ = scripted("cab", SubsetSwitcher(LMSwitcher("s", candidates="bca"), {0, 2}))
    trace = team.generate("Q?")
    assert trace.patches[0].probabilities == pytest.approx((1 / 3, 0, 2 / 3))
    assert trace.text == "bbbb"


@pytest.mark.parametrize("names", ["abd", "ab", "abcd"])
async def test_another_pool_is_refused(names: str) -> None:
    team, engine = scripted(names, LMSwitcher("s", candidates="abc"))
    with pytest.raises(ConfigError, match="the switcher was trained for a, b, c, not for a, b"):
        await team.prepare()
    assert not engine.calls


# The bundled switcher


@pytest.fixture(scope="module")
def bundled() -> TeamConfig:
    source = load_team_config("pocket").source
    assert source is not None
    short = {"policy.greedy_switcher": True, "policy.max_tokens": 48, "policy.patch_size": 8}
    return load_team_config(source.parent / "switchers" / "lm", short)


def answers(config: TeamConfig) -> list[list[tuple[str, str]]]:
    """Who, by checkpoint, wrote what."""
    checkpoints = [Path(candidate.spec.model).name for candidate in config.candidates]
    with Team.load(config) as team:
        traces = team.generate(list(TASKS["age"].queries("test")[:4]))
    return [
        [(checkpoints[p.speaker], p.text) for p in trace.patches if p.speaker is not None]
        for trace in traces
    ]


def test_the_bundled_one_answers_alike_in_any_order(bundled: TeamConfig) -> None:
    """Fault: it asks for a number, and somebody else has it."""
    turned = replace(bundled, candidates=(*bundled.candidates[1:], bundled.candidates[0]))
    expected = answers(bundled)
    assert len({who for answer in expected for who, _ in answer}) > 1
    assert answers(turned) == expected
    by_number = replace(turned.switcher, candidates=tuple(c.name for c in turned.candidates))
    assert answers(replace(turned, switcher=by_number)) != expected


async def test_other_names_are_refused_until_the_team_file_says_who_they_are(
    bundled: TeamConfig,
) -> None:
    one, two, three = bundled.candidates
    renamed = replace(bundled, candidates=(replace(three, name="x"), replace(one, name="y"), two))
    team = Team.load(renamed)
    with pytest.raises(ConfigError) as refused:
        await team.prepare()
    assert str(refused.value) == (
        "the switcher was trained for pretrained, sft, aligned, not for x, y, sft; if they are the "
        "same candidates renamed, list them in switcher.candidates"
    )
    await team.aclose()
    told = replace(renamed.switcher, candidates=("y", "sft", "x"))
    async with Team.load(replace(renamed, switcher=told)) as team:
        await team.prepare()


def test_the_bundled_ones_answers_under_other_names(bundled: TeamConfig) -> None:
    one, two, three = bundled.candidates
    told = replace(
        bundled,
        candidates=(replace(three, name="x"), replace(one, name="y"), replace(two, name="z")),
        switcher=replace(bundled.switcher, candidates=("y", "z", "x")),
    )
    assert answers(told) == answers(bundled)


# Where it is written


def test_what_is_written_is_read_and_the_team_file_goes_before(tmp_path: Path) -> None:
    spec = ModelSpec(str(tmp_path))
    assert candidate_order.load(spec) == ()
    candidate_order.save(CHECKPOINTS, tmp_path)
    assert candidate_order.load(spec) == CHECKPOINTS
    assert candidate_order.resolve(SwitcherConfig("lm", spec)) == CHECKPOINTS
    assert candidate_order.resolve(SwitcherConfig("lm", spec, candidates=("b", "a"))) == ("b", "a")
    assert candidate_order.resolve(SwitcherConfig("lm", replace(spec, adapter="org/lora"))) == ()
    elsewhere = replace(spec, model="org/base", adapter=str(tmp_path))
    assert candidate_order.load(elsewhere) == CHECKPOINTS


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot read"),
        ("[]", "cannot read"),
        (
            '{"schema": "taketurns.head/1", "candidates": []}',
            "not .taketurns.lm-switcher/1.: it is not the file of",
        ),
        ('{"schema": "taketurns.lm-switcher/1"}', "cannot read"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    text: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / candidate_order.FILE).write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        candidate_order.load(ModelSpec(str(tmp_path)))


def test_a_switcher_from_the_hub_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--switcher"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    spec = ModelSpec("org/base", revision="elsewhere", adapter="org/switcher")
    assert candidate_order.load(spec) == ()
    candidate_order.save(("b", "a"), snapshot)
    assert (
        json.loads((snapshot / candidate_order.FILE).read_text())["schema"]
        == candidate_order.SCHEMA
    )
    assert candidate_order.load(spec) == ("b", "a")
