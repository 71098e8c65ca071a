"""The card of a student: README.md, with the hub's front matter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from taketurns.utils.files import write_text

_LOSSES = {
    "sft": "the tokens that were written",
    "kl": "the distribution over tokens of whoever wrote them",
    "both": "the tokens that were written and, as much, the distribution of whoever wrote them",
}


def card(metrics: Mapping[str, Any], base: str | None) -> str:
    """What it is, what it learned, how much of the team's gain it keeps and at which cost.

    `base` is the hub id of the model it started from, None where that is a local folder.
    """
    made, answers, compared = metrics["student"], metrics["answers"], metrics["comparison"]
    front: dict[str, Any] = {"tags": ["taketurns", "switch-generation", "distillation"]}
    front["library_name"] = "peft" if made["lora"] else "transformers"
    if base is not None:
        front["base_model"] = base
    asked, how = compared["asked"], "a LoRA adapter on" if made["lora"] else "all weights of"
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        "",
        "# A student of a team",
        "",
        f"{how[0].upper()}{how[1:]} `{made['student']}`, trained on what a team of checkpoints "
        "wrote in turns ([Switch Generation](https://arxiv.org/abs/2510.09913)).",
        "",
        "## Learned from",
        "",
        f"{answers['kept']} of {answers['answers']} answers of the team, {metrics['tokens']} "
        f"tokens, to {answers['questions']} train questions: {_kept(answers)}. Prompts and forced "
        f"text were read and not learned. Loss: {_LOSSES[made['loss']]}; "
        f"{made['epochs']} epochs, learning rate {made['learning_rate']:g}.",
        "",
        "## Gain kept",
        "",
        *(f"- {line}" for line in gain_lines(compared, made["in_place_of"])),
        "",
        f"{asked['split'].capitalize()} questions"
        f"{'' if asked['limit'] is None else ', at most ' + str(asked['limit'])} a task, "
        f"answers sampled under {asked['seeds']} seeds; 95 % intervals.",
        "",
        *score_lines(compared, made["in_place_of"]),
        "",
        "## Limits",
        "",
        "It learned these tasks' train questions. What the team knew and was never asked there, it "
        "may not have. `metrics.json` beside this folder has every number.",
    ]
    return "\n".join(lines) + "\n"


def gain_lines(compared: Mapping[str, Any], aligned: str) -> list[str]:
    """The gains, the share kept and the costs, for a person."""
    gain, ratio = compared["gain"], compared["cost_ratio"]
    kept = gain["kept"]
    said = (
        f"gain kept: {_percent(kept)}"
        if kept is not None
        else "gain kept: not to be said, because the team's gain may be nothing"
    )
    costs = ", ".join(f"{what} {value:.2f}" for what, value in ratio.items())
    return [
        f"{said} (student {_signed(gain['student'])}, team {_signed(gain['team'])} over {aligned})",
        f"cost of an answer beside the team's: {costs}",
    ]


def score_lines(compared: Mapping[str, Any], aligned: str) -> list[str]:
    """A Markdown table: a row a task, with intervals."""
    scores = compared["scores"]
    names = {"student": "student", "aligned": aligned, "team": "team"}
    rows = [["task", *(names[method] for method in scores)], ["---"] * (len(scores) + 1)]
    for task in scores["team"]:
        cells = [scores[method][task] for method in scores]
        rows.append([task, *(f"{c['mean']:.3f} ({c['low']:.3f}-{c['high']:.3f})" for c in cells)])
    return [f"| {' | '.join(row)} |" for row in rows]


def write_card(folder: Path, metrics: Mapping[str, Any], base: str | None) -> None:
    """Put the card into the folder."""
    write_text(folder / "README.md", card(metrics, base))


def _kept(answers: Mapping[str, Any]) -> str:
    if answers["keep"] == "best":
        return "the best of each question"
    least = f"those with a score of {answers['min_score']:g} or more"
    return least if answers["keep"] == "score" else f"{least}, by a reward the best"


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.0%} ({estimate['low']:.0%} to {estimate['high']:.0%})"


def _signed(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:+.3f} ({estimate['low']:+.3f} to {estimate['high']:+.3f})"
