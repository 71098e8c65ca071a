"""Options of the commands that run here or on Ray."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

RunnerOption = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Run here, or on Ray: the output is a folder of Parquet shards then."),
]
ActorsOption = Annotated[int, typer.Option(help="With ray: teams at work at a time.")]
TASKS_HELP = (
    "A task; may be repeated (default: those of the pocket world, for a team that was made for it)."
)
WORLD_HELP = "The pocket world to ask about, the --seed of its build (default: the team's)."
NamedWorldOption = Annotated[int | None, typer.Option(min=0, help=WORLD_HELP)]
GpusOption = Annotated[float, typer.Option(help="With ray: GPUs of each.")]
ShardOption = Annotated[int, typer.Option(help="With ray: records in a shard.")]
