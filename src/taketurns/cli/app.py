"""The command line: a few lines a command. Results go to standard output, the rest to standard
error. A person's mistake is one sentence and exit code 2, a failed record or engine exit code 1."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from benchmarks.overhead.__main__ import bench
from taketurns import __version__
from taketurns.cli.analyze import analyze
from taketurns.cli.distill import distill
from taketurns.cli.evaluate import evaluate
from taketurns.cli.experiment import experiment
from taketurns.cli.export import export
from taketurns.cli.launch import launch
from taketurns.cli.lm_eval import PASS_ON, lm_eval
from taketurns.cli.next_step import after_generate, after_rollout
from taketurns.cli.old_options import OldOptions
from taketurns.cli.options import (
    TASKS_HELP,
    ActorsOption,
    GpusOption,
    NamedWorldOption,
    RunnerOption,
    ShardOption,
)
from taketurns.cli.plan import plan
from taketurns.cli.safety import safety
from taketurns.cli.score import DataOption, WithOption, choices, tasks
from taketurns.cli.score import score as score_answers
from taketurns.cli.serve import serve
from taketurns.cli.streams import drop_streams, flush_streams, hold_streams
from taketurns.cli.train import train
from taketurns.errors import LostTextWarning, PromptError, UsageError

if TYPE_CHECKING:
    from taketurns.config.team_config import TeamConfig
    from taketurns.generation.check.local import TeamReport
    from taketurns.generation.check.served import ServedReport
    from taketurns.generation.team import Team
    from taketurns.pocket.score import Scores
    from taketurns.runs.manifest import Manifest
    from taketurns.runs.records import BadLine
    from taketurns.runs.runner import Outcome
    from taketurns.tasks.base import Split
    from taketurns.types import Query

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="taketurns",
    help="The checkpoints of a training pipeline take turns writing one answer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
pocket = typer.Typer(no_args_is_help=True, help="The bundled miniature pipeline.")
app.add_typer(pocket, name="pocket")
app.add_typer(bench, name="bench")
app.command()(train)
app.command()(distill)
app.command("score")(score_answers)
app.command()(tasks)
app.command("lm-eval", context_settings=PASS_ON)(lm_eval)
app.command(cls=OldOptions)(evaluate)
app.command(cls=OldOptions)(analyze)
app.command(cls=OldOptions)(experiment)
app.command()(serve)
app.command()(launch)
app.command()(plan)
app.command()(export)
app.command(cls=OldOptions)(safety)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"taketurns {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None: ...


TeamOption = Annotated[
    str, typer.Option("--team", "-t", help='A team file, or "pocket" for the bundled team.')
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, as policy.patch_size=32."),
]
SeedOption = Annotated[
    int | None, typer.Option(help="The seed of all draws (default: the team's).")
]

WorldOption = Annotated[
    int, typer.Option(min=0, help="The pocket world to ask about: the --seed of its build.")
]


def main() -> NoReturn:
    """The entry point: turns errors and our warnings into a sentence, errors into an exit code. A
    reader of our output that has left is no error, but not all was said."""
    hold_streams()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", LostTextWarning)
            warnings.showwarning = _shown(warnings.showwarning)
            code = _run()
        flush_streams()
    except BrokenPipeError:
        drop_streams()
        sys.exit(FAILED)
    except UsageError as error:
        sys.exit(_complain(error, MISTAKE))
    except Exception as error:
        sys.exit(_complain(error, FAILED))
    sys.exit(code)


def _run() -> str | int:
    """The exit code of the command that was asked for, as Typer ends it."""
    try:
        app()
    except SystemExit as end:
        return 0 if end.code is None else end.code
    return 0


def _shown(otherwise: Callable[..., None]) -> Callable[..., None]:
    """How a warning is shown: ours as a sentence."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, LostTextWarning):
            _say(str(message))
        else:
            otherwise(message, category, *where, **more)

    return show


