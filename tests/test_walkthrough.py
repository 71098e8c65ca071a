"""docs/walkthrough.md, command by command, on three small checkpoints that are made here.

Their weights are random, so they write letters at random. The answers that count as right are
letters, so that answers are right now and then and there is something to learn."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

PAGE = (Path(__file__).parents[1] / "docs" / "walkthrough.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = "".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)).splitlines()
SPLITS = ("train", "train", "dev", "test")
TEMPLATE = "{% for message in messages %}Q: {{ message['content'] }} A:{% endfor %}"

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, make_model: Callable[..., Path]) -> Path:
    """What the page says that there is: its files, the questions and the checkpoints."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (like,) = re.findall(r"```json\n(.*?)\n", PAGE)
    with (tmp_path / "questions.jsonl").open("w") as questions:
        for number in range(40):
            line: dict[str, Any] = json.loads(like) | {
                "id": str(number),
                "capital": [*"abcdefghiklmnoprstu"],
            }
            line["question"] = f"What is the capital of country {number}?"
            line["split"] = SPLITS[number % len(SPLITS)]
            questions.write(json.dumps(line) + "\n")
    for seed, candidate in enumerate(yaml.safe_load(FILES["team.yaml"])["candidates"]):
        where = tmp_path / candidate["model"]
        make_model(seed).rename(where)
        if "prompt" not in candidate:
            (where / "chat_template.jinja").write_text(TEMPLATE)
    return tmp_path


def test_the_page_leads_to_a_report(
    folder: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "taketurns"
        code, out, err = invoke(*arguments)
        assert code == 0, (command, out, err)
    for report in ("report/report.html", "report/analysis/report.html"):
        assert report in PAGE
        assert (folder / report).stat().st_size
