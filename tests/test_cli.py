"""The command line as a person uses it: what is said, what is written, and the exit code."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taketurns import __version__
from taketurns.cli import app, options
from taketurns.engines.scripted import ScriptedEngine
from taketurns.errors import EngineError
from taketurns.generation.team import Team
from taketurns.pocket import TASKS
from taketurns.runs import progress
from taketurns.runs.manifest import path_for
from taketurns.switchers.simple import FixedSwitcher
from taketurns.types import Query

Invoke = Callable[..., tuple[int, str, str]]

TEAM = "candidates: [{name: base, model: org/base}, {name: chat, model: org/chat}]\n"


def sentence(err: str) -> str:
    """What was said, which must be one line."""
    said = [line for line in err.splitlines() if line.startswith("taketurns: ")]
    assert len(said) == 1, err
    return said[0].removeprefix("taketurns: ")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "".join(json.dumps({"id": str(i), "text": f"say {i}"}) + "\n" for i in range(6))
    )
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """A team file whose models are scripted; arguments are those of ScriptedEngine."""

    def make(**settings: object) -> Path:
        def load(config: object) -> Team:
            engine = ScriptedEngine({"base": ["Good"], "chat": [" day"]}, **settings)  # type: ignore[arg-type]
            return Team(config.candidates, engine, FixedSwitcher([0, 1]), config.policy)  # type: ignore[attr-defined]

        monkeypatch.setattr(Team, "load", load)
        path = tmp_path / "team.yaml"
        path.write_text(TEAM + "policy: {patch_size: 4}\n")
        return path

    return make


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_help_is_quick_and_names_every_command() -> None:
    script = Path(sys.executable).parent / "taketurns"
    subprocess.run([script, "--help"], check=True, capture_output=True)
    before = os.times()
    done = subprocess.run([script, "--help"], check=True, capture_output=True, text=True)
    after = os.times()
    # Of computing, whatever else the machine does; half a second is usual.
    assert after.children_user + after.children_system < 2 + sum(before[2:4])
    assert all(name in done.stdout for name in ("generate", "chat", "check", "pocket"))


def test_the_version_and_completion(invoke: Invoke) -> None:
    assert invoke("--version") == (0, f"taketurns {__version__}\n", "")
    assert "--install-completion" in " ".join(invoke("--help")[1].split())


@pytest.mark.parametrize(
    ("command", "new"),
    [
        ("bench overhead --quick", "make bench, or python -m benchmarks.overhead"),
        ("bench --help", "make bench, or python -m benchmarks.overhead"),
        ("pocket build --out x --seed 1", "python -m recipes.pocket"),
    ],
)
def test_a_command_that_has_left_names_the_new_one(invoke: Invoke, command: str, new: str) -> None:
    code, out, err = invoke(*command.split())
    assert (code, out) == (2, "")
    assert sentence(err).endswith(f" has moved: in the repository of taketurns, run {new}")


def test_generate_writes_a_record_a_prompt(invoke: Invoke, scripted, prompts: Path) -> None:
    output = prompts.with_name("out.jsonl")
    code, out, err = invoke("generate", "-t", scripted(), "-i", prompts, "-o", output)
    assert (code, out) == (0, "")
    assert sentence(err) == (
        f"wrote 6 answers to {output}; next, score them: taketurns score --task TASK --answers "
        f"{output}, where TASK asks the same questions (docs/tasks.md)"
    )
    assert [record["id"] for record in records(output)] == list("012345")
    assert records(output)[0]["text"] == "Good day"
    assert [patch["name"] for patch in records(output)[0]["patches"]] == ["base", "chat", "base"]
    manifest = json.loads(path_for(output).read_text())
    assert manifest["about"]["input"] == str(prompts)


def test_generate_between_pipes(invoke: Invoke, scripted) -> None:
    arguments = ("generate", "-t", scripted(), "-i", "-", "-o", "-", "--limit", 1)
    stdin = b'{"id": "x", "text": "hi"}\n{"id": "y", "text": "hi"}\n'
    code, out, err = invoke(*arguments, stdin=stdin)
    assert (code, err) == (0, "")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["x"]


def test_settings_reach_the_policy(invoke: Invoke, scripted, prompts: Path) -> None:
    output = prompts.with_name("out.jsonl")
    invoke(
        *("generate", "-t", scripted(), "-i", prompts, "-o", output, "--limit", 1),
        *("--set", "policy.max_tokens=2", "--seed", 5),
    )
    assert records(output)[0]["text"] == "Go"
    assert records(output)[0]["seed"] == 5


def test_a_failed_prompt_is_recorded_and_tried_again(
    invoke: Invoke, scripted, prompts: Path
) -> None:
    output = prompts.with_name("out.jsonl")
    command = ("generate", "-i", prompts, "-o", output, "--concurrency", 1)
    team = scripted(failures={4: EngineError("the server is gone")})
    code, _, err = invoke(*command, "-t", team)
    assert code == 1
    assert sentence(err) == (
        "1 of 6 prompts failed, first: the server is gone; the same command tries them again"
    )
    assert records(output)[1]["error"] == "the server is gone"
    assert records(output)[1]["text"] == "Good"  # what was written is kept
    code, _, _ = invoke(*command, "-t", scripted())
    assert code == 0
    assert [record["id"] for record in records(output)] == list("012345")
    assert all(record["error"] is None for record in records(output))


def test_bad_lines_are_reported_and_the_others_done(
    invoke: Invoke, scripted, prompts: Path
) -> None:
    output = prompts.with_name("out.jsonl")
    prompts.write_bytes(
        b'\xff\n{"id": "1", "text": "x"}\n{"id": \n{"id": "9", "text": "z", "score": 1e999}\n'
        b'{"id": "2", "text": "y"}\n'
    )
    code, _, err = invoke("generate", "-t", scripted(), "-i", prompts, "-o", output)
    assert code == 1
    assert f"{prompts}:1: not UTF-8" in err
    assert f"{prompts}:3: not JSON" in err
    assert f"{prompts}:4: the number 1e999 is too large" in err
    assert [record["id"] for record in records(output)] == ["1", "2"]


def test_only_lines_that_are_read_can_be_bad(invoke: Invoke, scripted, prompts: Path) -> None:
    output = prompts.with_name("out.jsonl")
    prompts.write_bytes(b'{"id": "1", "text": "x"}\n{"id": "2", "text": "y"}\n\xff\n')
    command = ("generate", "-t", scripted(), "-i", prompts, "-o", output)
    code, out, err = invoke(*command, "--limit", 2)
    assert (code, out) == (0, "")
    assert sentence(err).startswith(f"wrote 2 answers to {output}; ")
    assert invoke(*command, "--limit", 3)[0] == 1
    assert [record["id"] for record in records(output)] == ["1", "2"]


def test_ctrl_c_leaves_a_file_that_can_be_resumed(
    invoke: Invoke, scripted, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = prompts.with_name("out.jsonl")
    command = ("generate", "-i", prompts, "-o", output, "--concurrency", 1)
    write, written = asyncio.sleep, 0

    async def interrupted_sleep(seconds: float) -> None:
        nonlocal written
        written += 1
        if written == 20:
            os.kill(os.getpid(), signal.SIGINT)
        await write(seconds)

    # A background shell starts its jobs with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", interrupted_sleep)
            code, _, err = invoke(*command, "-t", scripted())
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert sentence(err) == "interrupted; the same command continues from here"
    assert 0 < len(records(output)) < 6
    code, _, _ = invoke(*command, "-t", scripted())
    assert code == 0
    assert [record["id"] for record in records(output)] == list("012345")


def test_checking_many_prompts_shows_that_it_goes_on_and_can_be_stopped(
    invoke: Invoke, scripted, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, checked = scripted(), 0
    command = ("generate", "-t", team, "-i", prompts, "-o", prompts.with_name("out.jsonl"))
    check = Team.check_prompt

    async def interrupted(self: Team, query: Query) -> None:
        nonlocal checked
        checked += 1
        if checked == 3:
            os.kill(os.getpid(), signal.SIGINT)
        await check(self, query)

    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Team, "check_prompt", interrupted)
            code, _, err = invoke(*command)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, checked) == (130, 3)
    assert "checking: 2 of 6" in err
    assert not list(prompts.parent.glob("out*"))

    assert "checking: 6 of 6" in invoke(*command)[2]
    assert "checking:" not in invoke(*command)[2]  # what is answered did fit


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: it must have one prompt per line"),
        (b'{"id": "1", "text": "a"}\n{"id": "1", "text": "b"}', ":2: the id '1' was already used"),
        (b'{"id": "long", "text": "' + b"x" * 5000 + b'"}', "'long'"),
    ],
)
def test_bad_input_writes_nothing(
    invoke: Invoke, scripted, prompts: Path, content: bytes, said: str
) -> None:
    output = prompts.with_name("out.jsonl")
    prompts.write_bytes(content)
    code, out, err = invoke("generate", "-t", scripted(), "-i", prompts, "-o", output)
    assert (code, out) == (2, "")
    assert said in sentence(err)
    assert str(prompts) in sentence(err)
    assert not output.exists()
    assert not path_for(output).exists()


def test_bad_team_files_are_a_sentence(invoke: Invoke, prompts: Path) -> None:
    team = prompts.with_name("team.yaml")
    for text, said in (
        (TEAM + "policy: {patchsize: 3}", f"{team}:2: unknown key 'patchsize' in policy; did you"),
        (TEAM.replace("org/base", "./gone"), f"{team}:1: there is no model at "),
        (TEAM.replace("org/base", "no/such-model"), "no/such-model"),
    ):
        team.write_text(text)
        for command in (("check",), ("generate", "-i", prompts, "-o", prompts.with_name("o"))):
            code, out, err = invoke(*command, "-t", team)
            assert (code, out) == (2, ""), err
            assert said in sentence(err)
    assert not prompts.with_name("o").exists()


def test_an_output_of_another_run_is_left_alone(invoke: Invoke, scripted, prompts: Path) -> None:
    output = prompts.with_name("out.jsonl")
    command = ("generate", "-t", scripted(), "-i", prompts, "-o", output)
    output.write_text("precious\n")
    code, _, err = invoke(*command)
    assert code == 2
    assert "has no manifest beside it" in sentence(err)
    assert output.read_text() == "precious\n"
    output.unlink()
    invoke(*command)
    before = output.read_bytes()
    code, _, err = invoke(*command, "--seed", 9)
    assert code == 2
    assert "belongs to another run, whose policy differed" in sentence(err)
    assert output.read_bytes() == before


HOLD = """
import sys, time
from pathlib import Path
from taketurns.utils.locks import lock_now