@app.command()
def generate(
    team: TeamOption,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Answers, one a line; - is stdout.")
    ],
    input: Annotated[  # noqa: A002
        str | None,
        typer.Option("--input", "-i", help="Prompts, one JSON object a line; - is stdin."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The questions of a task, in place of --input.")
    ] = None,
    data: DataOption = None,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Of the task.")] = "test",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many prompts.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Answers under way at a time.")] = 32,
    runner: RunnerOption = "local",
    actors: ActorsOption = 1,
    gpus: GpusOption = 0,
    shard: ShardOption = 64,
    seed: SeedOption = None,
    set_: SetOption = None,
) -> None:
    """Answer every prompt of a file, or every question of a task. The same command goes on where a
    run was stopped."""
    from taketurns.runs.manifest import describe_run
    from taketurns.utils.files import is_stream

    if (input is None) == (task is None):
        raise UsageError("say what to answer: either --input FILE or --task NAME")
    config = _config(team, set_, seed)
    source = input or f"task {task}"
    bad: list[BadLine] = []
    if input is not None:
        asked = _read(input)
        queries, bad = _queries(asked, input, limit)
    else:
        queries, asked = _questions(team, str(task), data, split, limit)
    manifest = describe_run("generate", config, asked, input=source, limit=limit)
    path = None if output == "-" else Path(output)
    goes_on = path is not None and not is_stream(path)
    try:
        if runner == "ray":
            from taketurns.integrations.ray.jobs import answer_on_ray
            from taketurns.runs.shards import RaySettings

            if path is None:
                raise UsageError("--runner ray writes a folder: give --output one")
            settings = RaySettings(actors, gpus, shard)
            outcome = answer_on_ray(config, queries, path, manifest, settings, concurrency)
        else:
            with asyncio.Runner() as loop:
                outcome = loop.run(_generate(config, queries, source, path, manifest, concurrency))
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here" if goes_on else "interrupted")
        raise typer.Exit(INTERRUPTED) from None
    if outcome.failed:
        again = "; the same command tries them again" if goes_on else ""
        _say(f"{outcome.failed} of {len(queries)} prompts failed, first: {outcome.error}{again}")
    if outcome.failed or bad:
        raise typer.Exit(FAILED)
    if path is not None:
        _say(after_generate(path, len(queries), task, data, split, limit))


async def _generate(
    config: TeamConfig,
    queries: list[Query],
    source: str,
    path: Path | None,
    manifest: Manifest,
    concurrency: int,
) -> Outcome:
    """Nothing is written before every prompt is known to fit and every model is loaded."""
    from taketurns.generation.team import Team
    from taketurns.runs.output import JsonlOutput, claimed
    from taketurns.runs.records import trace_to_json
    from taketurns.runs.runner import run
    from taketurns.runs.terminal import Progress
    from taketurns.utils.files import is_stream

    async with Team.load(config) as team:
        names = [candidate.name for candidate in team.candidates]
        bar = not ((path is None or is_stream(path)) and sys.stdout.isatty())
        with JsonlOutput(None) if path is None else claimed(path, manifest) as output:
            left = [query for query in queries if query.id not in output.kept]
            kept = len(queries) - len(left)
            with Progress("checking", len(left), bar=bar, passing=True) as progress:
                await _check_prompts(team, left, source, progress.advance)
            if left:
                await team.prepare()
            with Progress("generating", len(queries), kept, bar=bar) as progress:

                async def answer(query: Query) -> dict[str, Any]:
                    return trace_to_json(await team.agenerate(query), names)

                return await run(
                    queries,
                    lambda query: query.id,
                    answer,
                    output,
                    concurrency=concurrency,
                    on_done=lambda record: progress.advance(record.get("tokens", 0)),
                )


async def _check_prompts(
    team: Team, queries: list[Query], source: str, on_done: Callable[[], None]
) -> None:
    for query in queries:
        await asyncio.sleep(0)  # for Ctrl-C: checking waits for nothing
        try:
            await team.check_prompt(query)
        except PromptError as error:
            raise PromptError(f"{source}: {error}") from error
        on_done()


