"""The bundled team with its LM switcher on four real vLLM servers, a model each: what it writes is
what the same team writes in this process, and how fast it is.

The last test writes its figures to the file that TAKETURNS_FIGURES names, for
`benchmarks/servers/validate.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from taketurns import Team
from taketurns.checkpoints.prompts import BEGINS, ENDS, QUESTION
from taketurns.checkpoints.text import TextCodec
from taketurns.config.loading import load_team_config
from taketurns.pocket.tasks import TASKS
from taketurns.runs.records import trace_from_json
from taketurns.types import Trace

from ..server.conftest import running
from .conftest import FLAGS, free_port, launched, program

SOURCE = Path(str(load_team_config("pocket").source)).parent / "switchers" / "lm"
NEAR = 0.02  # of log-probability: two tokens that are all but equal
AT_A_TIME = (1, 8, 32, 64)


@dataclass(frozen=True)
class Four:
    """The team file on servers, the same in this process, and the servers by model."""

    team: Path
    local: Path
    urls: Mapping[str, str]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Four]:
    program()
    folder = tmp_path_factory.mktemp("four")
    config = load_team_config(SOURCE)
    assert config.switcher.spec is not None
    specs = {one.name: one.spec for one in config.candidates} | {"switcher": config.switcher.spec}
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in specs}
    policy = {"patch_size": 16, "max_tokens": 96, "temperature": 0}

    def team(served: bool) -> dict[str, Any]:
        def place(name: str) -> dict[str, Any]:
            return {"urls": [urls[name]], "served_as": name} if served else {}

        candidates = []
        for one in config.candidates:
            entry: dict[str, Any] = {"name": one.name, "model": one.spec.model}
            if one.spec.prompt is not None:
                entry["prompt"] = one.spec.prompt
            candidates.append(entry | place(one.name))
        switcher = {"kind": "lm", "model": specs["switcher"].model} | place("switcher")
        engine = {"engine": {"kind": "http"}} if served else {}
        return {"candidates": candidates, "switcher": switcher, "policy": policy} | engine

    paths = {"team": folder / "team.yaml", "local": folder / "local.yaml"}
    for name, path in paths.items():
        path.write_text(yaml.safe_dump(team(name == "team")), encoding="utf-8")
    with launched(paths["team"], list(urls.values()), folder / "servers.log"):
        yield Four(paths["team"], paths["local"], urls)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taketurns", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def traces(path: Path) -> list[Trace]:
    return [trace_from_json(record) for record in records(path)]


def test_every_model_is_served_exactly(four: Four) -> None:
    told = json.loads(run("check", "--team", four.team, "--json").stdout)
    assert told["fits"]
    assert told["exact"]
    assert len(told["models"]) == 4


def test_greedy_answers_are_the_local_ones_but_for_near_ties(four: Four, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    asked = [query for task in TASKS.values() for query in task.queries("test")[:4]]
    lines = [json.dumps({"id": query.id, "text": query.text}) for query in asked]
    questions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("team", "local"):
        output = tmp_path / f"{name}.jsonl"
        greedy = ("--set", "policy.greedy_switcher=true", "--concurrency", "8")
        run("generate", "--team", getattr(four, name), "-i", questions, "-o", output, *greedy)
    pairs = list(
        zip(traces(tmp_path / "team.jsonl"), traces(tmp_path / "local.jsonl"), strict=True)
    )
    apart = [(a, b) for a, b in pairs if ids(a) != ids(b)]
    gaps = asyncio.run(near_ties(four.local, apart)) if apart else []
    print(f"\n{len(pairs) - len(apart)} of {len(pairs)} greedy answers are equal token for token;")
    print(f"where the others part, the two ways differ by {gaps} in log-probability")
    assert len(apart) < 0.1 * len(pairs)
    assert all(gap < NEAR for gap in gaps)


def ids(trace: Trace) -> list[tuple[int | None, tuple[int, ...]]]:
    return [(patch.speaker, patch.token_ids) for patch in trace.patches]


async def near_ties(local: Path, apart: list[tuple[Trace, Trace]]) -> list[float]:
    """How much more probable, here, what was written here is than what was written there."""
    async with Team.load(load_team_config(local)) as team:
        gaps = []
        for there, here in apart:
            index = next(
                i for i, (a, b) in enumerate(zip(ids(there), ids(here), strict=False)) if a != b
            )
            a, b = there.patches[index], here.patches[index]
            if a.speaker != b.speaker:
                first, second = sorted(b.probabilities or (), reverse=True)[:2]
                gaps.append(first - second)
                continue
            assert b.speaker is not None
            end = min((await team.engine.info(team.candidates[b.speaker].name)).end_token_ids)
            tokens = [(*a.token_ids, end), (*b.token_ids, end)]
            same = next(i for i, (x, y) in enumerate(zip(*tokens, strict=False)) if x != y)
            choices = [one[same] for one in tokens]
            draft = await team.draft(here.query)
            draft.resume([*here.patches[:index], replace(b, token_ids=b.token_ids[:same])])
            async with team.engine.session(0, 256) as session:
                name = team.candidates[b.speaker].name
                other, own = await session.score(name, draft.prompt(b.speaker), choices)
            gaps.append(own - other)
        return gaps


def test_rollouts_are_the_local_ones(four: Four, tmp_path: Path) -> None:
    for name in ("team", "local"):
        output = tmp_path / f"{name}.jsonl"
        run(
            "rollout",
            "--team",
            getattr(four, name),
            "--world",
            0,
            "--prefixes",
            6,
            "--k",
            2,
            "-o",
            output,
        )
    there, here = records(tmp_path / "team.jsonl"), records(tmp_path / "local.jsonl")
    same = sum(a["branches"] == b["branches"] for a, b in zip(there, here, strict=True))
    print(f"\n{same} of {len(here)} prefixes have equal branches")
    assert len(here) == 6
    assert same >= 5


def test_an_evaluation_finds_what_it_finds_here(four: Four, tmp_path: Path) -> None:
    methods = "pretrained,sft,aligned,switch,random,refine"
    for name in ("team", "local"):
        run(
            "evaluate", "--team", getattr(four, name), "--out", tmp_path / name, "--seeds", 1,
            "--tasks", "recall,arithmetic", "--limit", 4, "--dev-limit", 2, "--methods", methods,
            "--concurrency", 8,
        )  # fmt: skip
    answers = sorted(path.name for path in (tmp_path / "local" / "answers").glob("*.jsonl"))
    assert {f"{name}.jsonl" for name in methods.split(",")} <= set(answers)
    same = total = 0
    for name in answers:
        there, here = (
            {one["id"]: one for one in records(tmp_path / where / "answers" / name)}
            for where in ("team", "local")
        )
        assert there.keys() == here.keys()
        total += len(here)
        same += sum(there[key]["text"] == here[key]["text"] for key in here)
    print(f"\n{same} of {total} answers of {len(answers)} methods are equal")
    assert same >= 0.9 * total
    assert (tmp_path / "team" / "report.html").stat().st_size > 10_000


def test_the_served_team_streams_what_it_answers(four: Four) -> None:
    with running(Team.load(load_team_config(four.team))) as server:
        asked: Any = {
            "model": "team",
            "messages": [{"role": "user", "content": "what is 2 + 3 ?"}],
            "seed": 7,
        }
        whole = server.client().chat.completions.create(**asked)
        pieces = server.client().chat.completions.create(**asked, stream=True)
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert text
        assert text == whole.choices[0].message.content


def test_figures(four: Four) -> None:
    """Tokens a second, the share of prompt tokens found in caches as vLLM counts them, and what the
    simulation makes of the same answers with costs measured on one server alone."""
    from benchmarks.servers import calibrate, validate
    from benchmarks.servers import run as servers

    config = load_team_config(four.team, {"policy.temperature": 0.7})
    assert config.switcher.spec is not None
    codec = TextCodec.load(config.switcher.spec)
    load_before = os.getloadavg()[0]
    took = asyncio.run(calibrate.measure(four.urls["aligned"], "aligned", codec.size))
    limits = {"block": 32, "cache": 65_536, "sequences": 128, "budget": 2048, "chunked": False}

    async def measure() -> list[Any]:
        made = []
        before = cache_counts(four)
        async for one in servers.measure_all(config, at_a_time=AT_A_TIME):
            after = cache_counts(four)
            queries, hits = (b - a for a, b in zip(before, after, strict=True))
            made.append(
                asdict(one) | {"queries": queries, "hits": hits, "load": os.getloadavg()[0]}
            )
            print(f"{servers.line(one)} vLLM: {hits / queries:.0%}, load {os.getloadavg()[0]:.1f}")
            before = after
        return made

    print(f"\nload average {load_before:.1f}; {' '.join(FLAGS)}")
    figures = asyncio.run(measure())
    found = {
        "about": "the bundled team on four vLLM servers, two cores",
        "costs": took.costs("cpu") | limits,
        "wall": took.costs("wall") | limits,
        "cores": os.cpu_count(),
        "candidates": len(config.candidates),
        "tags": sum(len(codec.encode(tag.format(index=0))) for tag in (BEGINS, ENDS)),
        "question": len(codec.encode(QUESTION.format(last=len(config.candidates) - 1))),
        "load": load_before,
        "figures": figures,
    }
    found = json.loads(json.dumps(found))
    compared = list(validate.compare(found))
    for row in compared:
        print(validate.line(row))
    if path := os.environ.get("TAKETURNS_FIGURES"):
        Path(path).write_text(json.dumps(found) + "\n", encoding="utf-8")
    assert not any(one["faults"] for one in figures)
    for one, row in zip(figures, compared, strict=True):
        # What does not depend on how busy the machine is.
        assert one["hits"] / one["queries"] == pytest.approx(row.measured[3], abs=0.01)
        assert row.simulated[3] == pytest.approx(row.measured[3], abs=0.1)


def cache_counts(four: Four) -> tuple[float, float]:
    """Prompt tokens that the servers looked for in their prefix caches, and those they found."""
    told = "\n".join(httpx.get(f"{url}/metrics").text for url in four.urls.values())
    counts = [
        re.findall(rf"^vllm:prefix_cache_{what}_total{{[^}}]*}} (\S+)$", told, re.MULTILINE)
        for what in ("queries", "hits")
    ]
    assert all(len(found) == len(four.urls) for found in counts)
    queries, hits = (sum(map(float, found)) for found in counts)
    return queries, hits