with lock_now(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_an_output_is_written_by_one_process_at_a_time(
    invoke: Invoke, scripted, prompts: Path
) -> None:
    output, team = prompts.with_name("out.jsonl"), scripted()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, output], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    generate = ("generate", "-t", team, "-i", prompts, "-o", output)
    for command in (
        generate,
        ("rollout", "-t", team, "--task", "recall", "-o", output, "--prefixes", 2),
    ):
        code, _, err = invoke(*command)
        assert code == 2
        assert f"{output} is being written by another process" in sentence(err)
        assert not output.exists()
        assert not path_for(output).exists()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert invoke(*generate)[0] == 0
    assert [record["id"] for record in records(output)] == list("012345")
    assert not list(output.parent.glob("*lock"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "-t", "gone.yaml", "-i", "-", "-o", "-"], "there is no team file gone.yaml"),
        (["generate", "-t", "pocket", "-i", "gone", "-o", "-"], "cannot read gone: No such file"),
        (["check", "-t", "pocket", "--set", "nonsense"], "a setting is written KEY=VALUE"),
        (["chat", "--speaker", "nobody"], "there is no candidate 'nobody'"),
        (["check", "-t", "pocket", "--set", "policy.closing_on_end=yes please"], "valid boolean"),
    ],
)
def test_a_mistake_on_the_command_line(invoke: Invoke, arguments: list[str], said: str) -> None:
    code, out, err = invoke(*arguments)
    assert (code, out) == (2, "")
    assert said in sentence(err)


