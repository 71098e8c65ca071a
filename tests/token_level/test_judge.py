"""MentorCollab's trained judge: real models held against plain forwards, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns import Candidate, ConfigError, ModelSpec, Policy, Query, ScriptedEngine, Team
from taketurns.config.loading import load_team_config
from taketurns.config.pair_rules import MentorRule
from taketurns.generation.check.roles import describe_switcher
from taketurns.switchers.head import HeadConfig
from taketurns.switchers.judge import Judge, PatchValue
from taketurns.switchers.mentor import MentorSwitcher
from taketurns.utils.seeds import derive
from tests.token_level import teams
from tests.token_level.reference import mentored, plain
from tests.token_level.teams import tokens

QUESTIONS = ("the street", "at noon, ", "it is her", "red house. ")
NAMES = ("base", "aligned")
TOKENS, LOOKAHEAD, RATE, SIZE, WIDTH = 24, 3, 0.5, 64, 5


def judge(names: Sequence[str] = NAMES, size: int = SIZE, layers: Sequence[int] = (-1,)) -> Judge:
    """Any judge that reads the last layer of the first candidate."""
    torch.manual_seed(5)
    value = PatchValue(
        torch.randn(WIDTH, size), torch.randn(WIDTH), torch.randn(WIDTH), torch.tensor([0.3, -0.1])
    )
    config = HeadConfig("candidate", tuple(names), names[0], {names[0]: tuple(layers)})
    return Judge(config, torch.randn(size), torch.rand(size) + 0.5, value)


def made(models: Mapping[str, str], rule: MentorRule, **changes: Any) -> Team:
    settings = {"max_tokens": TOKENS, "patch_size": TOKENS, **changes}
    return teams.made(models, MentorSwitcher(rule, judge()), **settings)


def test_an_answer_is_that_of_plain_forwards(pair: dict[str, str], letters: Any) -> None:
    """Token by token, who wrote which, with the judge's probabilities by hand; and the same in a
    batch, alone, and with the candidates in the other order."""
    from transformers import AutoModelForCausalLM

    writer = AutoModelForCausalLM.from_pretrained(pair["base"]).eval()
    models, known = (plain(pair["base"]), plain(pair["aligned"])), judge()
    judged: list[float] = []

    @torch.inference_mode()
    def value(ids: Sequence[int]) -> float:
        read = [token for token in ids if token != letters.eos_token_id]
        last = writer(torch.tensor([read]), output_hidden_states=True).hidden_states[-1][0, -1]
        scaled = (last - known.mean) / known.deviation
        units = [max(0.0, float(row @ scaled + b)) for row, b in zip(
            known.value.weight, known.value.bias, strict=True)]  # fmt: skip
        return sum(u * float(o) for u, o in zip(units, known.value.output, strict=True))

    def prefers_mentor(text: Any, own: list[int], mentors: list[int]) -> bool:
        ahead = value([*text, *mentors]) - 0.1 - value([*text, *own]) - 0.3
        judged.append(1 / (1 + exp(-ahead)))
        return ahead > 0

    other_way = made(dict(reversed(pair.items())), MentorRule(RATE, LOOKAHEAD, base=1))
    with made(pair, MentorRule(RATE, LOOKAHEAD)) as team, other_way:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        for query, trace in zip(queries, team.generate(queries), strict=True):
            prompt = letters.encode(query.text, add_special_tokens=False)

            def sampled(written: int, identifier: str = query.id) -> bool:
                return derive(0, identifier, "mentor", written) < RATE * 2**63

            before = len(judged)
            expected = mentored(
                models, prompt, sampled, prefers_mentor, LOOKAHEAD, TOKENS, letters.eos_token_id
            )
            assert tokens(trace) == expected
            assert tokens(team.generate(query)) == expected
            swapped = other_way.generate(query)
            assert [(1 - (who or 0), token) for who, token in tokens(swapped)] == expected
            compared = [p.probabilities[1] for p in trace.patches if p.probabilities not in (
                None, (1.0, 0.0))]  # type: ignore[index]  # fmt: skip
            assert compared == pytest.approx(judged[before:], abs=1e-3)
    assert min(judged) < 0.5 < max(judged), "a judge with one answer shows nothing"


def test_the_writer_reads_no_patch_twice(
    pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its own patch it reads the last token, of the mentor's all; nothing is asked."""
    from taketurns.engines.local.engine import LocalSession

    read: list[int] = []
    hidden = LocalSession.hidden

    async def counted(self: Any, model: str, *arguments: Any) -> Any:
        before = self.engine.counters(model).encoded_tokens
        states = await hidden(self, model, *arguments)
        read.append(self.engine.counters(model).encoded_tokens - before)
        return states

    async def no_more(self: Any, *arguments: Any) -> Any:
        raise AssertionError("the writer is asked")

    monkeypatch.setattr(LocalSession, "hidden", counted)
    monkeypatch.setattr(LocalSession, "score", no_more)
    with made(pair, MentorRule(1.0, LOOKAHEAD)) as team:
        trace = team.generate("the street")
    assert trace.error is None
    assert read
    assert read[:4] == [1, LOOKAHEAD] * 2


