"""The card of a trained switcher: README.md, with the hub's front matter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from taketurns.utils.files import write_text


def card(metrics: Mapping[str, Any], base: str | None) -> str:
    """What it is, what it was trained on, what it is worth, how it is used, what it cannot do.

    `base` is the hub id of the model it started from, None where that is a local folder.
    """
    made, data, worth = metrics["switcher"], metrics["examples"], metrics["validation"]
    front: dict[str, Any] = {
        "library_name": "taketurns",
        "tags": ["taketurns", "switch-generation"],
    }
    if base is not None:
        front["base_model"] = base
    names = list(data["balance"])
    tasks = ", ".join(task or "unnamed" for task in data["tasks"])
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        "",
        "# A switcher",
        "",
        f"It decides which of {len(names)} checkpoints ({', '.join(names)}) writes the next patch "
        "of an answer they write in turns ([Switch Generation](https://arxiv.org/abs/2510.09913)).",
        "",
        made["what"],
        "",
        "## Trained on",
        "",
        f"{data['train_rows']} prefixes of answers, labelled by rollouts: every candidate wrote "
        "the next patch, and the answers that followed were scored. "
        f"{data['validation_rows']} prefixes of other queries chose the epoch "
        f"({metrics['best_epoch']} of {len(metrics['history'])}). Tasks: {tasks}.",
        "",
        f"Targets: {_targets(made)}. Of {data['labels']} labels {data['without_signal']} were left "
        f"out because all candidates did alike, {data['ties_dropped']} because several were best.",
        "",
        _row(["", *names]),
        _row(["---"] * (len(names) + 1)),
        _row(["share of the targets", *(f"{data['balance'][name]:.1%}" for name in names)]),
        "",
        *_parts(made),
        "## What its choices are worth",
        "",
        f"Mean utility of the answers that follow its top choice, on {worth['rows']} validation "
        f"prefixes. It loses {worth['regret']:.4f} against the best choice at every prefix, and "
        f"names a best candidate in {worth['agreement']:.1%} of those where they differ. The epoch "
        "was chosen on these prefixes: a test set says more.",
        "",
        _row(["chosen by", "utility"]),
        _row(["---", "---"]),
        _row(["this switcher", f"{worth['utility']:.4f}"]),
        _row(["chance", f"{metrics['standards']['random']:.4f}"]),
        *(
            _row([f"always {name}", f"{utility:.4f}"])
            for name, utility in metrics["standards"]["always"].items()
        ),
        _row(["the best at every prefix", f"{metrics['standards']['best']:.4f}"]),
        "",
        *_by_task(metrics["tasks"]),
        "## Use",
        "",
        "```console",
        "taketurns chat --team team.yaml",
        "```",
        "",
        "`team.yaml` stands beside this card. `examples.jsonl` lists what was learned, "
        "`metrics.json` every number, `examples.jsonl.manifest.json` the versions and models.",
        "",
        "## Limits",
        "",
        f"It knows the candidates by their {made['knows_by']}: other checkpoints under the same "
        f"names are another pool. It was trained {_where(made)}, on the tasks above.",
    ]
    return "\n".join(lines) + "\n"


def write_card(folder: Path, metrics: Mapping[str, Any], base: str | None) -> None:
    """Put the card into the folder."""
    write_text(folder / "README.md", card(metrics, base))


def _where(made: Mapping[str, Any]) -> str:
    if made.get("cuts") == "anywhere":
        return "at any token"
    return f"at boundaries of patches of {sizes(made)} tokens"


def sizes(made: Mapping[str, Any]) -> str:
    """How many tokens the patches had that a switcher was made with."""
    rule = made.get("patch")
    return str(made["patch_size"]) if rule is None else f"{rule['min']} to {rule['max']}"


def _parts(made: Mapping[str, Any]) -> list[str]:
    """How many labels each part of a head has, and what few of them mean."""
    if not made.get("labels"):
        return []
    after = [part["after"] or "nobody yet" for part in made["labels"]]
    lines = [
        _row(["last to speak", *after]),
        _row(["---"] * (len(after) + 1)),
        _row(["prefixes to learn from", *(str(part["labels"]) for part in made["labels"])]),
        "",
    ]
    shrunk = made["shrunk"]
    if shrunk["kept"] is not None:
        of = [
            f"{name} {share:.0%} its own and {shrunk['shared'][name]:.0%} the shared one"
            for name, share in shrunk["kept"].items()
        ]
        lines += [
            "Where labels are few, the map for a candidate's states is drawn towards a map that "
            "all of them share and towards how often each candidate is best, as the validation "
            f"prefixes say: {'; '.join(of)}.",
            "",
        ]
    if made["blind"]:
        lines += [f"{made['blind'][0].upper()}{made['blind'][1:]}.", ""]
    return lines


def _targets(made: Mapping[str, Any]) -> str:
    kinds = {
        "hard": "the best candidate",
        "tied": "evenly over the best candidates",
        "soft": f"softmax of the utilities at temperature {made['temperature']:g}",
    }
    return kinds[made["targets"]]


def _by_task(tasks: Mapping[str, Mapping[str, float]]) -> list[str]:
    if len(tasks) < 2:
        return []
    columns = ("rows", "utility", "regret", "agreement")
    return [
        _row(["task", *columns]),
        _row(["---"] * (len(columns) + 1)),
        *(
            _row([task, *(f"{verdict[column]:.4g}" for column in columns)])
            for task, verdict in tasks.items()
        ),
        "",
    ]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