def test_a_bug_is_a_sentence_and_a_traceback_on_request(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(options, "load_team", broken)
    code, _, err = invoke("check", "-t", "pocket")
    assert code == 1
    assert sentence(err) == "RuntimeError: a bug"
    monkeypatch.setenv("TAKETURNS_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["taketurns", "check", "-t", "pocket"])
    with pytest.raises(RuntimeError, match="a bug"):
        app.main()


def test_check_for_people_and_for_scripts(invoke: Invoke) -> None:
    code, out, _ = invoke("check", "-t", "pocket")
    assert code == 0
    assert "the team fits" in out
    code, out, _ = invoke("check", "-t", "pocket", "--json")
    assert json.loads(out)["fits"] is True


# With real models.


def start(*arguments: object, **settings: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taketurns", *map(str, arguments)]
    return subprocess.Popen(command, text=True, **settings)  # type: ignore[call-overload,no-any-return]


def without_timings(path: Path) -> list[dict]:
    found = records(path)
    for record in found:
        for patch in record["patches"]:
            del patch["timing"]
    return found


@pytest.mark.slow  # tests/test_runner.py kills what writes the records
def test_a_killed_run_goes_on_to_the_same_records(invoke: Invoke, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    queries = [query for task in TASKS.values() for query in task.queries("dev")[:3]]
    prompts.write_text("".join(json.dumps({"id": q.id, "text": q.text}) + "\n" for q in queries))
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    command = ("generate", "-t", "pocket", "-i", prompts, "--set", "max_tokens=60")

    process = start(*command, "-o", killed, "--concurrency", 2)
    while not killed.exists() or killed.read_bytes().count(b"\n") < 5:
        assert process.poll() is None, "it finished before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    torn = killed.read_bytes()
    killed.write_bytes(torn[:-7])
    assert torn.count(b"\n") < len(queries)

    assert invoke(*command, "-o", killed, "--concurrency", 5)[0] == 0
    assert invoke(*command, "-o", whole)[0] == 0
    assert without_timings(killed) == without_timings(whole)
    assert [record["id"] for record in records(whole)] == [query.id for query in queries]


def test_chat_from_a_pipe(invoke: Invoke) -> None:
    code, out, err = invoke("chat", "--probabilities", stdin=b"5 + 4\n/quit\n")
    assert code == 0, err
    assert any(mark in out for mark in "●▲■")
    assert re.search(r"pretrained \d+% · sft \d+% · aligned \d+%", err)


def test_the_demo_shows_the_team_beside_each_checkpoint(invoke: Invoke) -> None:
    code, out, _ = invoke("pocket", "demo", "--each", 1)
    assert code == 0
    assert all(name in out for name in ("team", "pretrained", "sft", "aligned", *TASKS))


def test_prompts_without_ids_are_called_by_their_lines(
    invoke: Invoke, scripted, tmp_path: Path
) -> None:
    """Blank lines count, and the same command goes on where it was stopped."""
    path, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b", "id": "own"}\n{"text": "c", "id": null}\n')
    command = ("generate", "-t", scripted(), "-i", path, "-o", out)
    assert invoke(*command)[0] == 0
    whole = out.read_bytes()
    assert [record["id"] for record in records(out)] == ["1", "own", "4"]
    out.write_bytes(whole.splitlines(keepends=True)[0])
    assert invoke(*command)[0] == 0
    assert [record["id"] for record in records(out)] == ["1", "own", "4"]
    assert out.read_bytes().startswith(whole.splitlines(keepends=True)[0])
    path.write_text('{"text": "a"}\n{"text": "b", "id": "1"}\n')
    code, _, err = invoke("generate", "-t", scripted(), "-i", path, "-o", tmp_path / "other")
    assert code == 2
    assert "2: the id '1' was already used in line 1" in err


@pytest.mark.parametrize("id_", ["[1]", "{}", "1.5", "true", '""'])
def test_an_id_that_is_none_is_a_sentence(
    id_: str, invoke: Invoke, scripted, tmp_path: Path
) -> None:
    path, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    path.write_text(f'{{"text": "a", "id": {id_}}}\n{{"text": "b"}}\n')
    code, _, err = invoke("generate", "-t", scripted(), "-i", path, "-o", out)
    assert code == 1
    assert 'prompts.jsonl:1: "id" must be a non-empty string; this line is skipped' in err
    assert [record["id"] for record in records(out)] == ["2"]


def test_a_record_whose_id_is_a_list_is_a_sentence(
    invoke: Invoke, scripted, prompts: Path, tmp_path: Path
) -> None:
    out, labels = tmp_path / "out.jsonl", tmp_path / "labels.jsonl"
    command = ("generate", "-t", scripted(), "-i", prompts, "-o", out)
    assert invoke(*command)[0] == 0
    out.write_text('{"id": ["1"]}\n')
    for asked in (command, ("train", "-t", "pocket", "--labels", labels, "-o", tmp_path / "s")):
        labels.write_text('{"id": [1], "schema": "taketurns.rollout/1"}\n')
        code, _, err = invoke(*asked)
        assert code == 2
        assert "jsonl:1: not a record: its id must be a string or a number" in err


def test_nesting_is_bounded(
    invoke: Invoke, scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a limit that is lowered, in what a user gives and in what a command reads again."""
    monkeypatch.setattr("taketurns.utils.json_files.MAX_DEPTH", 8)
    path, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    path.write_text(f'{{"text": "a", "x": {"[" * 8}1{"]" * 8}}}\n{{"text": "b", "x": [[1]]}}\n')
    code, _, err = invoke("generate", "-t", scripted(), "-i", path, "-o", out)
    assert code == 1
    assert "prompts.jsonl:1: nested too deeply: more than 8 lists and objects" in err
    code, _, err = invoke("score", "--task", "recall", "--answers", path)
    assert code == 2
    assert "prompts.jsonl:1: not JSON: nested too deeply" in err


def test_check_says_for_what_a_context_is_short(
    invoke: Invoke, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    models = [make_model(seed, max_position_embeddings=256) for seed in range(2)]
    entries = [{"name": f"m{i}", "model": str(model)} for i, model in enumerate(models)]
    (tmp_path / "team.yaml").write_text(
        json.dumps({"candidates": entries, "policy": {"max_tokens": 200}})
    )
    _, out, _ = invoke("check", "-t", tmp_path / "team.yaml", "--json")
    said = (
        "m0: its context has only 256 tokens for the prompt and an answer of up to 200 tokens "
        "(policy.max_tokens); the answer ends when the context is full"
    )
    assert said in json.loads(out)["notes"]
