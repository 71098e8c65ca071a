"""`taketurns generate`: answer the prompts of a file or a task."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taketurns.cli import options
from taketurns.cli.base_consent import load_or_fetch
from taketurns.cli.next_step import after_generate
from taketurns.errors import PromptError, UsageError

if TYPE_CHECKING:
    from taketurns.config.team_config import TeamConfig
    from taketurns.generation.team import Team
    from taketurns.runs.manifest import Manifest
    from taketurns.runs.records import InvalidLine
    from taketurns.runs.runner import Failures
    from taketurns.tasks.base import Split
    from taketurns.types import Query

_say = options.say_as()


def generate(
    team: options.TeamOption,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="Answers, one per line; - is stdout."),
    ],
    input: Annotated[  # noqa: A002
        str | None,
        typer.Option("--input", "-i", help="Prompts, one JSON object per line; - is stdin."),
    ] = None,
    task: Annotated[
        str | None, options.question_option(help="The questions of a task, in place of --input.")
    ] = None,
    data: options.DataOption = None,
    split: options.SplitOption = "test",
    limit: Annotated[
        int | None,
        options.question_option(min=1, help="Answer only the first prompts, up to this number."),
    ] = None,
    concurrency: options.ConcurrencyOption = 32,
    runner: options.RunnerOption = "local",
    actors: options.ActorsOption = 1,
    gpus: options.GpusOption = 0,
    shard: options.ShardOption = 64,
    schema: options.SchemaOption = None,
    seed: options.SeedOption = None,
    set_: options.SetOption = None,
) -> None:
    """Answer every prompt of a file, or every question of a task.

    After a stop, the same command continues.
    """
    import asyncio

    from taketurns.runs.description import describe_run
    from taketurns.utils.files import is_stream

    if (input is None) == (task is None):
        raise UsageError("give the prompts: either --input FILE or --task NAME")
    config = load_or_fetch(team, _say, set_, seed, schema)
    source = input or f"task {task}"
    bad: list[InvalidLine] = []
    parts: dict[str, Any] = {}
    if input is not None:
        raw = options.read_bytes(input)
        queries, bad = _queries(raw, input, limit)
    else:
        queries, raw, parts = _questions(team, str(task), data, split, limit)
    manifest = describe_run("generate", config, raw, input=source, limit=limit)
    manifest = manifest.with_inputs(**parts)
    path = None if output == "-" else Path(output)
    goes_on = path is not None and not is_stream(path)
    with options.interruptible(_say, goes_on=goes_on):
        if runner == "ray" and path is None:
            raise UsageError("--runner ray writes a folder, not -: set --output to a folder")
        ray = options.ray_settings(runner, actors, gpus, shard)
        if ray is not None and path is not None:
            from taketurns.integrations.ray.jobs import answer_on_ray

            failures = answer_on_ray(config, queries, path, manifest, ray, concurrency)
        else:
            with asyncio.Runner() as loop:
                failures = loop.run(_generate(config, queries, source, path, manifest, concurrency))
    if failures:
        again = "; the same command tries them again" if goes_on else ""
        _say(f"{failures.count} of {len(queries)} prompts failed, first: {failures.first}{again}")
    if failures or bad:
        raise typer.Exit(options.FAILED)
    if path is not None:
        _say(after_generate(path, len(queries), task, data, split, limit))


async def _generate(
    config: TeamConfig,
    queries: list[Query],
    source: str,
    path: Path | None,
    manifest: Manifest,
    concurrency: int,
) -> Failures:
    """Answer the queries. Nothing is written before every prompt is checked and every model is
    loaded."""
    from taketurns.generation.team import Team
    from taketurns.runs.output import open_run
    from taketurns.runs.progress import Progress
    from taketurns.runs.records import trace_to_json
    from taketurns.runs.runner import run
    from taketurns.utils.files import is_stream

    async with Team.load(config) as team:
        names = [candidate.name for candidate in team.candidates]
        bar = not ((path is None or is_stream(path)) and sys.stdout.isatty())

        async def answer(query: Query) -> dict[str, Any]:
            return trace_to_json(await team.agenerate(query), names)

        with open_run(path, manifest) as output:
            left = output.missing(queries)
            with Progress("checking", len(left), bar=bar, passing=True) as progress:
                await _check_prompts(team, left, source, progress.advance)
            if left:
                await team.prepare()
            return await run(
                queries, answer, output, concurrency=concurrency, label="generating", bar=bar
            )


async def _check_prompts(
    team: Team, queries: list[Query], source: str, on_done: Callable[[], None]
) -> None:
    import asyncio

    for query in queries:
        await asyncio.sleep(0)  # lets Ctrl-C interrupt
        try:
            await team.check_prompt(query)
        except PromptError as error:
            raise PromptError(f"{source}: {error}") from error
        on_done()


def _questions(
    team: str, task: str, data: Path | None, split: Split, limit: int | None
) -> tuple[list[Query], bytes, dict[str, Any]]:
    """The questions of a task, the same as lines, and what describes a task of the user's own."""
    from taketurns.runs.records import encode_record, query_to_json
    from taketurns.tasks.defaults import choose_tasks
    from taketurns.tasks.own_parts import own_parts
    from taketurns.tasks.registry import find_task

    world = choose_tasks(team, [task], _say).world
    chosen = options.task_choices(data, None, scored=False, world=world)
    found = find_task(task, chosen)
    queries = found.queries(split)[:limit]
    if not queries:
        raise UsageError(
            f"the task {task!r} has no questions in its {split} split: choose another --split"
        )
    lines = b"".join(encode_record(query_to_json(query)) for query in queries)
    return list(queries), lines, own_parts([found])


def _queries(data: bytes, source: str, limit: int | None) -> tuple[list[Query], list[InvalidLine]]:
    """The first prompts of a file, and the invalid lines among them, which are reported."""
    from taketurns.runs.records import InvalidLine, read_queries

    queries: list[Query] = []
    bad: list[InvalidLine] = []
    for read in read_queries(data, source):
        if isinstance(read, InvalidLine):
            bad.append(read)
        else:
            queries.append(read)
        if len(queries) == limit:
            break
    for line in bad:
        _say(f"{source}:{line.line}: {line.reason}; this line is skipped")
    return queries, bad
