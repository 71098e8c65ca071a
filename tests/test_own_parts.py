"""Parts of a user's own, by name: from a module in the folder, and from an installed package."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

import taketurns
from taketurns import Query, Team
from taketurns.config.loading import load_team_config
from taketurns.config.team_file import team_yaml
from taketurns.errors import ConfigError, UsageError
from taketurns.runs.description import describe_run
from taketurns.runs.manifest import PARTS
from taketurns.tasks.own_parts import own_parts
from taketurns.tasks.registry import find_task
from taketurns.tasks.scored import scored_task
from taketurns.tasks.scorers.base import identity
from taketurns.tasks.scorers.calibration import Stated
from taketurns.tasks.scorers.registry import make_scorer

Invoke = Callable[..., tuple[int, str, str]]
WEIGHTS = Path(taketurns.__file__).parent / "pocket" / "weights"
MODULE = '''
from taketurns import Query, ScriptedEngine
from taketurns.evaluation.methods.base import Plain
from taketurns.types import Score


class ByLength:
    """The candidate `late` writes once the answer has `after` characters."""

    def __init__(self, late, after=20):
        self.late, self.after = late, after

    async def prepare(self, engine, candidates):
        self.names = [candidate.name for candidate in candidates]
        if self.late not in self.names:
            raise ValueError(self.late)

    def begin(self, query, policy):
        async def decide(session, state):
            assert list(state.names) == self.names
            assert all(patch.name in self.names for patch in state.patches)
            late = len(state.text) >= self.after
            first = self.names.index("pretrained")
            chosen = self.names.index(self.late) if late else first
            return tuple(float(index == chosen) for index in range(len(self.names)))

        return decide


class NoSwitcher:
    def prepare(self, engine, candidates): ...


def shortness(query, answer, most=100):
    return max(0.0, 1 - len(answer) / most)


shortness.version = 3


class Shout:
    name = "shout"

    def check(self, query): ...

    def score(self, query, answer):
        return Score(float(answer.isupper()), answer)

    def canonical_answer(self, query, answer):
        return answer.upper()


class Strict:
    name = "strict"

    def __init__(self, limit=3):
        self.limit = limit

    check = score = canonical_answer = lambda self, *arguments: None


def wild(query, answer):
    return 7


class Half:
    name = "half"


class Colours:
    name, category = "colours", "own"

    def queries(self, split):
        return (Query(f"colours/{split}", text="what is the colour of the sky?"),)

    def score(self, query, answer):
        return Score(float("blue" in answer))


class LastAlone(Plain):
    """The last checkpoint alone."""

    async def answer(self, task, query, seed):
        return await self._context.answer(self._context.last, query, seed)


def scripted(models, word="yes"):
    return ScriptedEngine({model.name: lambda text, sampling: word for model in models})
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module, as the current one."""
    (tmp_path / "my_parts.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("my_parts", None)


def team_file(folder: Path, **sections: object) -> Path:
    candidates = [
        {"name": "pretrained", "model": str(WEIGHTS / "pretrained"),
         "prompt": "question: {text} answer:"},
        {"name": "aligned", "model": str(WEIGHTS / "aligned")},
    ]  # fmt: skip
    policy = {"patch_size": 8, "max_tokens": 32}
    document = {"candidates": candidates, "policy": policy, **sections}
    path = folder / "team.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def own_switcher(**keys: object) -> dict[str, object]:
    return {"kind": "my_parts:ByLength", "late": "aligned", **keys}


def test_a_switcher_decides_by_its_own_keys(mine: Path) -> None:
    path = team_file(mine, switcher=own_switcher(after=10))
    with Team.load(path) as team:
        trace = team.generate(Query("1", text="what is 23 + 48?"))
    assert trace.error is None
    names = [patch.name for patch in trace.patches]
    assert names[0] == "pretrained"
    late = [len("".join(p.text for p in trace.patches[:at])) >= 10 for at in range(len(names))]
    assert names == ["aligned" if is_late else "pretrained" for is_late in late]


def test_a_team_with_its_own_switcher_is_written_and_described(mine: Path) -> None:
    path = team_file(mine, switcher=own_switcher())
    config = load_team_config(path)
    assert config.switcher.settings == {"late": "aligned"}
    described = describe_run("generate", config, b"").inputs["switcher"]
    assert described["part"]["module"] == "my_parts"
    assert described["settings"] == {"late": "aligned"}
    (mine / "my_parts.py").write_text(MODULE + "\n# changed", encoding="utf-8")
    assert describe_run("generate", config, b"").inputs["switcher"] != described
    pocket = describe_run("generate", load_team_config("pocket"), b"").inputs
    assert "part" not in pocket["switcher"]
    assert "engine" not in pocket
    text = team_yaml(config, {"kind": config.switcher.kind, **config.switcher.settings}, mine)
    assert "my_parts:ByLength" in text


def test_an_engine_of_ones_own_runs_the_models(mine: Path) -> None:
    path = team_file(mine, engine={"kind": "my_parts:scripted", "word": "hello"})
    with Team.load(path) as team:
        trace = team.generate(Query("1", text="a question"))
    assert "hello" in trace.text
    inputs = describe_run("generate", load_team_config(path), b"").inputs
    assert inputs["engine"]["settings"] == {"word": "hello"}


@pytest.mark.parametrize(
    ("section", "entry", "sentence"),
    [
        ("switcher", {"kind": "no_module:X"}, "there is no module 'no_module' here"),
        ("switcher", {"kind": "my_parts:X"}, "my_parts has no 'X'"),
        ("switcher", {"kind": "my_parts:NoSwitcher"}, "has no method begin()"),
        ("switcher", own_switcher(before=1), "has no key 'before'; its keys are late, after"),
        ("switcher", {"kind": "my_parts:ByLength"}, "needs the key 'late'"),
        ("switcher", {"kind": ":X"}, "named package.module:Name"),
        ("engine", {"kind": "my_parts:Half"}, "cannot be made"),
        ("engine", {"kind": "my_parts:scripted", "words": 1}, "has no key 'words'"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    mine: Path, section: str, entry: dict[str, object], sentence: str
) -> None:
    path = team_file(mine, **{section: entry})
    with pytest.raises((UsageError, ConfigError)) as caught:
        Team.load(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_says_how(mine: Path) -> None:
    (mine / "broken_parts.py").write_text("import nothing_like_it\n", encoding="utf-8")
    with pytest.raises(UsageError, match="its module needs 'nothing_like_it'"):
        make_scorer("broken_parts:f")
    (mine / "raising_parts.py").write_text("1 / 0\n", encoding="utf-8")
    with pytest.raises(UsageError, match="raised ZeroDivisionError"):
        make_scorer("raising_parts:f")


def test_a_function_scores(mine: Path) -> None:
    scorer = make_scorer("my_parts:shortness", {"most": 10})
    assert scorer.score(Query("1", text="q"), "12345").value == pytest.approx(0.5)
    assert identity(scorer).endswith("version 3")
    assert identity(scorer) != identity(make_scorer("my_parts:shortness"))
    with pytest.raises(UsageError, match="has no key 'least'; its keys are most"):
        make_scorer("my_parts:shortness", {"least": 1})


def test_a_class_scores_and_half_of_one_does_not(mine: Path) -> None:
    assert make_scorer("my_parts:Shout").score(Query("1", text="q"), "AY").value == 1
    with pytest.raises(UsageError, match="has no method check"):
        make_scorer("my_parts:Half")


def test_scores_that_would_be_wrong_without_a_word_are_refused(mine: Path) -> None:
    with pytest.raises(UsageError, match="returned 7; it must return a Score or a number from 0"):
        make_scorer("my_parts:wild").score(Query("1", text="q"), "a")
    make_scorer("my_parts:Strict")
    with pytest.raises(UsageError, match="has settings but is not a dataclass"):
        make_scorer("my_parts:Strict", {"limit": 4})


def test_a_task_and_a_scorer_by_name_on_the_command_line(mine: Path, invoke: Invoke) -> None:
    assert find_task("my_parts:Colours").name == "colours"
    (mine / "data.jsonl").write_text('{"id": 1, "text": "a question"}\n', encoding="utf-8")
    (mine / "task.yaml").write_text(
        "name: mine\ndata: data.jsonl\nscorer: {name: 'my_parts:shortness', most: 50}\n"
    )
    (mine / "answers.jsonl").write_text('{"id": "mine/1", "text": "0123456789"}\n')
    code, out, err = invoke("score", "--task", "task.yaml", "--answers", "answers.jsonl", "--json")
    assert code == 0, err
    assert "0.8" in out


def test_a_method_is_compared(mine: Path, invoke: Invoke) -> None:
    path = team_file(mine, switcher=own_switcher())
    code, _, err = invoke(
        "evaluate", "--team", path, "--task", "my_parts:Colours", "--methods",
        "aligned,my_parts:LastAlone,switch", "--limit", "1", "--seeds", "1", "--output", "out",
    )  # fmt: skip
    assert code == 0, err
    results = json.loads((mine / "out" / "results.json").read_text(encoding="utf-8"))
    methods = results["methods"]
    assert methods["my_parts:LastAlone"]["average"] == methods["aligned"]["average"]


def changed(folder: Path, old: str, new: str, module: str = "my_parts") -> None:
    """Another version of a module, as a new process finds it."""
    path = folder / f"{module}.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    sys.modules.pop(module)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    importlib.invalidate_caches()


OWN_TASK = """
name: mine
data: data.jsonl
scorer: {name: 'my_parts:shortness', most: 50}
"""


@pytest.fixture
def task_file(mine: Path) -> Path:
    lines = [{"id": str(n), "text": f"question {n}", "split": "test"} for n in range(2)]
    lines += [{"id": str(n), "text": f"question {n}", "split": "train"} for n in range(2, 9)]
    (mine / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (mine / "task.yaml").write_text(OWN_TASK)
    return mine / "task.yaml"


def test_own_tasks_and_scorers_are_described(task_file: Path) -> None:
    assert own_parts([find_task("recall")]) == {}
    (scorer,) = own_parts([find_task(str(task_file))])[PARTS]["mine"]
    assert scorer["name"] == "my_parts:shortness"
    assert (scorer["module"], scorer["version"]) == ("my_parts", None)
    assert scorer["digest"] == sha256(Path("my_parts.py").read_bytes()).hexdigest()
    (task,) = own_parts([find_task("my_parts:Colours")])[PARTS]["colours"]
    assert task["name"] == "my_parts:Colours"
    assert list(own_parts([find_task(str(task_file))], by_version=True)[PARTS]) == [
        "mine version 3"
    ]
    inside = scored_task("mine", "own", {}, Stated(make_scorer("my_parts:Shout")))
    assert [part["name"] for part in own_parts([inside])[PARTS]["mine"]] == ["my_parts:Shout"]


def test_other_code_goes_on_with_no_rollouts(task_file: Path, invoke: Invoke) -> None:
    team = team_file(task_file.parent, switcher=own_switcher())
    command = ("rollout", "--team", team, "--task", task_file, "--prefixes", 1, "--k", 1)
    command += ("--traces", "random", "--output", "labels.jsonl")
    assert invoke(*command)[0] == 0
    manifest = json.loads(Path("labels.jsonl.manifest.json").read_text())
    assert manifest["determined"][PARTS]["mine"][0]["module"] == "my_parts"
    assert invoke(*command)[0] == 0
    changed(task_file.parent, "1 - len(answer)", "1 - 2 * len(answer)")
    code, _, err = invoke(*command)
    assert code == 2
    assert "belongs to another run, whose part my_parts:shortness differed" in err


METHOD = """
from taketurns.evaluation.methods.base import Plain


class Last(Plain):
    async def answer(self, task, query, seed):
        return await self._context.answer(self._context.last, query, seed)
"""


def test_other_code_of_a_method_goes_on_with_no_answers(mine: Path, invoke: Invoke) -> None:
    (mine / "my_method.py").write_text(METHOD)
    path = team_file(mine, engine={"kind": "my_parts:scripted"})
    command = ("evaluate", "--team", path, "--limit", "1", "--seeds", "1", "--output", "out")
    command += ("--task", "my_parts:Colours", "--methods", "my_method:Last")
    code, _, err = invoke(*command)
    assert code == 0, err
    (record,) = (mine / "out" / "answers").glob("my_method_Last*.manifest.json")
    inputs = json.loads(record.read_text())["determined"]
    assert inputs["method"]["name"] == "my_method:Last"
    assert inputs["engine"]["part"]["name"] == "my_parts:scripted"
    assert inputs[PARTS]["colours"][0]["name"] == "my_parts:Colours"
    assert invoke(*command)[0] == 0
    changed(mine, "self._context.last", "self._context.names[-1]", "my_method")
    code, _, err = invoke(*command)
    assert code == 2
    assert "belongs to another run, whose method differed" in err
    sys.modules.pop("my_method")


def test_a_scorer_with_a_higher_version_scores_beside_the_old_one(
    task_file: Path, invoke: Invoke
) -> None:
    team = team_file(task_file.parent)  # not of the module, which changes
    command = ("evaluate", "--team", team, "--task", task_file, "--limit", "1", "--seeds", "1")
    command += ("--methods", "aligned", "--output", "out")
    assert invoke(*command)[0] == 0
    changed(task_file.parent, "1 - len(answer)", "1 - 2 * len(answer)")
    code, _, err = invoke(*command)
    assert code == 2
    assert "whose part my_parts:shortness differed" in err
    changed(task_file.parent, "shortness.version = 3", "shortness.version = 4")
    code, _, err = invoke(*command)
    assert code == 0, err
    manifest = json.loads(Path("out/answers/aligned.jsonl.manifest.json").read_text())
    assert list(manifest["determined"][PARTS]) == ["mine version 3", "mine version 4"]


def test_an_entry_point_has_a_short_name_and_a_broken_one_harms_no_other(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = mine / "lengths-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lengths\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("my_parts\n")
    (info / "entry_points.txt").write_text(
        "[taketurns.switchers]\nby-length = my_parts:ByLength\nbroken = nowhere:X\n"
        "[taketurns.scorers]\nshort = my_parts:shortness\n"
    )
    monkeypatch.syspath_prepend(str(mine))
    path = team_file(mine, switcher={"kind": "by-length", "late": "aligned"})
    with Team.load(path) as team:
        assert team.generate(Query("1", text="what is 1 + 1?")).error is None
    described = describe_run("generate", load_team_config(path), b"").inputs["switcher"]
    assert (described["part"]["name"], described["part"]["version"]) == ("by-length", "1.2")
    assert make_scorer("short").score(Query("1", text="q"), "").value == 1
    with pytest.raises(UsageError, match="the switcher 'broken' cannot be imported"):
        Team.load(team_file(mine, switcher={"kind": "broken"}))