@app.command()
def rollout(
    output: Annotated[Path, typer.Option("--output", "-o", help="Utilities, a prefix a line.")],
    team: TeamOption = "pocket",
    task: Annotated[
        list[str] | None,
        typer.Option(help=TASKS_HELP),
    ] = None,
    data: DataOption = None,
    with_: WithOption = None,
    prefixes: Annotated[int, typer.Option(min=1, help="Prefixes, over all tasks.")] = 1000,
    k: Annotated[
        int | None, typer.Option(min=1, help="Rollouts a branch (default: 8; racing: 32 at most).")
    ] = None,
    allocate: Annotated[
        Literal["uniform", "racing"],
        typer.Option(help="k for each branch, or as many as it takes to tell the best one."),
    ] = "uniform",
    traces: Annotated[
        Literal["random", "on-policy", "mixed"],
        typer.Option(help="Who switches: nobody, the team's switcher, or both by turns."),
    ] = "random",
    cuts: Annotated[
        Literal["boundary", "anywhere"],
        typer.Option(help="Prefixes end where a patch does, or at any token."),
    ] = "boundary",
    concurrency: Annotated[int, typer.Option(min=1, help="Rollouts under way at a time.")] = 64,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how much work it would be.")
    ] = False,
    runner: RunnerOption = "local",
    actors: ActorsOption = 1,
    gpus: GpusOption = 0,
    shard: ShardOption = 64,
    world: NamedWorldOption = None,
    seed: SeedOption = None,
    set_: SetOption = None,
) -> None:
    """Measure what each candidate's next patch is worth. The same command goes on after a stop."""
    from taketurns.tasks.defaults import choose_tasks
    from taketurns.tasks.registry import find_tasks
    from taketurns.training.labels.allocation import allocation_named
    from taketurns.training.labels.job import RolloutJob, estimate_rollouts, make_rollouts

    asked = choose_tasks(team, task or (), _say, world)
    plan = RolloutJob.of(
        _config(team, set_, seed),
        find_tasks(asked.names, choices(data, with_, world=asked.world)),
        prefixes=prefixes,
        allocation=allocation_named(allocate, k),
        traces=traces,
        cut_at=cuts,
        concurrency=concurrency,
    )
    if dry_run:
        print(estimate_rollouts(plan))  # noqa: T201
        return
    try:
        if runner == "ray":
            from taketurns.integrations.ray.jobs import roll_out_on_ray
            from taketurns.runs.shards import RaySettings

            made = roll_out_on_ray(plan, output, RaySettings(actors, gpus, shard))
        else:
            made = make_rollouts(plan, output)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if made.lost:
        _say(
            f"{made.lost} rollouts failed; each is counted in its record, with the first one's "
            "reason"
        )
    if made.failed:
        _say(
            f"{made.failed} of {prefixes} prefixes failed, first: {made.error}; the same command "
            "tries them again"
        )
        raise typer.Exit(FAILED)
    _say(after_rollout(output, prefixes, team))


@app.command()
def chat(
    team: TeamOption = "pocket",
    speaker: Annotated[
        str | None, typer.Option(help="Talk with this candidate alone instead of the team.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Show who was considered for each patch.")
    ] = False,
    seed: SeedOption = None,
    set_: SetOption = None,
) -> None:
    """Talk with a team. Each patch has its speaker's colour and mark."""
    from rich.console import Console

    from taketurns.cli.chat import Chat
    from taketurns.generation.team import Team

    whole = Team.load(_config(team, set_, seed))
    speaking = whole if speaker is None else whole.alone(speaker)
    if code := Chat(speaking, Console(), probabilities=probabilities).run():
        raise typer.Exit(code)


