"""Who the others are compared with, and who leads on which tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from taketurns.config.loading import load_team_config
from taketurns.config.team_config import SwitcherConfig
from taketurns.errors import UsageError
from taketurns.evaluation.findings import choose_subject
from taketurns.evaluation.run import Evaluation, EvaluationJob
from taketurns.evaluation.store import Store
from taketurns.evaluation.tasks import load


def evaluation(
    folder: Path, names: list[str] | None, switcher: SwitcherConfig | None = None
) -> Evaluation:
    config = load_team_config("pocket")
    config = replace(config, switcher=switcher or config.switcher)
    plan = EvaluationJob(load(("recall",)), names, 1, 1, 2, 4)
    return Evaluation(config, plan, Store(folder, config), {}, print)


async def test_the_subject_is_the_team_as_its_file_says(tmp_path: Path) -> None:
    """Fault: of a team without a trained switcher the report was about `untuned`, which happens to
    be the last method."""
    async with evaluation(tmp_path, None) as asked:
        assert choose_subject(asked.entries, None) == "switch"
    async with evaluation(tmp_path, None, SwitcherConfig(kind="random")) as asked:
        assert "switch" not in [entry.name for entry in asked.entries]
        assert choose_subject(asked.entries, None) == "random"


async def test_the_subject_has_no_hindsight_unless_that_is_wanted(tmp_path: Path) -> None:
    async with evaluation(tmp_path, ["pretrained", "sft", "aligned", "oracle"]) as asked:
        assert choose_subject(asked.entries, None) == "aligned"
        assert choose_subject(asked.entries, "oracle") == "oracle"
    async with evaluation(tmp_path, ["best-of-n"]) as asked:
        for wanted in (None, "best-of-n"):
            with pytest.raises(UsageError, match=r"\(hindsight\), as best-of-n does"):
                choose_subject(asked.entries, wanted)
