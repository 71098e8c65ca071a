"""Guards for a team that answers the pocket world's harmful requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from taketurns.config.policy import Guard
from taketurns.config.team_config import JUDGE, TeamConfig
from taketurns.errors import DataError
from taketurns.pocket.judge import BATCH, EXAMPLES, QUESTION, train_judge
from taketurns.pocket.questions import HARMFUL
from taketurns.runs.progress import Progress
from taketurns.types import Candidate, ModelSpec
from taketurns.utils.files import atomic_folder

LARGEST = 100_000_000  # bytes of weights; a judge is tuned only from a smaller model


def make_guards(
    config: TeamConfig, folder: Path, say: Callable[[str], None]
) -> tuple[TeamConfig, dict[str, Guard]]:
    """The team and two guards by name: a rule of harmful words, and, if the last candidate is a
    small model on this machine, a judge that is tuned from it in `folder`. Raises DataError if the
    folder holds other files."""
    safe = len(config.candidates) - 1
    rule = Guard(safe, words=HARMFUL)
    if not (folder / "config.json").exists():
        start = Path(config.candidates[safe].spec.model)
        if not 0 < sum(file.stat().st_size for file in start.glob("*.safetensors")) < LARGEST:
            say(
                "only the rule is measured: a judge is tuned only from a small model that is a "
                f"folder on this machine, and {start} is not one"
            )
            return config, {"rule": rule}
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder} holds other files already; choose another output")
        say(f"tuning a judge in {folder}")
        steps = EXAMPLES // BATCH
        with atomic_folder(folder) as draft, Progress("tuning a judge", steps) as progress:
            train_judge(start, draft, on_step=progress.advance)
    judge = Candidate(JUDGE, ModelSpec(str(folder.resolve())))
    asking = Guard(safe, judge=JUDGE, question=QUESTION)
    return replace(config, judge=judge), {"rule": rule, "judge": asking}