def test_words_are_judged_between_two_tokenizers(unlike_pair: dict[str, str]) -> None:
    rule = MentorRule(1.0, LOOKAHEAD)
    with made(unlike_pair, rule, temperature=1.0, speaker_top_p=1.0) as team:
        queries = [Query(str(i), text=text) for i, text in enumerate(QUESTIONS)]
        traces = team.generate(queries, seed=3)
        assert {patch.speaker for trace in traces for patch in trace.patches} == {0, 1}
        for query, trace in zip(queries, traces, strict=True):
            assert tokens(team.generate(query, seed=3)) == tokens(trace)


def test_a_judge_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = judge()
    known.save(tmp_path)
    again = Judge.load(str(tmp_path))
    assert again.config == known.config
    states = torch.randn(7, 2, SIZE)
    assert torch.equal(again.logits(states), known.logits(states))
    turned = known.ordered(NAMES[::-1])
    torch.testing.assert_close(turned.logits(states.flip(1)), known.logits(states).flip(1))
    assert known.numbers == again.numbers == 2 * SIZE + WIDTH * (SIZE + 2) + 2


def scripted(
    switcher: MentorSwitcher, names: Sequence[str] = NAMES, deep: bool = True
) -> tuple[Team, ScriptedEngine]:
    states = {names[0]: lambda text: [float(text.count("!"))]} if deep else None
    engine = ScriptedEngine(
        {
            names[0]: lambda prompt, sampling: "It is."[len(prompt) - 1 :],
            names[1]: lambda prompt, sampling: "It was!"[len(prompt) - 1 :],
        },
        states=states,
    )
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in names]
    return Team(candidates, engine, switcher, Policy(max_tokens=20, patch_size=20)), engine


def test_what_cannot_be_is_refused_before_anything_runs(
    pair: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taketurns.engines.local.engine import LocalEngine

    known, no = judge(size=1), str(tmp_path / "no")
    for names, switcher, deep, message in (
        (("base", "other"), MentorSwitcher(judge=known), True, "judge was trained for base, align"),
        (NAMES, MentorSwitcher(judge=known), False, "the engine of base does not give: use engine"),
        (NAMES, MentorSwitcher(MentorRule(base=1), known), True, "set switcher.base to base, or"),
        (NAMES, MentorSwitcher(judge=no), True, "cannot load the judge"),
    ):
        team, engine = scripted(switcher, names, deep)
        with pytest.raises(ConfigError, match=message):
            team.generate("?")
        assert engine.calls == []

    async def load(self: Any, model: str) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(LocalEngine, "load", load)
    for wrong in (judge(size=32), judge(layers=(-1, -2))):
        team = teams.made(pair, MentorSwitcher(judge=wrong))
        with team, pytest.raises(ConfigError, match=r"judge expects (32|64) state values of base"):
            team.generate("the")


def test_an_engine_that_does_not_know_its_size_is_refused_at_the_first_comparison() -> None:
    team, _ = scripted(MentorSwitcher(MentorRule(1.0, 3), judge(size=2)))
    with pytest.raises(ConfigError, match="expects 2 state values of base"):
        team.generate("?")


@pytest.fixture
def team_file(pair: dict[str, str], tmp_path: Path) -> Callable[..., Path]:
    def write(switcher: str) -> Path:
        path = tmp_path / "team.yaml"
        entries = "".join(
            f"  - {{name: {name}, model: {model}, prompt: '{{text}}'}}\n"
            for name, model in pair.items()
        )
        path.write_text(
            f"candidates:\n{entries}switcher: {{{switcher}}}\npolicy: {{max_tokens: 9}}"
        )
        return path

    return write


def test_a_team_file_names_the_judge(team_file: Callable[..., Path], tmp_path: Path) -> None:
    from taketurns.runs.description import describe_run

    folder = tmp_path / "judge"
    folder.mkdir()
    judge().save(folder)
    path = team_file("kind: mentorcollab, path: ./judge, rate: 1.0, lookahead: 2")
    config = load_team_config(path)
    assert (config.switcher.path, config.switcher.pair) == (str(folder), MentorRule(1.0, 2))
    assert "base as the writer and a network of 460 numbers on its" in describe_switcher(config)
    with Team.load(path) as team:
        assert {patch.name for patch in team.generate("the street").patches} <= set(NAMES)
    before = describe_run("generate", config, b"")
    (folder / "other.txt").write_text("not part of it")
    assert describe_run("generate", config, b"").inputs == before.inputs
    changed = judge(layers=(1,))
    changed.save(folder)
    assert describe_run("generate", config, b"").inputs != before.inputs
    with pytest.raises(ConfigError, match="there is no judge at"):
        load_team_config(team_file("kind: mentorcollab, path: ./gone"))
    assert load_team_config(team_file("kind: mentorcollab")).switcher.path is None