@app.command()
def check(
    team: TeamOption,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    weights: Annotated[
        bool, typer.Option(help="Read all weights for NaN, not only those of small models.")
    ] = False,
    set_: SetOption = None,
) -> None:
    """Say whether a team fits this machine, or what its servers can do; loads no weights."""
    from rich.console import Console

    from taketurns.generation.check.local import inspect_team
    from taketurns.generation.check.served import inspect_servers

    config = _config(team, set_)
    served = config.engine.kind == "http"
    report: TeamReport | ServedReport
    if served:
        report = asyncio.run(inspect_servers(config))
    else:
        report = asyncio.run(inspect_team(config, numbers=weights))
    if json_:
        Console().print_json(data=report.to_json())
    else:
        Console().print(report)
    if not report.fits:
        raise typer.Exit(FAILED)


@pocket.command(cls=OldOptions)
def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to build in.")],
    seed: Annotated[int, typer.Option(help="Equal seeds build equal checkpoints.")] = 0,
    architecture: Annotated[
        Literal["llama", "qwen3"], typer.Option(help="What the checkpoints are.")
    ] = "llama",
    until: Annotated[
        Literal["pretrained", "sft", "aligned", "labels", "switchers"] | None,
        typer.Option(help="Stop after this stage (default: go on to the card)."),
    ] = None,
) -> None:
    """Train the miniature pipeline from nothing; the same command goes on after a stop."""
    from recipes.pocket.build import build as build_pocket

    build_pocket(output, seed, architecture=architecture, until=until)


@pocket.command()
def demo(
    team: TeamOption = "pocket",
    each: Annotated[int, typer.Option(min=1, help="Questions a task.")] = 8,
) -> None:
    """The bundled team on held-out questions, then each checkpoint alone on the same ones."""
    from rich.console import Console

    from taketurns.cli.demo import show
    from taketurns.generation.team import Team
    from taketurns.pocket import TASKS

    async def run() -> None:
        async with Team.load(_config(team)) as loaded:
            await show(loaded, list(TASKS.values()), Console(), each=each)

    asyncio.run(run())


