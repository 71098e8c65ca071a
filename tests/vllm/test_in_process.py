"""`engine.kind: vllm`: the bundled team in vLLM inside one process, in vLLM's own environment.

What that environment lacks of this package's needs (pytest, the extras) comes from this one, behind
vLLM's own packages.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import psutil
import pytest
import yaml

from taketurns.config.loading import load_team_config
from taketurns.pocket.tasks import TASKS

from .conftest import free_port, make_adapter, program
from .test_four import NEAR, ids, near_ties, records, traces

ROOT = Path(__file__).parents[2]
SITE = sysconfig.get_paths()["purelib"]
START = f"import sys; sys.path.append({SITE!r}); "
COMMAND = START + "from taketurns.cli import main; sys.argv[0] = 'taketurns'; main()"
SECONDS = 1200  # for a command, with the start of its engines
ENGINE = {
    "kind": "vllm",
    "memory": "256 MiB",
    "vllm": {"max_model_len": 1024, "enforce_eager": True, "max_num_seqs": 64},
}
IDLE = (
    "import asyncio\n"
    "from taketurns import Team\n"
    "async def run():\n"
    "    team = Team.load(sys.argv[1])\n"
    "    print('loading', flush=True)\n"
    "    await team.prepare()\n"
    "    print('ready', flush=True)\n"
    "    await asyncio.sleep(1000)\n"
    "asyncio.run(run())\n"
)


@dataclass(frozen=True)
class Teams:
    """A team in vLLM, and the same in transformers."""

    vllm: Path
    local: Path
    folder: Path


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Teams:
    program()
    folder = tmp_path_factory.mktemp("in-process")
    bundled = {one.name: one.spec for one in load_team_config("pocket").candidates}
    names = os.environ.get("TAKETURNS_VLLM_CANDIDATES", "pretrained,aligned").split(",")
    candidates: list[dict[str, Any]] = []
    for name in names:
        entry = {"name": name, "model": bundled[name].model}
        if bundled[name].prompt is not None:
            entry["prompt"] = bundled[name].prompt
        candidates.append(entry)
    content: dict[str, Any] = {
        "candidates": candidates,
        "switcher": {"kind": "lm", "model": bundled[names[-1]].model},
        "policy": {"patch_size": 16, "max_tokens": 96, "temperature": 0},
    }
    paths = {"vllm": folder / "vllm.yaml", "local": folder / "local.yaml"}
    paths["vllm"].write_text(yaml.safe_dump(content | {"engine": ENGINE}))
    paths["local"].write_text(yaml.safe_dump(content))
    return Teams(**paths, folder=folder)


def there(code: str, *arguments: object) -> list[str]:
    """A command of vLLM's python."""
    return [str(Path(program()).parent / "python"), "-c", code, *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **more}


