"""`taketurns launch`: the command."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from taketurns.cli import options


def launch(
    team: Annotated[str, typer.Option("--team", "-t", help="A team file with engine.kind http.")],
    run: Annotated[
        bool, typer.Option("--run", help="Start the servers and keep them running.")
    ] = False,
    vllm: Annotated[str, typer.Option(help="vLLM's program, for --run.")] = "vllm",
    write: Annotated[
        Path | None,
        typer.Option(help="A folder for manifests of Docker Compose, Kubernetes and Ray Serve."),
    ] = None,
    manifest: Annotated[
        Literal["compose", "kubernetes", "ray-serve"] | None,
        typer.Option(help="Print this manifest, or with --write, write only this one."),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--arg", help="An argument for every server; may be repeated."),
    ] = None,
    set_: options.SetOption = None,
) -> None:
    """Print the commands that serve a team's models on this host with vLLM, or run them."""
    from taketurns.generation.check.weights import weight_bytes
    from taketurns.integrations.launch.hardware import find_gpus
    from taketurns.integrations.launch.plan import plan_servers
    from taketurns.integrations.launch.supervise import Supervisor

    config = options.load_team(team, set_)
    servers = plan_servers(config, find_gpus(), weight_bytes, argument or ())
    if write is not None:
        from taketurns.integrations.launch.manifests import KINDS, team_urls, write_manifests

        for path in write_manifests(servers, team, write, (manifest,) if manifest else KINDS):
            _say(f"wrote {path}")
        if manifest != "ray-serve":
            for here, there in team_urls(servers).items():
                _say(f"in the team file for containers, write {there} in place of {here}")
    elif manifest is not None:
        from taketurns.integrations.launch import manifests

        print(manifests.manifest(manifest, servers, team), end="")  # noqa: T201
    elif not run:
        for server in servers:
            print(server)  # noqa: T201
    if run:
        try:
            asyncio.run(Supervisor(servers, vllm, _say).run())
        except asyncio.CancelledError:
            _say("the servers are stopped")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201
