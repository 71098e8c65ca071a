"""What docs/serving.md says is so."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from taketurns.server.config import ServeConfig
from taketurns.server.schemas import TurnOptions

from .conftest import Running

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def test_the_python_runs(pocket: Running, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = "".join(block for block in blocks if "anthropic" not in block)  # asked in tests/clients
    code = code.replace("http://127.0.0.1:8000", pocket.url).replace('"pocket"', '"team"')
    exec(compile(code, "serving.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert lines[1].split()[0] in ("pretrained", "sft", "aligned")


def test_every_setting_and_key_is_listed() -> None:
    settings = PAGE[PAGE.index("## Settings") :]
    listed = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", settings, re.MULTILINE)
    names = [name for cell in listed for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(ServeConfig))
    extension = PAGE[PAGE.index("## The extension") : PAGE.index("Every choice of a response")]
    cells = re.findall(r"^\| (`.*?) \|", extension, re.MULTILINE)
    keys = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(keys) == sorted(TurnOptions.model_fields)


def test_every_metric_named_is_there(pocket: Running) -> None:
    with pocket.http() as http:
        told = http.get("/metrics").text
    named = re.findall(r"`((?:vllm|taketurns):\w+)`", PAGE)
    assert len(named) > 10
    for name in named:
        assert f"# TYPE {name.removesuffix('_total')}" in told, name


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