@pocket.command()
def gates(
    team: TeamOption = "pocket",
    questions: Annotated[int, typer.Option(min=1, help="Test questions a task.")] = 15,
    samples: Annotated[int, typer.Option(min=1, help="Answers a question and system.")] = 64,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Best of n: does random switching solve what no checkpoint solves in as many answers?"""
    from rich.console import Console

    from recipes.pocket.best_of import best_of
    from taketurns.generation.team import Team
    from taketurns.pocket import TASKS
    from taketurns.runs.terminal import Progress, gate_table

    async def run() -> None:
        settings = {"engine.deterministic": False, "engine.max_batch": 256}
        async with Team.load(_config(team, [f"{k}={v}" for k, v in settings.items()])) as loaded:
            total = len(TASKS) * questions * samples * (len(loaded.candidates) + 1)
            with Progress("sampling", total) as progress:
                result = await best_of(
                    loaded, TASKS, questions=questions, samples=samples, on_done=progress.advance
                )
        if json_:
            Console().print_json(data=result.to_json())
        else:
            Console().print(gate_table(result.to_json()))

    asyncio.run(run())


@pocket.command()
def relabel(
    labels: Annotated[Path, typer.Option(help="Rollouts of the pocket tasks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The same with other utilities.")],
    recaller: Annotated[
        str, typer.Option(help="Who recalls best; the others have what tuning teaches.")
    ] = "pretrained",
    world: WorldOption = 0,
) -> None:
    """Label prefixes by rules that know the model answer, to hold labels from rollouts against."""
    from taketurns.pocket.skills import relabel as by_rules
    from taketurns.pocket.tasks import tasks_named
    from taketurns.runs.output import once
    from taketurns.runs.records import from_lines, to_line

    tasks = {task.name: task for task in tasks_named(None, world)}
    lines = _read(str(labels)).splitlines(keepends=True)
    relabelled = by_rules(once(from_lines(lines, str(labels))), tasks, recaller)
    try:
        output.write_bytes(b"".join(map(to_line, relabelled)))
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error


@pocket.command()
def score(
    team: TeamOption = "pocket",
    methods: Annotated[
        str,
        typer.Option(help="Candidates, random, untuned, switch-global, …-practised, …-lm, …-task."),
    ] = "pretrained,sft,aligned,random,untuned,switch-global",
    task: Annotated[
        list[str] | None, typer.Option(help="This task alone; may be given several times.")
    ] = None,
    split: Annotated[Literal["train", "dev", "test"], typer.Option()] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Questions a task (default: all).")] = (
        None
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Answers a question, of as many seeds.")] = 1,
    switchers: Annotated[
        Path | None, typer.Option(help="A folder with trained switchers by name.")
    ] = None,
    switcher: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="One more trained switcher, as the method NAME."),
    ] = None,
    world: WorldOption = 0,
    values: Annotated[
        Path | None,
        typer.Option(help="Write each answer's score there: {method: {task: [[a seed …] …]}}."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    set_: SetOption = None,
) -> None:
    """What checkpoints alone and switched answers score, with 95 % intervals."""
    from rich.console import Console

    from taketurns.pocket.score import Methods, parse_switcher
    from taketurns.pocket.score import score as measure
    from taketurns.pocket.tasks import tasks_named
    from taketurns.runs.terminal import Progress

    tasks = {one.name: one for one in tasks_named(task, world)}
    more = dict(parse_switcher(text) for text in switcher or ())
    named = [method.strip() for method in methods.split(",")]
    made = Methods(_config(team, set_), named, list(tasks), switchers, more)
    asked = sum(len(one.queries(split)[:limit]) for one in tasks.values())

    async def run() -> Scores:
        with Progress("answering", asked * seeds * len(named)) as progress:
            try:
                return await measure(
                    made.teams,
                    tasks,
                    split=split,
                    limit=limit,
                    seeds=seeds,
                    on_done=progress.advance,
                )
            finally:
                await made.engine.close()

    scores = asyncio.run(run())
    if values is not None:
        scores.write(values)
    if json_:
        Console().print_json(data=scores.to_json())
    else:
        Console().print(scores.table())


def _config(team: str, settings: list[str] | None = None, seed: int | None = None) -> TeamConfig:
    from taketurns.config.team_config import load_team_config, parse_setting

    overrides = dict(parse_setting(setting) for setting in settings or ())
    if seed is not None:
        overrides["policy.seed"] = seed
    return load_team_config(team, overrides)


def _questions(
    team: str, task: str, data: Path | None, split: Split, limit: int | None
) -> tuple[list[Query], bytes]:
    """The questions of a task, and the same as lines."""
    from taketurns.runs.records import query_to_json, to_line
    from taketurns.tasks.defaults import choose_tasks
    from taketurns.tasks.registry import find_task

    world = choose_tasks(team, [task], _say).world
    chosen = choices(data, None, scored=False, world=world)
    queries = find_task(task, chosen).queries(split)[:limit]
    if not queries:
        raise UsageError(f"task {task!r} has no questions in its {split} split")
    return list(queries), b"".join(to_line(query_to_json(query)) for query in queries)


def _read(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error


def _queries(data: bytes, source: str, limit: int | None) -> tuple[list[Query], list[BadLine]]:
    """The first prompts of a file, and the lines among them that are none, which are reported."""
    from taketurns.runs.records import BadLine, read_queries

    queries: list[Query] = []
    bad: list[BadLine] = []
    for read in read_queries(data, source):
        if isinstance(read, BadLine):
            bad.append(read)
        else:
            queries.append(read)
        if len(queries) == limit:
            break
    for line in bad:
        _say(f"{source}:{line.line}: {line.reason}; this line is left out")
    return queries, bad


def _complain(error: Exception, code: int) -> int:
    if os.environ.get("TAKETURNS_DEBUG") == "1":
        raise error
    from taketurns.runs.runner import describe

    said = describe(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"cannot read or write {error.filename or 'a stream'}: {error.strerror}"
    with suppress(OSError):  # there is no one left to say it to
        _say(said)
    return code


def _say(sentence: str) -> None:
    print(f"taketurns: {sentence}", file=sys.stderr)  # noqa: T201
