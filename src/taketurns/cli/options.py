"""Common parts of the commands: options, messages and exit codes.

Results go to standard output; everything else goes to standard error, one sentence per line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from taketurns.config.bundled import NAMES
from taketurns.errors import UsageError

if TYPE_CHECKING:
    from taketurns.config.team_config import TeamConfig
    from taketurns.runs.shards import RaySettings
    from taketurns.tasks.base import Task
    from taketurns.tasks.registry import Choices

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes: a record or an engine failed, the user made a mistake, Ctrl-C was pressed."""

Say = Callable[[str], None]

question_option = partial(typer.Option, rich_help_panel="Questions")
training_option = partial(typer.Option, rich_help_panel="Training")
execution_option = partial(typer.Option, rich_help_panel="Execution")
"""Options of the panels that commands share in `--help`: what is asked and how often, how a model
learns, and how the work is done. An option without a panel stands above these."""

TASKS_HELP = (
    "A task; may be repeated (default: the pocket world's tasks, for a team that was made for it)."
)
WORLD_HELP = "The pocket world to ask about, the --seed of its build (default: the team's)."

TeamOption = Annotated[str, typer.Option("--team", "-t", help=f"A team file, or {NAMES}.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as policy.patch_size=32."),
]
SchemaOption = Annotated[
    Path | None,
    typer.Option(help="A JSON schema: every answer is JSON that is valid by it (policy.format)."),
]
SeedOption = Annotated[
    int | None, typer.Option(help="The seed of all draws (default: the team's).")
]
TasksOption = Annotated[list[str] | None, question_option(help=TASKS_HELP)]
DataOption = Annotated[
    Path | None,
    question_option(
        help="The authors' JSON of a benchmark, or a folder with it (default: the hub)."
    ),
]
WithOption = Annotated[
    list[str] | None,
    question_option(
        "--with", metavar="KEY=VALUE", help="A setting of the scorer, such as model=DIR."
    ),
]
SplitOption = Annotated[
    Literal["train", "dev", "test"], question_option(help="The split of the tasks.")
]
LoraOption = Annotated[
    bool | None,
    training_option(
        "--lora/--full",
        help="Train a LoRA adapter or all weights (default: LoRA from 20 million parameters).",
    ),
]
RankOption = Annotated[int, training_option(min=1, help="The rank of the LoRA adapter.")]
ReportToOption = Annotated[
    str, training_option(help="A tracker of transformers, such as wandb or tensorboard.")
]
WorldOption = Annotated[int | None, question_option(min=0, help=WORLD_HELP)]
FolderOption = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
ConcurrencyOption = Annotated[int, execution_option(min=1, help="Concurrent answers.")]
ClockOption = Annotated[
    Literal["wall", "cpu"],
    execution_option(help="cpu counts only computing time, for one thread on a busy machine."),
]
RunnerOption = Annotated[
    Literal["local", "ray"],
    execution_option(help="Run here, or on Ray, which writes a folder of Parquet shards."),
]
ActorsOption = Annotated[
    int, execution_option(help="With ray: concurrent actors, each with a team.")
]
GpusOption = Annotated[float, execution_option(help="With ray: GPUs per actor.")]
ShardOption = Annotated[int, execution_option(help="With ray: records per shard.")]


def say_as(command: str = "") -> Say:
    """A function that prints a sentence to standard error, after the command's name."""
    name = f"taketurns {command}".strip()

    def say(sentence: str) -> None:
        print(f"{name}: {sentence}", file=sys.stderr, flush=True)  # noqa: T201

    return say


def print_result(record: Mapping[str, Any], rendering: Callable[[], Any], *, as_json: bool) -> None:
    """Print a result as JSON, or as its rendering."""
    if as_json:
        print_json(record)
        return
    from rich.console import Console

    Console().print(rendering())


def print_json(record: Mapping[str, Any]) -> None:
    """Print a result as JSON."""
    from rich.console import Console

    Console().print_json(data=dict(record))


@contextmanager
def interruptible(say: Say, *, goes_on: bool = True) -> Iterator[None]:
    """Ends the command with one sentence on Ctrl-C. `goes_on`: the command can be continued."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; the same command continues from here" if goes_on else "interrupted")
        raise typer.Exit(INTERRUPTED) from None


def load_team(
    team: str,
    settings: Sequence[str] | None = None,
    seed: int | None = None,
    schema: Path | None = None,
) -> TeamConfig:
    """The team of `--team`, with the values of `--set`, `--seed` and `--schema`. Raises
    ConfigError."""
    from taketurns.config.loading import load_team_config

    overrides = parse_settings(settings)
    if schema is not None:
        overrides["policy.format"] = {"json": read_bytes(str(schema)).decode("utf-8", "replace")}
    if seed is not None:
        overrides["policy.seed"] = seed
    return load_team_config(team, overrides)


def parse_settings(settings: Sequence[str] | None) -> dict[str, object]:
    """The values of `--set` or `--with`. Raises ConfigError."""
    from taketurns.config.settings import parse_setting

    return dict(map(parse_setting, settings or ()))


def task_choices(
    data: Path | None,
    settings: Sequence[str] | None,
    scoring: Literal["ours", "moco"] = "ours",
    *,
    scored: bool = True,
    world: int = 0,
) -> Choices:
    """The choices of `--data`, `--with` and similar options. Raises ConfigError."""
    from taketurns.tasks.registry import Choices

    return Choices(data, parse_settings(settings) or None, scoring, scored, world)


def load_tasks(
    team: str,
    names: Sequence[str] | None,
    say: Say,
    data: Path | None,
    settings: Sequence[str] | None = None,
    world: int | None = None,
) -> list[Task]:
    """The tasks of `--task`, or those that the team was made for. Raises UsageError."""
    from taketurns.tasks.defaults import choose_tasks
    from taketurns.tasks.registry import find_tasks

    chosen = choose_tasks(team, names or (), say, world)
    return find_tasks(chosen.names, task_choices(data, settings, world=chosen.world))


def ray_settings(runner: str, actors: int, gpus: float, shard: int) -> RaySettings | None:
    """The settings for Ray; None if the command runs here. Raises UsageError."""
    from taketurns.runs.shards import RaySettings

    return RaySettings(actors, gpus, shard) if runner == "ray" else None


def split_words(text: str | None) -> list[str]:
    """The words of an option that takes several, separated by commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def read_bytes(source: str, error_class: type[UsageError] = UsageError) -> bytes:
    """The content of a file, or of standard input for `-`. Raises `error_class`."""
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise error_class(f"cannot read {source}: {error.strerror}") from error


def write_lines(
    path: Path, lines: Sequence[bytes], error_class: type[UsageError] = UsageError
) -> None:
    """Write a small result. Raises `error_class`."""
    try:
        path.write_bytes(b"".join(lines))
    except OSError as error:
        raise error_class(f"cannot write {path}: {error.strerror}") from error
