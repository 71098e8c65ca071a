"""The settings of the results, the choices on dev, and how to read the figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from taketurns.evaluation.report.blocks import Block, Heading, Paragraph
from taketurns.evaluation.report.formatting import counted


def render_chosen(results: Mapping[str, Any]) -> Iterator[Block]:
    """The choices of each method on dev."""
    chosen = {name: m["chosen"] for name, m in results["methods"].items() if m["chosen"]}
    if chosen:
        yield Heading("Chosen on dev")
        for name, choice in chosen.items():
            yield Paragraph(f"{name}: {_in_words(choice)}.")


def render_guide() -> Iterator[Block]:
    """How to read the figures."""
    yield Heading("How to read this")
    yield Paragraph(
        "The unit is the question: its score is the mean over seeds, and whole questions are "
        "resampled or exchanged within their tasks. Intervals of scores are Wilson intervals at "
        "the effective number of independent answers; those of differences are BCa bootstraps. p "
        "comes from a paired permutation test on the mean over tasks. McNemar's test is exact, on "
        "questions that only one of the two methods gets right in most seeds. Holm adjusts for all "
        "methods compared. Wilcoxon's test takes the tasks as its sample. The deviation over seeds "
        "is the standard deviation of the mean over tasks."
    )


def render_settings(settings: Mapping[str, Any]) -> Iterator[Block]:
    """The settings that a reader must know; `results.json` has all of them."""
    team, fingerprints = settings["team"], settings["fingerprints"]
    models = []
    for candidate in team["candidates"]:
        digest = fingerprints[candidate["name"]]
        models.append(
            f"{candidate['name']} {candidate['spec']['model']}"
            + (f" ({digest[:12]})" if digest else "")
        )
    switcher = {key: team["switcher"][key] for key in ("kind", "path", "sequence")}
    if team["switcher"]["spec"] is not None:
        switcher["model"] = team["switcher"]["spec"]["model"]
    by_count: dict[str, list[str]] = {}
    for name, count in settings["tasks"].items():
        by_count.setdefault(f"{count['test']} test and {count['dev']} dev", []).append(name)
    tasks = "; ".join(
        f"{', '.join(names)}: {counts} questions" for counts, names in by_count.items()
    )
    yield Heading("Settings")
    yield Paragraph(f"{team['source'] or 'made in a program'}.", "Team.")
    yield Paragraph(f"{', '.join(models)}; {team['engine']['kind']} engine.", "Models.")
    yield Paragraph(f"{_set_values(switcher)}.", "Switcher.")
    yield Paragraph(f"{_set_values(team['policy'])}.", "Policy.")
    yield Paragraph(f"{tasks}; {counted(settings['seeds'], 'seed')}.", "Tasks.")
    yield Paragraph(
        f"Measured with the {settings['clock']} clock, up to {settings['concurrency']} answers at "
        f"the same time per process, processes: {settings['workers']} (of the last run, if there "
        "were several).",
        "Seconds.",
    )
    versions = {**settings["versions"], "commit": settings["commit"]}
    yield Paragraph(f"{_set_values(versions)}.", "Versions.")


def _in_words(value: Any) -> str:
    """A choice in words: mappings and lists by their parts, fractions rounded."""
    if isinstance(value, Mapping):
        alike = len({json.dumps(part) for part in value.values()}) == 1 < len(value)
        if alike and isinstance(next(iter(value.values())), Mapping):
            return f"for all tasks {_in_words(next(iter(value.values())))}"
        return ", ".join(f"{key} {_in_words(part)}" for key, part in value.items())
    if isinstance(value, list):
        return "-".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _set_values(values: Mapping[str, Any]) -> str:
    """The settings that have a value, each after its name."""
    return ", ".join(
        f"{key} {_in_words(value)}"
        for key, value in values.items()
        if value not in (None, "", []) and value is not False
    )
