"""The tables of docs/results/costs.md, from the JSON lines of `table`, `run` and `benchmarks.gpu`.

    python -m benchmarks.costs.report runs/bench
    python -m benchmarks.costs.report runs/bench --into docs/results/costs.md

The first prints Markdown. The second replaces each block of the page between `<!-- NAME -->` and
`<!-- end NAME -->` by the table of that name, and leaves those of tables that were not measured.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.costs.rows import WHAT, Row, Spread, read_lines, row_from_json
from taketurns.errors import DataError
from taketurns.utils.files import write_text
from taketurns.utils.markdown import table

Record = Mapping[str, Any]

RATIOS = {
    "team / single": "kept_over_single",
    "+ LM switcher / single": "kept_with_switcher_over_single",
    "team / floor": "kept_over_floor",
    "+ switcher / floor": "kept_with_switcher_over_floor",
    "re-encoding / single": "reencode_over_single",
    "public / single": "public_over_single",
    "public / team + switcher": "public_over_kept_with_switcher",
    "exact / fast": "deterministic_over_fast",
}
VARIANTS = {
    "one candidate": "single",
    "team": "kept",
    "+ LM switcher": "kept_with_switcher",
    "re-encoding": "reencode",
    "public loop": "public",
    "exact": "deterministic",
}
CLOCKS = {"cpu": "processor time of all threads", "wall": "wall-clock time"}


def rows_table(rows: Iterable[Row], setup: Record) -> str:
    """The table of rows, below a line with the code, the clock and the machine."""
    header = (
        "", "batch × tokens", "value (range)", "beside the Llama's", "to reach", "reached",
        "rounds", "",
    )  # fmt: skip
    lines = [
        (
            row.what,
            f"{row.batch} × {row.tokens}",
            _spread(row.value),
            _spread(row.beside),
            "" if row.at_most is None else f"≤ {row.at_most:.2f}",
            {True: "yes", False: "no", None: ""}[row.reached],
            str(row.rounds or ""),
            row.note,
        )
        for row in rows
    ]
    return f"{setup_line(setup)}\n\n{table(header, lines)}"


def setup_line(setup: Record) -> str:
    """The code, the clock and the machine of a measurement."""
    about = {key: value for key, value in setup.items() if key not in ("commit", "clock")}
    clock = f"{CLOCKS[setup['clock']]}; " if "clock" in setup else ""
    return f"Commit {setup['commit']}; {clock}" + ", ".join(f"{k} {v}" for k, v in about.items())


def ratios_table(overheads: Sequence[Record]) -> str:
    """The ratios by batch and length: medians of the rounds."""
    return _by_workload(overheads, RATIOS, lambda record, key: record[key], "{:.2f}")


def seconds_table(overheads: Sequence[Record]) -> str:
    """The seconds by batch and length: medians of the rounds."""
    return _by_workload(overheads, VARIANTS, lambda record, key: record["seconds"][key], "{:.1f}")


def memory_table(overheads: Sequence[Record]) -> str:
    """MiB above the weights by batch and length, with all variants in one process."""
    return _by_workload(
        overheads,
        VARIANTS,
        lambda record, key: None if (b := record["peak_bytes"][key]) is None else b / 2**20,
        "{:.0f}",
    )


def lengths_table(overheads: Sequence[Record]) -> str:
    """Seconds and ratios as answers grow."""
    rows = [
        (
            f"{record['tokens']:,}",
            f"{record['seconds']['single']:.2g} s",
            f"{record['kept_over_single']:.2f}",
            f"{record['kept_with_switcher_over_single']:.2f}",
        )
        for record in sorted(overheads, key=lambda record: record["tokens"])
    ]
    return table(("tokens", "one model", "team / one", "+ LM switcher / one"), rows)


def questions_table(questions: Sequence[Record]) -> str:
    """The bundled team and the public loop on pocket questions."""
    rows = [
        (
            str(record["batch"]),
            str(record["questions"]),
            f"{record['team_seconds']:.2g}",
            f"{record['public_seconds']:.2g}",
            f"{record['public_over_team']:.1f}",
            f"{record['rounds_over_team']:.1f}",
        )
        for record in questions
    ]
    header = ("batch", "questions", "team s", "public loop s", "public / team", "rounds / team")
    return table(header, rows)


def tables(work: Path) -> Iterator[tuple[str, str]]:
    """The tables by name, of what is measured in `work`."""
    records = [r for path in sorted(work.glob("*.jsonl")) for r in read_lines(path)]
    for name, measured in (
        ("bench", read_lines(work / "table.jsonl")),
        ("gpu", read_lines(work / "gpu.jsonl")),
    ):
        rows = [record for record in measured if record["what"] == WHAT]
        if rows:
            yield name, rows_table(map(row_from_json, rows), rows[0]["setup"])
    overheads = [record for record in records if record["what"] == "overhead"]
    large = [record for record in overheads if record["models"] == "llama-100m"]
    lengths = [record for record in overheads if record["models"] == "llama-13m"]
    questions = [record for record in records if record["what"] == "questions"]
    by_name: Mapping[str, tuple[Sequence[Record], Callable[[Sequence[Record]], str]]] = {
        "ratios": (large, ratios_table),
        "seconds": (large, seconds_table),
        "memory": (large, memory_table),
        "lengths": (lengths, lengths_table),
        "questions": (questions, questions_table),
    }
    for name, (its, made) in by_name.items():
        if its:
            yield name, f"{_setups(its)}\n\n{made(its)}"


def put_into(page: str, name: str, text: str) -> str:
    """The page with `text` in the block of that name. Raises DataError if there is no block."""
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    filled, found = block.subn(lambda match: f"{match[1]}{text}{match[2]}", page)
    if not found:
        raise DataError(f"the page has no block <!-- {name} --> … <!-- end {name} -->")
    return filled


def _by_workload(
    overheads: Sequence[Record],
    columns: Mapping[str, str],
    value: Callable[[Record, str], float | None],
    form: str,
) -> str:
    """A row for each batch and length, with the median of its rounds in each column."""
    rows = []
    for batch, tokens in sorted({(record["batch"], record["tokens"]) for record in overheads}):
        same = [r for r in overheads if (r["batch"], r["tokens"]) == (batch, tokens)]
        cells = []
        for key in columns.values():
            values = [v for record in same if (v := value(record, key)) is not None]
            cells.append(form.format(median(values)) if values else "")
        rounds = sum(record["repeats"] for record in same)
        rows.append((str(batch), str(tokens), *cells, str(rounds)))
    return table(("batch", "tokens", *columns, "rounds"), rows)


def _setups(records: Sequence[Record]) -> str:
    """The setup of each record's run, once each: runs that were continued may have several."""
    lines = (setup_line({**r["setup"], "clock": r.get("clock", "wall")}) for r in records)
    return "\n".join(dict.fromkeys(lines))


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.median:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.costs.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", type=Path, help="the folder of the JSON lines")
    parser.add_argument("--into", type=Path, help="the page with a block for each table")
    chosen = parser.parse_args(arguments)
    made = dict(tables(chosen.work))
    if not made:
        parser.error(f"{chosen.work} has no measurement: run make bench, bench-all or bench-gpu")
    if chosen.into is None:
        for name, text in made.items():
            print(f"## {name}\n\n{text}")
        return
    page = chosen.into.read_text(encoding="utf-8")
    for name, text in made.items():
        page = put_into(page, name, text)
    write_text(chosen.into, page)


if __name__ == "__main__":
    main()
