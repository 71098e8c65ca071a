"""Train a linear head: labels from rollouts, a switcher from labels, answers with it."""

import subprocess
import sys
from pathlib import Path

from taketurns import Team


def taketurns(*arguments: object) -> None:
    """A command, as in a terminal. Each goes on where it was stopped."""
    subprocess.run([sys.executable, "-m", "taketurns", *map(str, arguments)], check=True)


folder = Path(sys.argv[1] if len(sys.argv) > 1 else "head-example")
folder.mkdir(exist_ok=True)
labels, head = folder / "labels.jsonl", folder / "head"
tasks = ["--task", "recall", "--task", "arithmetic"]
taketurns("rollout", "--team", "pocket", *tasks, "--prefixes", 40, "--k", 2, "--output", labels)
taketurns("train", "--team", "pocket", "--labels", labels, "--switcher", "head", "--output", head)

with Team.load(head) as team:
    for question in ("what is 23 + 48?", "what does rebol fonul work as?"):
        trace = team.generate(question)
        print([patch.name for patch in trace.patches], trace.text)
