"""A small package with a part of each kind, and how an installed taketurns is held to use them.

Its entry points name a switcher, an engine, a scorer, a method and a task, and one part whose
module cannot be imported. `recipes/release.py` builds it, installs it beside the wheel and calls
`try_parts`.

Only the standard library is imported, because any Python may run this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from types import MappingProxyType
from typing import Any

NAME, MODULE, VERSION = "taketurns-probe", "taketurns_probe", "1.2.3"
BROKEN = "probe-broken"

Command = Callable[..., "CompletedProcess[str]"]
"""Runs `taketurns` with these arguments in the folder of work, whatever its exit code."""

PYPROJECT = f"""\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{NAME}"
version = "{VERSION}"
dependencies = ["taketurns"]

[project.entry-points."taketurns.switchers"]
probe-switcher = "{MODULE}:Alternate"
{BROKEN} = "{MODULE}.broken:Switcher"

[project.entry-points."taketurns.engines"]
probe-engine = "{MODULE}:engine"

[project.entry-points."taketurns.scorers"]
probe-scorer = "{MODULE}:share_of_a"

[project.entry-points."taketurns.methods"]
probe-method = "{MODULE}:Constant"

[project.entry-points."taketurns.tasks"]
probe-task = "{MODULE}:Letters"
"""

PARTS = '''\
"""A part of each kind, as small as its protocol allows."""

from taketurns import Patch, Query, Score, ScriptedEngine, Trace


class Alternate:
    """The candidates write in turn."""

    def __init__(self, first=0):
        self.first = first

    async def prepare(self, engine, candidates):
        self.count = len(candidates)

    def begin(self, query, policy):
        async def decide(session, state):
            due = (self.first + len(state.patches)) % self.count
            return tuple(float(index == due) for index in range(self.count))

        return decide


def engine(models, suffix=""):
    """Each model writes its own name again and again."""
    def writes(name):
        return lambda text, sampling: (name + suffix) * 64

    return ScriptedEngine({model.name: writes(model.name) for model in models})


def share_of_a(query, answer):
    """The share of the letter a."""
    return answer.count("a") / max(1, len(answer))


class Constant:
    """Answers "aaaa" to everything."""

    def __init__(self, context):
        self.context = context

    async def check(self): ...

    async def prepare(self, dev):
        return {}

    async def answer(self, task, query, seed):
        return Trace(query, (Patch(0, (97,) * 4, "aaaa", "stop", "chosen"),), seed)


class Letters:
    """Two questions in each split."""

    name, category = "letters", "own"

    def queries(self, split):
        return tuple(Query(f"letters/{split}-{n}", text=f"{split} {n}?") for n in range(2))

    def score(self, query, answer):
        return Score(share_of_a(query, answer))
'''

FILES: Mapping[str, str] = MappingProxyType(
    {
        "pyproject.toml": PYPROJECT,
        f"src/{MODULE}/__init__.py": PARTS,
        f"src/{MODULE}/broken.py": "import a_module_that_is_not_installed\n",
    }
)

TEAM: Mapping[str, Any] = MappingProxyType(
    {
        "candidates": [
            {"name": "a", "model": "probe/a", "prompt": "{text}"},
            {"name": "b", "model": "probe/b", "prompt": "{text}"},
        ],
        "switcher": {"kind": "probe-switcher", "first": 1},
        "policy": {"patch_size": 2, "max_tokens": 8},
        "engine": {"kind": "probe-engine"},
    }
)
ANSWER = "bbaabbaa"
"""What the team writes: two letters a turn, and b begins."""


def write_package(folder: Path) -> Path:
    """Write the sources of the package into a folder."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def try_parts(work: Path, taketurns: Command) -> Iterator[str]:
    """Use each part by its entry point, from the command line, in the folder `work`; what is wrong,
    a sentence each."""
    (work / "probe.yaml").write_text(json.dumps(dict(TEAM)), encoding="utf-8")
    yield from _try_team(work, taketurns)
    yield from _try_scorer(work, taketurns)
    yield from _try_method(work, taketurns)
    yield from _try_broken(work, taketurns)


def _try_team(work: Path, taketurns: Command) -> Iterator[str]:
    """The task's questions, answered by the engine under the switcher."""
    output = work / "probe-answers.jsonl"
    done = taketurns(
        "generate", "--team", "probe.yaml", "--task", "probe-task", "--output", output.name
    )
    if done.returncode:
        yield f"a switcher, an engine and a task of a package do not work: {_last(done)}"
        return
    answers = [json.loads(line)["text"] for line in output.read_text("utf-8").splitlines()]
    if answers != [ANSWER, ANSWER]:
        yield f"the parts of a package answered {answers}, not {ANSWER!r} twice"
    manifest = json.loads((work / f"{output.name}.manifest.json").read_text("utf-8"))
    inputs = manifest["determined"]
    described = [inputs["switcher"]["part"], inputs["engine"]["part"]]
    described += inputs["own parts"]["letters"]
    if wrong := [part for part in described if part["version"] != VERSION]:
        yield f"the manifest does not have version {VERSION} of {wrong[0]}"


def _try_scorer(work: Path, taketurns: Command) -> Iterator[str]:
    """Answers scored by the scorer that a task file names."""
    (work / "probe-task.yaml").write_text("name: t\ndata: probe.jsonl\nscorer: probe-scorer\n")
    (work / "probe.jsonl").write_text('{"id": 1, "text": "?"}\n')
    (work / "probe-given.jsonl").write_text('{"id": "t/1", "text": "abab"}\n')
    done = taketurns(
        "score", "--task", "probe-task.yaml", "--answers", "probe-given.jsonl", "--json"
    )
    if done.returncode:
        yield f"a scorer of a package does not work: {_last(done)}"
    elif (mean := json.loads(done.stdout)["mean"]) != 0.5:
        yield f"a scorer of a package gave a mean of {mean}, not 0.5"


def _try_method(work: Path, taketurns: Command) -> Iterator[str]:
    """A comparison of the method with a checkpoint."""
    done = taketurns(
        "evaluate", "--team", "probe.yaml", "--task", "probe-task", "--methods", "a,probe-method",
        "--subject", "probe-method", "--seeds", "1", "--output", "probe-report",
    )  # fmt: skip
    if done.returncode:
        yield f"a method of a package does not work: {_last(done)}"
        return
    results = json.loads((work / "probe-report" / "results.json").read_text("utf-8"))
    mean = results["methods"]["probe-method"]["average"]["mean"]
    if mean != 1:
        yield f"a method of a package scored {mean}, not 1"


def _try_broken(work: Path, taketurns: Command) -> Iterator[str]:
    """The part that cannot be imported is named in one sentence; all else has worked beside it."""
    team = {**TEAM, "switcher": {"kind": BROKEN}}
    (work / "probe-broken.yaml").write_text(json.dumps(team), encoding="utf-8")
    done = taketurns(
        "generate", "--team", "probe-broken.yaml", "--task", "probe-task", "--output", "none.jsonl"
    )
    said = [line for line in done.stderr.splitlines() if line]
    names = [word for word in (BROKEN, f"{MODULE}.broken", NAME) if word not in done.stderr]
    if done.returncode != 2 or len(said) != 1 or names:
        yield f"a part that cannot be imported is not named in one sentence: {done.stderr!r}"


def _last(done: CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