def run(*command: str, **more: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, env=environment(**more), cwd=ROOT
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout


def here(*arguments: object) -> str:
    return run(sys.executable, "-m", "taketurns", *map(str, arguments))


def test_the_engine_beside_the_local_one(teams: Teams) -> None:
    """All of `inside`, in vLLM's environment."""
    aligned = load_team_config("pocket").candidates[-1].spec.model
    adapter = make_adapter(aligned, teams.folder / "adapter")
    tests = START + "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    options = ("-q", "-s", "-p", "no:cacheprovider", "-p", "no:warnings")
    told = run(
        *there(tests, *options, ROOT / "tests" / "vllm" / "inside"),
        TAKETURNS_INSIDE_VLLM="1",
        TAKETURNS_ADAPTER=adapter,
    )
    print(told)
    assert re.search(r"^\d+ passed in ", told, re.MULTILINE)


def test_check_says_what_is_wrong_before_anything_is_loaded(teams: Teams) -> None:
    told = json.loads(run(*there(COMMAND, "check", "--team", teams.vllm, "--json")))
    assert told["fits"]
    for argument, says in (
        ("max_model_length", "did you mean 'max_model_len'"),
        ("max_model_len", "vLLM cannot run"),
    ):
        team = yaml.safe_load(teams.vllm.read_text())
        team["engine"]["vllm"] = {argument: 1 << 20}
        path = teams.folder / "wrong.yaml"
        path.write_text(yaml.safe_dump(team))
        done = subprocess.run(
            there(COMMAND, "check", "--team", path),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=environment(),
            cwd=ROOT,
        )
        assert done.returncode == 1
        assert says in " ".join(done.stdout.split())


def test_greedy_answers_are_the_local_ones_but_for_near_ties(teams: Teams) -> None:
    questions = teams.folder / "questions.jsonl"
    asked = [query for task in TASKS.values() for query in task.queries("test")[:4]]
    lines = [json.dumps({"id": query.id, "text": query.text}) for query in asked]
    questions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    outputs = {name: teams.folder / f"{name}.jsonl" for name in ("vllm", "local")}
    greedy = ("--set", "policy.greedy_switcher=true")
    command = ("generate", "--input", questions, "--concurrency", 16, *greedy)
    run(*there(COMMAND, *command, "--team", teams.vllm, "--output", outputs["vllm"]))
    here(*command, "--team", teams.local, "--output", outputs["local"])
    written, expected = traces(outputs["vllm"]), traces(outputs["local"])
    assert [trace.error for trace in written if trace.error] == []
    assert all(trace.exact for trace in written)
    apart = [(a, b) for a, b in zip(written, expected, strict=True) if ids(a) != ids(b)]
    gaps = asyncio.run(near_ties(teams.local, apart)) if apart else []
    print(f"{len(asked) - len(apart)} of {len(asked)} answers are equal; gaps {gaps}")
    assert len(apart) <= 0.1 * len(asked)
    assert all(gap < NEAR for gap in gaps)


def test_a_killed_rollout_goes_on_and_has_the_local_branches(teams: Teams) -> None:
    killed, local = teams.folder / "killed.jsonl", teams.folder / "local-rollouts.jsonl"
    command = ("rollout", "--world", 0, "--prefixes", 6, "--k", 2)
    ours = there(COMMAND, *command, "-o", killed, "--concurrency", 2, "--team", teams.vllm)
    process = subprocess.Popen(ours, env=environment(), cwd=ROOT)
    until = monotonic() + SECONDS
    while not killed.exists() or not killed.read_bytes().count(b"\n"):
        assert process.poll() is None, "it finished before it could be killed"
        assert monotonic() < until
        sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    gone(children)
    assert killed.read_bytes().count(b"\n") < 6
    run(*ours)
    here(*command, "-o", local, "--team", teams.local)
    written, expected = records(killed), records(local)
    same = [a["branches"] == b["branches"] for a, b in zip(written, expected, strict=True)]
    print(f"{sum(same)} of {len(same)} prefixes have equal branches")
    assert len(same) == 6
    assert sum(same) >= 5


def test_an_evaluation_finds_what_it_finds_here(teams: Teams) -> None:
    methods = "pretrained,aligned,switch,random"
    folders = {name: teams.folder / f"{name}-evaluation" for name in ("vllm", "local")}
    command = (
        "evaluate", "--seeds", 1, "--tasks", "recall", "--limit", 3, "--dev-limit", 2,
        "--methods", methods, "--concurrency", 8, "--set", "policy.greedy_switcher=true",
    )  # fmt: skip
    run(*there(COMMAND, *command, "--team", teams.vllm, "--out", folders["vllm"]))
    here(*command, "--team", teams.local, "--out", folders["local"])
    same = total = 0
    for method in methods.split(","):
        written, expected = (
            {each["id"]: each for each in records(folder / "answers" / f"{method}.jsonl")}
            for folder in folders.values()
        )
        assert written.keys() == expected.keys()
        assert not [each for each in written.values() if each.get("error")]
        total += len(expected)
        same += sum(written[key]["text"] == expected[key]["text"] for key in expected)
    print(f"{same} of {total} answers are equal")
    assert total
    assert same >= 0.9 * total
    assert (folders["vllm"] / "report.html").stat().st_size > 10_000


def test_a_student_learns_from_the_answers_that_the_local_team_gives(teams: Teams) -> None:
    """Sampling and comparison in vLLM; the training between them is transformers' own."""
    folder = teams.folder / "student"
    command = (
        "distill", "--task", "recall", "--questions", 6, "--answers", 1, "--min-score", 0.01,
        "--epochs", 1, "--limit", 2, "--set", "policy.greedy_switcher=true",
    )  # fmt: skip
    run(*there(COMMAND, *command, "--team", teams.vllm, "-o", folder))
    answers = records(folder / "answers.jsonl")
    assert len(answers) == 6
    assert (folder / "student" / "model.safetensors").exists()
    assert {path.stem for path in (folder / "evaluation").glob("*.jsonl")} >= {
        "student", "aligned", "team",
    }  # fmt: skip
    questions, local = teams.folder / "learned.jsonl", teams.folder / "learned-local.jsonl"
    lines = [json.dumps({"id": each["id"], "text": each["query"]["text"]}) for each in answers]
    questions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    here(
        "generate", "--input", questions, "--team", teams.local, "--output", local,
        "--set", "policy.greedy_switcher=true",
    )  # fmt: skip
    same = [a["text"] == b["text"] for a, b in zip(answers, records(local), strict=True)]
    print(f"{sum(same)} of {len(same)} learned answers are equal")
    assert sum(same) >= 5


def test_a_team_is_served(teams: Teams) -> None:
    port = free_port()
    log = teams.folder / "serve.log"
    command = there(COMMAND, "serve", "--team", teams.vllm, "--port", port)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, env=environment(), cwd=ROOT)
    try:
        until = monotonic() + SECONDS
        url = f"http://127.0.0.1:{port}"
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert monotonic() < until, log.read_text()[-3000:]
            try:
                if httpx.get(f"{url}/health/ready", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                sleep(1)
        models = httpx.get(f"{url}/v1/models", timeout=20).json()["data"]
        body = {
            "model": models[0]["id"],
            "messages": [{"role": "user", "content": "what is 2 + 3 ?"}],
        }
        whole = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()
        assert "choices" in whole, whole
        text = whole["choices"][0]["message"]["content"]
        assert text
        pieces = []
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=body | {"stream": True}, timeout=120
        ) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    pieces += [one["delta"].get("content") or "" for one in choices]
        assert "".join(pieces) == text
        assert len(pieces) > 1
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
    gone(children)


@pytest.mark.parametrize("when", ["loading", "ready"])
def test_no_process_is_left_after_kill_9(teams: Teams, when: str) -> None:
    with started(teams.vllm, when) as process:
        parent = psutil.Process(process.pid)
        until = monotonic() + SECONDS
        while len(engines(parent)) < 2:
            assert monotonic() < until
            sleep(0.2)
        children = parent.children(recursive=True)
        process.kill()
        process.wait()
    gone(children)


def engines(parent: psutil.Process) -> list[psutil.Process]:
    """The engine processes that have begun."""
    children = parent.children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


@contextmanager
def started(team: Path, when: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a team, once it says `when`."""
    command = there(START + IDLE, team)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == when:
                break
        else:
            pytest.fail("it ended before it said so")
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def gone(children: list[psutil.Process]) -> None:
    """Raise unless all of them end: at once, or as soon as they have imported vLLM."""
    _, left = psutil.wait_procs(children, timeout=300)
    alive = [child for child in left if child.status() != psutil.STATUS_ZOMBIE]
    for child in alive:
        child.kill()
    assert not alive
