"""What docs/tasks.md says of tasks and scorers is so."""

from __future__ import annotations

import re
from pathlib import Path

from taketurns.tasks.benchmarks import BENCHMARKS
from taketurns.tasks.custom import TaskFile
from taketurns.tasks.registry import find_task
from taketurns.tasks.scorers.registry import SCORERS, settings_of

DOC = (Path(__file__).parents[2] / "docs/tasks.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, str]:
    """The rows of the table under a heading, by their first cell."""
    table = DOC[DOC.index(heading) :].partition("\n\n## ")[0]
    return dict(re.findall(r"^\| `([\w-]+)` \|(.*)$", table, re.MULTILINE))


def test_the_example_works(tmp_path: Path) -> None:
    (yaml,) = re.findall(r"```yaml\n(.*?)```", DOC, re.DOTALL)
    assert len(yaml.splitlines()) == 5
    (tmp_path / "task.yaml").write_text(yaml)
    line = '{"id": 1, "question": "Of France?", "capital": "Paris"}\n'
    (tmp_path / "capitals.jsonl").write_text(line)
    task = find_task(str(tmp_path / "task.yaml"))
    assert task.score(task.queries("test")[0], "Paris").value == 1


def test_every_key_scorer_setting_and_benchmark_is_there() -> None:
    assert set(rows("## A task of your own")) == set(TaskFile.model_fields)
    scorers = rows("## Scorers")
    assert set(scorers) == set(SCORERS)
    for name, text in scorers.items():
        assert all(f"`{key}`" in text for key in settings_of(name)), name
    benchmarks = rows("## The paper's benchmarks")
    assert set(benchmarks) == set(BENCHMARKS)
    for name, text in benchmarks.items():
        source = BENCHMARKS[name].source
        assert ("unverified" in text) == (source is None or not source.verified), name
        assert source is None or f"`{source.path}`" in text, name
