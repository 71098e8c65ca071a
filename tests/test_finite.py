"""A number that is none is refused where it comes from, and costs nothing that was finished."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import pytest
import torch

from taketurns import Candidate, ModelSpec, Policy, Query, ScriptedEngine, Team
from taketurns.config.policy import Guard
from taketurns.engines.base import Engine, Session
from taketurns.engines.yes_no import YesNo
from taketurns.errors import ConfigError, DataError, EngineError, NotANumberError, UsageError
from taketurns.evaluation.asking import AnswerRequest, answer
from taketurns.evaluation.stopwatch import Stopwatch
from taketurns.generation.guards import GuardJudge
from taketurns.runs.output import JsonlOutput
from taketurns.runs.records import decode_records, encode_record, json_safe, trace_to_json
from taketurns.runs.runner import run
from taketurns.switchers.base import Switcher
from taketurns.switchers.head import Head, HeadConfig, HeadSwitcher, Scale
from taketurns.switchers.lm import LMSwitcher
from taketurns.switchers.sampling import normalise
from taketurns.switchers.simple import FixedSwitcher, SubsetSwitcher
from taketurns.tasks.scorers.base import sound
from taketurns.tasks.scorers.compliance import Judged
from taketurns.tasks.scorers.reward import Reward
from taketurns.training.labels.labels import Label, read_labels
from taketurns.training.policy_gradient.settings import PolicyGradientConfig
from taketurns.training.supervised.settings import Selection, TrainingConfig
from taketurns.types import Score
from taketurns.utils.finite import probabilities
from taketurns.utils.json_files import parse_json

NAMES = ("a", "b")
BAD = [nan, inf, -inf]


def forever(letter: str) -> Callable[..., str]:
    return lambda prompt, sampling: letter * sampling.max_tokens


def team(
    switcher: Switcher,
    policy: Policy | None = None,
    scripts: dict[str, Any] | None = None,
    **options: Any,
) -> Team:
    scripts = scripts or {name: forever(name) for name in NAMES}
    candidates = [Candidate(name, ModelSpec(name, prompt="{text}")) for name in NAMES]
    engine = ScriptedEngine(scripts, **options)
    return Team(candidates, engine, switcher, policy or Policy(patch_size=4, max_tokens=12))


class Says:
    """A switcher that a user wrote: it is sure of the first candidate, then it says `wrong`."""

    def __init__(self, *wrong: float) -> None:
        self._wrong = wrong

    async def prepare(self, engine: Engine, candidates: Any) -> None:
        """Nothing to do."""

    def begin(self, query: Query, policy: Policy) -> Any:
        async def decide(session: Session, draft: Any) -> tuple[float, ...]:
            return self._wrong if draft.patches else (1.0, 0.0)

        return decide


# Switchers


@pytest.mark.parametrize("wrong", [(nan, 0.5), (0.5, inf), (0.0, 0.0), (1.5, -0.5)])
@pytest.mark.parametrize("greedy", [False, True])
def test_an_answer_whose_switcher_gives_no_distribution_keeps_what_is_written(
    wrong: tuple[float, ...], greedy: bool
) -> None:
    policy = Policy(patch_size=4, max_tokens=12, greedy_switcher=greedy)
    trace = team(Says(*wrong), policy).generate("Q")
    assert trace.text == "aaaa"
    assert trace.error is not None
    assert trace.error.startswith("the switcher gave ")
    encode_record(trace_to_json(trace, NAMES))


@pytest.mark.parametrize("scores", [[nan, 0.5], [0.5, inf], [0.0, 0.0]])
def test_a_language_model_switcher_that_scores_no_numbers_ends_the_answer(
    scores: list[float],
) -> None:
    made = team(LMSwitcher("s"), scores={"s": lambda text, choices: scores})
    trace = made.generate("Q")
    assert trace.error is not None
    assert "s gave " in trace.error
    encode_record(trace_to_json(trace, NAMES))


def test_weights_that_are_no_numbers_are_not_normalised() -> None:
    for wrong in ([nan, 1.0], [0.0, 0.0], [inf, 1.0], [-1.0, 2.0]):
        with pytest.raises(NotANumberError, match="the switcher gave"):
            normalise(wrong)
    with pytest.raises(NotANumberError, match="x gave nan as a log-probability"):
        probabilities([-1.0, nan], "x")
    with pytest.raises(NotANumberError, match="x gave each of its 2 choices a probability of 0"):
        probabilities([-inf, -inf], "x")
    assert probabilities([-inf, -5.0], "x") == (0.0, 1.0)


async def test_a_part_of_a_switcher_hands_on_no_nan() -> None:
    trace = await team(SubsetSwitcher(Says(nan, 0.5), [0, 1])).agenerate("Q")
    assert trace.error == "the switcher gave nan as a probability"


# Heads


def head(deviation: float = 1.0, weight: float = 1.0, bias: float = 0.0) -> Head:
    config = HeadConfig("speaker", NAMES, "a", dict.fromkeys(NAMES, (1,)))
    scales = {
        name: Scale(torch.zeros(2), torch.full((2,), deviation), torch.full((2, 2), weight))
        for name in NAMES
    }
    return Head(config, scales, torch.full((3, 2), bias))


@pytest.mark.parametrize("spoiled", [{"weight": nan}, {"bias": inf}, {"deviation": nan}])
def test_a_head_with_no_numbers_is_not_loaded(tmp_path: Path, spoiled: dict[str, float]) -> None:
    head(**spoiled).save(tmp_path)
    with pytest.raises(ConfigError, match=f"weights in {tmp_path} hold NaN or infinity in "):
        Head.load(str(tmp_path))
    head(deviation=0.0).save(tmp_path)
    with pytest.raises(ConfigError, match=r"hold a value of 0 or less in ..deviation"):
        Head.load(str(tmp_path))


@pytest.mark.parametrize("state", [nan, inf])
def test_states_that_are_no_numbers_end_the_answer(state: float) -> None:
    states = {name: lambda text: [state if len(text) > 3 else 1.0, 2.0] for name in NAMES}
    trace = team(HeadSwitcher(head()), states=states).generate("Q")
    assert trace.text in ("aaaa", "bbbb")
    assert trace.error == f"{trace.text[0]} gave NaN or infinity in its hidden states"


def test_a_head_that_overflows_ends_the_answer() -> None:
    states = {name: lambda text: [1e30, 1e30] for name in NAMES}
    trace = team(HeadSwitcher(head(weight=1e30)), states=states).generate("Q")
    assert trace.error == "the head gave NaN or infinity for the states of a"


# Candidates


def test_another_candidate_stands_in_for_one_that_computes_no_number() -> None:
    scripts = {"a": forever("a"), "b": [[66, 66, nan], "bbbb"]}
    made = team(FixedSwitcher([0, 1]), scripts=scripts)
    trace = made.generate("Q")
    assert trace.error is None
    assert [(p.text, p.speaker, p.reason, p.finish) for p in trace.patches] == [
        ("aaaa", 0, "chosen", "length"),
        ("aaaa", 0, "fallback", "length"),
        ("aaaa", 0, "chosen", "length"),
    ]


def test_what_it_had_given_out_is_a_patch_of_its_own() -> None:
    scripts = {"a": forever("a"), "b": [[66, 66, nan]]}
    made = team(FixedSwitcher([0, 1]), scripts=scripts)
    events: list[Any] = []

    async def watched() -> None:
        events.extend([event async for event in made.stream("Q")])

    asyncio.run(watched())
    trace = events[-1]
    assert trace.error is None
    assert trace.text.startswith("aaaaccaaaa")
    assert [p.finish for p in trace.patches][:2] == ["length", "error"]


def test_alone_it_fails_and_says_so() -> None:
    made = team(FixedSwitcher([0]), scripts={"a": ["aaaa", [65, nan]], "b": forever("b")})
    trace = made.alone("a").generate("Q")
    assert trace.error is None  # its first reply is the whole answer
    made = team(FixedSwitcher([0]), scripts={"a": [[65, nan]], "b": forever("b")})
    trace = made.alone("a").generate("Q")
    assert trace.error == "a gave nan as the next token"


async def test_the_scripted_engine_fails_like_any_other() -> None:
    engine = ScriptedEngine(
        {"a": "x"},
        scores={"a": [nan, 0.5]},
        entropies={"a": lambda text: nan},
        states={"a": lambda text: [inf]},
    )
    async with engine.session(0) as session:
        with pytest.raises(NotANumberError, match="a gave nan as a probability"):
            await session.score("a", [65], [1, 2])
        with pytest.raises(NotANumberError, match="a gave NaN or infinity in its hidden states"):
            await session.hidden("a", [65], (1,))


# Judges


async def test_a_judge_that_gives_no_number_is_none() -> None:
    engine = ScriptedEngine({"a": forever("a")}, scores={"j": [nan] * 8})
    candidate = Candidate("j", ModelSpec("j", prompt="{text}"))
    guard = Guard(judge="j", to=0)
    judge = await GuardJudge.prepared(candidate, engine)
    async with engine.session(0) as session:
        with pytest.raises(EngineError, match="the guard's judge j gave NaN or infinity"):
            await judge.finds_fault(session, guard, "Q", "A")
    tokens = YesNo((1,), (2,))
    with pytest.raises(NotANumberError, match="the judge gave nan"):
        tokens.share([nan, -1.0])
    assert tokens.share([-inf, -inf]) is None
    assert tokens.share([-2000.0, -2000.0]) == 0.5  # each is possible, however little


def test_an_answer_that_its_judge_gave_no_number_for_has_no_score() -> None:
    engine = ScriptedEngine({"a": "x"}, scores={"j": lambda text, ids: [nan] * len(ids)})
    score = Judged(engine, "j", ModelSpec("j", prompt="{text}")).score(Query("q", text="Q"), "A")
    assert (score.value, score.why) == (None, "j gave nan as a probability")


@pytest.mark.parametrize("raw", BAD)
def test_a_reward_that_is_no_number_is_no_score(
    raw: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reader:
        context = 10

        def encode(self, query: Query, answer: str) -> list[int]:
            return [1]

        def rewards(self, rows: Any) -> list[float]:
            return [raw, 1.0]

    scorer = Reward("m")
    vars(scorer)["_reader"] = Reader()
    bad, good = scorer.score_many([(Query("q", text="Q"), "A"), (Query("r", text="Q"), "B")])
    assert (bad.value, bad.raw) == (None, None)
    assert bad.why == f"the reward model gave {raw}, which is not a number"
    assert good.raw == 1.0


# Files


RECORD = {
    "schema": "taketurns.rollouts/1",
    "id": "r",
    "task": "t",
    "query": {"id": "q", "text": "Q"},
    "candidates": list(NAMES),
    "prefix": [],
}


@pytest.mark.parametrize("wrong", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_labels_with_no_numbers_are_refused_by_their_line(tmp_path: Path, wrong: str) -> None:
    def line(name: str, utility: str) -> str:
        branches = ", ".join(
            f'{{"speaker": {who}, "utilities": [{u}]}}' for who, u in enumerate(("0.5", utility))
        )
        return json.dumps({**RECORD, "id": name})[:-1] + f', "branches": [{branches}]}}\n'

    path = tmp_path / "labels.jsonl"
    path.write_text(line("r", "1.0") + line("s", wrong))
    with pytest.raises(DataError, match=r"labels\.jsonl:2: "):
        list(read_labels(path, NAMES))
    with pytest.raises(ValueError, match="NaN or infinite"):
        Label("x", Query("q", text="Q"), (), (nan, 0.5), (1, 1))


def test_records_with_no_numbers_are_refused_by_their_line() -> None:
    lines = [b'{"id": "a", "score": 1.0}\n', b'{"id": "b", "score": NaN}\n']
    with pytest.raises(DataError, match="answers:2: not a record: not JSON: NaN is not a number"):
        list(decode_records(lines, "answers"))
    with pytest.raises(ValueError, match="the number 1e999 is too large"):
        parse_json("[1e999]")


def test_a_finished_record_is_kept_whatever_number_is_in_it(tmp_path: Path) -> None:
    async def work(item: str) -> dict[str, Any]:
        return {"id": item, "text": "a whole answer", "patches": [{"p": [0.5, nan]}], "error": None}

    path = tmp_path / "out.jsonl"
    with JsonlOutput(path) as output:
        failures = asyncio.run(run(["x"], work, output, key=str))
    (record,) = map(parse_json, path.read_text().splitlines())
    assert record["text"] == "a whole answer"
    assert record["patches"] == [{"p": [0.5, None]}]
    assert record["error"] == "nan in patches[0].p[1] is not a finite number"
    assert failures.count == 1
    assert json_safe({"id": "x", "score": 0.5}) == {"id": "x", "score": 0.5}


@dataclass(frozen=True)
class Odd:
    """A task whose scorer gives `value`."""

    value: float
    name: str = "odd"
    category: str = "c"

    def queries(self, split: str) -> tuple[Query, ...]:
        return (Query("q", text="Q"),)

    def score(self, query: Query, text: str) -> Score:
        return Score(self.value, text, raw=nan)


@pytest.mark.parametrize("value", BAD)
async def test_an_answer_is_not_lost_over_its_score(value: float) -> None:
    made = team(FixedSwitcher([0]))
    item = AnswerRequest(Odd(value), Query("q", text="Q"), 0)

    async def ask(task: Any, query: Query, seed: int) -> Any:
        return await made.agenerate(query, seed=seed)

    record = await answer(ask, item, 0, NAMES, Stopwatch())
    assert record["text"] == "a" * 12
    assert record["score"] is None
    assert record["why"] == f"the scorer gave {value}, not a number"
    encode_record(record)
    assert sound(Score(0.5, raw=value, confidence=value)) == Score(0.5)


# Settings


@pytest.mark.parametrize("value", [nan, inf])
def test_settings_are_numbers(value: float) -> None:
    for make in (
        lambda: TrainingConfig(learning_rate=value),
        lambda: TrainingConfig(weight_decay=value),
        lambda: Selection(temperature=value),
        lambda: PolicyGradientConfig(learning_rate=value),
        lambda: PolicyGradientConfig(kl=value),
        lambda: PolicyGradientConfig(switch_cost=value),
        lambda: PolicyGradientConfig(prices={"a": value}),
    ):
        with pytest.raises(UsageError, match="must be"):
            make()
    assert isfinite(replace(TrainingConfig(), learning_rate=1e-3).learning_rate or nan)
