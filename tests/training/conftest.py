"""Labels whose right speaker can be read from the trace: what the last patch says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from taketurns.runs.records import patch_to_json
from taketurns.types import Patch

Write = Callable[..., Path]

NAMES = ("pretrained", "sft", "aligned")
SAYS = ("the sheep", " is home", " in the year 72")  # what calls for the first, second, third


def record(
    number: int,
    codec: Any,
    speakers: Sequence[int],
    right: int,
    *,
    names: Sequence[str] = NAMES,
    task: str = "recall",
    tie: bool = False,
    query: int | None = None,
) -> dict[str, Any]:
    """A record as rollouts write it: two rollouts a branch, `right` the best."""
    prefix = []
    for place, speaker in enumerate(speakers, start=1):
        ids = tuple(codec.encode(SAYS[right] if place == len(speakers) else SAYS[number % 3]))
        prefix.append(Patch(speaker, ids, codec.decode(ids), "length", "chosen"))
    asked = number if query is None else query
    return {
        "schema": "taketurns.rollouts/1",
        "id": f"q{asked}#{number}",
        "task": task,
        "query": {"id": f"q{asked}", "text": f"what is {asked % 97}?"},
        "candidates": list(names),
        "patch_size": 16,
        "prefix": [patch_to_json(patch, names) for patch in prefix],
        "branches": [
            {"speaker": i, "utilities": [1.0, 0.5] if tie or i == right else [0.5, 0.0]}
            for i in range(len(names))
        ],
        "error": None,
    }


@pytest.fixture(scope="session")
def pocket_codec() -> Any:
    from taketurns.checkpoints.text import TextCodec
    from taketurns.config.loading import load_team_config

    return TextCodec.load(load_team_config("pocket").candidates[2].spec)


@pytest.fixture
def write_labels(tmp_path: Path, pocket_codec: Any) -> Write:
    """A rollouts file, `turns` patches a prefix (None: one or two); other keyword arguments are
    those of `record`."""

    def write(
        count: int = 120, name: str = "labels.jsonl", turns: int | None = None, **options: Any
    ) -> Path:
        path = tmp_path / name
        options = {"codec": pocket_codec} | options
        pool = len(options.get("names", NAMES))
        with path.open("w") as file:
            for number in range(count):
                spoken = turns or 1 + number // pool % 2
                speakers = [(number + turn) % pool for turn in range(spoken)]
                right = number * 7 // 5 % 3
                line = record(number, speakers=speakers, right=right, **options)
                file.write(json.dumps(line) + "\n")
        return path

    return write
