"""`taketurns launch`: the command."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from taketurns.cli import options

_manifests = partial(typer.Option, rich_help_panel="Manifests")


def launch(
    team: Annotated[str, typer.Option("--team", "-t", help="A team file with engine.kind http.")],
    run: Annotated[
        bool, typer.Option("--run", help="Start the servers and keep them running.")
    ] = False,
    vllm: Annotated[str, typer.Option(help="vLLM's program, for --run.")] = "vllm",
    write: Annotated[
        Path | None,
        _manifests(help="A folder for manifests of Docker Compose, Kubernetes and Ray Serve."),
    ] = None,
    manifest: Annotated[
        Literal["compose", "kubernetes", "ray-serve"] | None,
        _manifests(
            metavar="KIND",
            help="Print the manifest of this kind (compose, kubernetes or ray-serve), or write it "
            "alone with --write.",
        ),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--arg", help="An argument for every server; may be repeated."),
    ] = None,
    set_: options.SetOption = None,
) -> None:
    """Print or run the vLLM servers of a team.

    The commands are printed, run on this host with --run, or written as manifests.
    """
    import asyncio

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
