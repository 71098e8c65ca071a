"""The card of a switcher that practised: README.md, with the hub's front matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taketurns.training.supervised.card import sizes


def card(metrics: Mapping[str, Any]) -> str:
    """What it is, how it learned, what it is worth, how it is used, what it cannot do."""
    made, checks = metrics["switcher"], metrics["checks"]
    names = metrics["candidates"]
    best = next(check for check in checks if check["step"] == metrics["best_step"])
    costs = [f"{price:g} for each token of {name}" for name, price in made["prices"].items()]
    if made["switch_cost"]:
        costs.append(f"{made['switch_cost']:g} for each change of speaker")
    reward = "the utility of the answer" + (f", less {' and '.join(costs)}" if costs else "")
    lines = [
        "---",
        "library_name: taketurns",
        "tags:",
        "- taketurns",
        "- switch-generation",
        "---",
        "",
        "# A switcher",
        "",
        f"It decides which of {len(names)} checkpoints ({', '.join(names)}) writes the next patch "
        "of an answer they write in turns ([Switch Generation](https://arxiv.org/abs/2510.09913)).",
        "",
        "## How it learned",
        "",
        f"By policy gradient, from a trained switcher of kind {made['kind']}: "
        f"{len(metrics['history'])} steps of {made['questions']} questions with "
        f"{made['answers']} answers each, {metrics['tokens']:,} tokens in all. The reward is "
        f"{reward}. Tasks: {', '.join(metrics['tasks'])}.",
        "",
        "## What it is worth",
        "",
        f"Answers to {made['checked']} held-out train questions a task, which also chose the step "
        f"({metrics['best_step']}): a test set says more.",
        "",
        "| | reward | utility | changes of speaker |",
        "| --- | --- | --- | --- |",
        _row("before", checks[0]),
        _row("this switcher", best),
        "",
        "## Use",
        "",
        "```console",
        "taketurns chat --team team.yaml",
        "```",
        "",
        "`metrics.json` has every number, `checked.jsonl` the questions that chose the step, its "
        "manifest the versions and models.",
        "",
        "## Limits",
        "",
        "Other checkpoints under the same names are another pool. It practised with patches of "
        f"{sizes(metrics)} tokens, on the tasks above.",
    ]
    return "\n".join(lines) + "\n"


def _row(what: str, check: Mapping[str, Any]) -> str:
    return f"| {what} | {check['reward']:.4f} | {check['utility']:.4f} | {check['switches']:.2f} |"
