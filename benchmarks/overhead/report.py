"""The printed report: a table with the floor for each pool of models, and the questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.overhead.overhead import Overhead
from benchmarks.overhead.questions import Questions
from benchmarks.overhead.suite import OverheadResults

LABELS: Mapping[str, str] = {
    "single": "one candidate, transformers generate",
    "kept": "team, kept caches",
    "kept_with_switcher": "team, kept caches, LM switcher",
    "reencode": "team, everything encoded anew",
    "public": "loop of public code",
    "deterministic": "team, kept caches, deterministic",
}


def show(console: Console, results: OverheadResults) -> None:
    """Print everything that was measured."""
    setup = ", ".join(f"{key} {value}" for key, value in results.setup.items())
    console.print(setup, style="dim", highlight=False)
    for result in results.overheads:
        console.print(overhead_table(result))
    if results.questions:
        console.print(questions_table(results.questions))


def overhead_table(result: Overhead) -> Table:
    """Variants in rows: seconds, the ratio to one model alone and to the floor, peak memory."""
    workload = result.workload
    table = Table(
        title=f"{result.models}: batch {workload.batch}, {workload.tokens} tokens, "
        f"{result.threads} threads",
        title_justify="left",
        caption=_caption(result),
        caption_justify="left",
    )
    table.add_column("")
    for heading in ("seconds", "x single", "x floor", "peak MiB"):
        table.add_column(heading, justify="right")
    floors = {"kept": result.floor, "kept_with_switcher": result.floor_with_switcher}
    single = result.seconds.get("single")
    for name, seconds in result.seconds.items():
        peak = result.peak_bytes[name]
        table.add_row(
            LABELS[name],
            f"{seconds:.3g}",
            _times(seconds, single),
            _times(seconds, floors.get(name)),
            "" if peak is None else f"{peak / 2**20:.0f}",
        )
    table.add_section()
    for label, floor in (
        ("floor without a switcher", result.floor),
        ("floor with one", result.floor_with_switcher),
    ):
        table.add_row(label, f"{floor:.3g}", _times(floor, single), "", "")
    return table


def questions_table(raced: Sequence[Questions]) -> Table:
    """A row per batch size."""
    table = Table(
        title="pocket dev questions, to the end of all answers",
        title_justify="left",
        caption="rounds: the public loop with patches that end at an end token",
        caption_justify="left",
    )
    for heading in ("batch", "questions", "team s", "public s", "x team", "rounds s", "x team"):
        table.add_column(heading, justify="right")
    for result in raced:
        table.add_row(
            str(result.batch),
            str(result.questions),
            f"{result.team_seconds:.3g}",
            f"{result.public_seconds:.3g}",
            f"{result.public_over_team:.1f}",
            f"{result.rounds_seconds:.3g}",
            f"{result.rounds_over_team:.1f}",
        )
    return table


def _caption(result: Overhead) -> str:
    ratios = result.ratios
    lines = [
        f"candidates read {result.team_work.tokens_read} tokens of others, the switcher read "
        f"{result.switcher_work.tokens_read}"
    ]
    if (ratio := ratios["public_over_kept_with_switcher"]) is not None:
        brief = ratios["public_brief_over_kept_with_switcher"]
        lines.append(
            f"public code over team with switcher: {ratio:.2f} ({brief:.2f} if its switcher "
            "stopped after one token)"
        )
    if (ratio := ratios["deterministic_over_fast"]) is not None:
        lines.append(f"deterministic over fast: {ratio:.2f}")
    return "\n".join(lines)


def _times(seconds: float, other: float | None) -> str:
    return f"{seconds / other:.2f}" if other else ""
