"""The team on real vLLM servers against the same team in this process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taketurns import Team
from taketurns.config.loading import load_team_config
from taketurns.engines.http.engine import HttpEngine
from taketurns.generation.team import SWITCHER
from taketurns.pocket.tasks import TASKS
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Sampling, Token

from ..server.conftest import running
from .conftest import Served

QUESTIONS = [query for task in TASKS.values() for query in task.queries("test")[:3]]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    lines = [json.dumps({"id": query.id, "text": query.text}) for query in QUESTIONS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taketurns", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_check_finds_everything_exact(served: Served) -> None:
    told = json.loads(run("check", "--team", served.team, "--json").stdout)
    assert told["fits"]
    assert told["exact"]
    assert {one["name"] for one in told["models"]} >= {"aligned", SWITCHER}
    for model in told["models"]:
        for server in model["servers"]:
            assert server["abilities"]["software"].startswith("vllm ")
            assert server["abilities"]["exact_scores"]
            assert server["abilities"]["context"] == 2048


@pytest.mark.parametrize("kind", ["", "adapted"])
def test_greedy_answers_are_the_local_ones(
    served: Served, questions: Path, tmp_path: Path, kind: str
) -> None:
    """Same speakers, same tokens; an answer may part only where two tokens were all but equal."""
    names = (kind or "team", f"{kind}_local".lstrip("_"))
    for name in names:
        team, output = getattr(served, name), tmp_path / f"{name}.jsonl"
        run("generate", "--team", team, "-i", questions, "-o", output, "--concurrency", 8)
    there, here = (records(tmp_path / f"{name}.jsonl") for name in names)
    assert [one["error"] for one in there if one["error"]] == []
    assert all(one["exact"] for one in there)
    same = [a["text"] == b["text"] for a, b in zip(there, here, strict=True)]
    print(f"{sum(same)} of {len(same)} answers are equal")
    assert sum(same) >= 0.9 * len(same)
    for a, b in zip(there, here, strict=True):
        if a["text"] == b["text"]:
            assert [p["token_ids"] for p in a["patches"]] == [p["token_ids"] for p in b["patches"]]
        first, second = a["patches"][0], b["patches"][0]
        assert first["probabilities"] == pytest.approx(second["probabilities"], abs=1e-3)


WORD = 47  # the colon's token
OPTIONS: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 1},
    "min_p": {"min_p": 1.0},
    "frequency": {"frequency_penalty": 1.5},
    "repetition": {"repetition_penalty": 1.4},
    "bias": {"logit_bias": {WORD: 6.0}, "frequency_penalty": 0.5},
    "long": {"min_tokens": 40},
    "endless": {"ignore_eos": True},
    "stop": {"stop_token_ids": [WORD], "logit_bias": {WORD: 3.0}},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_sampling_options_do_what_they_do_here(served: Served, name: str) -> None:
    """The same tokens as in this process, in answers of several patches. Those that only leave
    tokens out are tried with draws: so little is left that all draws are the greedy answer."""
    drawn = name in ("top_k", "min_p")
    policy = {"patch_size": 8, "max_tokens": 48, "sampling": OPTIONS[name]}
    policy |= {"temperature": 1.0, "speaker_top_p": 1.0} if drawn else {}
    told = []
    for file in (served.team, served.local):
        with Team.load(file, **policy) as team:
            asked = team.switched_by(FixedSwitcher(range(len(team.candidates))))
            traces = asked.generate([query.text or "" for query in QUESTIONS[::4]], seed=1)
        assert [trace.error for trace in traces if trace.error] == []
        told.append([[patch.token_ids for patch in trace.patches] for trace in traces])
    same = [there == here for there, here in zip(*told, strict=True)]
    print(f"{sum(same)} of {len(same)} answers are equal")
    assert sum(same) >= 0.8 * len(same)


async def test_scores_and_most_probable_tokens_are_right_beside_each_other(served: Served) -> None:
    """Requests to one server, which vLLM 0.32 mixes up in one batch."""
    texts = [query.text or "" for query in QUESTIONS]
    sampling = Sampling(16, 0.0, 1.0, logprobs=5)

    async def top(engine: Any, model: str, text: str) -> list[Token]:
        seen: list[Token] = []
        prompt = (await engine.info(model)).codec.encode(text, special=True)
        async with engine.session(1) as session:
            await session.generate(model, prompt, sampling, seen.append)
        return seen

    async def score(engine: Any, text: str) -> list[float]:
        prompt = (await engine.info(SWITCHER)).codec.encode(text, special=True)
        async with engine.session(1) as session:
            scores: list[float] = await session.score(SWITCHER, prompt, [3, 50, 400])
            return scores

    async with Team.load(served.team) as there, Team.load(served.local) as here:
        model = there.candidates[-1].name
        await asyncio.gather(there.prepare(), here.prepare())
        lists, scores = await asyncio.gather(
            asyncio.gather(*(top(there.engine, model, text) for text in texts)),
            asyncio.gather(*(score(there.engine, text) for text in texts)),
        )
        assert isinstance(there.engine, HttpEngine)
        assert not there.engine.counters(model).faults
        for text, tokens, found in zip(texts, lists, scores, strict=True):
            assert found == pytest.approx(await score(here.engine, text), abs=1e-3)
            assert all(len(token.top) == 5 for token in tokens)
            for token, truth in zip(tokens, await top(here.engine, model, text), strict=False):
                if token.id != truth.id:
                    break  # a near tie
                values = [value for _, value in truth.top]
                assert [value for _, value in token.top] == pytest.approx(values, abs=1e-3)


def test_rollouts_are_the_local_ones(served: Served, tmp_path: Path) -> None:
    for name in ("team", "local"):
        output = tmp_path / f"{name}.jsonl"
        options = ("--task", "recall", "--prefixes", 6, "--k", 2, "-o", output)
        run("rollout", "--team", getattr(served, name), *options)
    there, here = records(tmp_path / "team.jsonl"), records(tmp_path / "local.jsonl")
    assert len(there) == 6
    same = [a["branches"] == b["branches"] for a, b in zip(there, here, strict=True)]
    print(f"{sum(same)} of {len(same)} prefixes have equal branches")
    assert sum(same) >= 5


def test_the_served_team_answers_and_streams(served: Served) -> None:
    with running(Team.load(load_team_config(served.team))) as server:
        asked: Any = {
            "model": "team",
            "messages": [{"role": "user", "content": "what is 2 + 3 ?"}],
            "seed": 7,
        }
        whole = server.client().chat.completions.create(**asked)
        pieces = server.client().chat.completions.create(**asked, stream=True)
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert text == whole.choices[0].message.content
        assert text
