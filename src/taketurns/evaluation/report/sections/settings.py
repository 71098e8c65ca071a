"""What the results were made with, what was chosen on dev, and how the figures are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from taketurns.evaluation.report.blocks import Block, Heading, Paragraph
from taketurns.evaluation.report.formatting import counted


def render_chosen(results: Mapping[str, Any]) -> Iterator[Block]:
    """What each method chose on dev."""
    chosen = {name: m["chosen"] for name, m in results["methods"].items() if m["chosen"]}
    if chosen:
        yield Heading("Chosen on dev")
        for name, choice in chosen.items():
            yield Paragraph(f"{name}: {_in_words(choice)}.")


def render_guide() -> Iterator[Block]:
    """How to read the figures."""
    yield Heading("How to read this")
    yield Paragraph(
        "The unit is the question: its score is the mean over seeds, and questions are resampled "
        "or exchanged whole, within their tasks. Intervals of scores are Wilson's at the number of "
        "independent answers that would be as sure; those of differences are BCa bootstraps. p is "
        "of a paired permutation test on the mean over tasks; McNemar's is exact, on questions "
        "that only one of two methods gets right in most seeds. Holm adjusts for all methods "
        "compared. Wilcoxon's test has the tasks as its sample. The seeds' deviation is that of "
        "the mean over tasks from seed to seed."
    )


def render_settings(settings: Mapping[str, Any]) -> Iterator[Block]:
    """What the results were made with, as far as their reader must know; `results.json` has all of
    it."""
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
    yield Heading("What this was made with")
    yield Paragraph(f"{team['source'] or 'made in a program'}.", "Team.")
    yield Paragraph(f"{', '.join(models)}; {team['engine']['kind']} engine.", "Models.")
    yield Paragraph(f"{_set_values(switcher)}.", "Switcher.")
    yield Paragraph(f"{_set_values(team['policy'])}.", "Policy.")
    yield Paragraph(f"{tasks}; {counted(settings['seeds'], 'seed')}.", "Tasks.")
    yield Paragraph(
        f"By the {settings['clock']} clock, {settings['concurrency']} answers under way at a time "
        f"in a process, processes: {settings['workers']} (in the last run, if there were several).",
        "Seconds.",
    )
    versions = {**settings["versions"], "commit": settings["commit"]}
    yield Paragraph(f"{_set_values(versions)}.", "Versions.")


def _in_words(value: Any) -> str:
    """A choice in words: mappings and lists as their parts, fractions rounded."""
    if isinstance(value, Mapping):
        alike = len({json.dumps(part) for part in value.values()}) == 1 < len(value)
        if alike and isinstance(next(iter(value.values())), Mapping):
            return f"for all tasks {_in_words(next(iter(value.values())))}"
        return ", ".join(f"{key} {_in_words(part)}" for key, part in value.items())
    if isinstance(value, list):
        return "-".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _set_values(values: Mapping[str, Any]) -> str:
    """Settings that say something, each after its name."""
    return ", ".join(
        f"{key} {_in_words(value)}"
        for key, value in values.items()
        if value not in (None, "", []) and value is not False
    )
