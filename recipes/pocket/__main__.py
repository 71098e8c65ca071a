"""Build the bundled pipeline from scratch: `python -m recipes.pocket --output DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recipes.pocket.build import build
from recipes.pocket.recipe import ArchitectureName, BuildStage
from recipes.terminal import run

app = typer.Typer(add_completion=False)


@app.command()
def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to build in.")],
    seed: Annotated[int, typer.Option(help="Equal seeds build equal checkpoints.")] = 0,
    architecture: Annotated[
        ArchitectureName, typer.Option(help="What the checkpoints are.")
    ] = "llama",
    until: Annotated[
        BuildStage | None,
        typer.Option(help="Stop after this stage (default: build everything, with the card)."),
    ] = None,
) -> None:
    """Train the miniature pipeline from scratch; the same command continues after a stop."""
    build(output, seed, architecture=architecture, until=until)


if __name__ == "__main__":
    run(app, "recipes.pocket")
