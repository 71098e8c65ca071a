"""The command line: one module a command. A person's mistake is one sentence and exit code 2, a
failed record or engine exit code 1."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Annotated, Any, NoReturn

import typer

from taketurns import __version__
from taketurns.cli import options
from taketurns.cli.analyze import analyze
from taketurns.cli.chat import chat
from taketurns.cli.check import check
from taketurns.cli.distill import distill
from taketurns.cli.evaluate import evaluate
from taketurns.cli.examples import example_of
from taketurns.cli.experiment import experiment
from taketurns.cli.export import export
from taketurns.cli.generate import generate
from taketurns.cli.launch import launch
from taketurns.cli.lm_eval import PASS_ON, lm_eval
from taketurns.cli.moved import moved_command
from taketurns.cli.old_options import OldOptions
from taketurns.cli.plan import plan
from taketurns.cli.pocket import pocket
from taketurns.cli.rollout import rollout
from taketurns.cli.safety import safety
from taketurns.cli.score import score
from taketurns.cli.serve import serve
from taketurns.cli.smol import smol
from taketurns.cli.streams import drop_streams, flush_streams, hold_streams
from taketurns.cli.tasks import tasks
from taketurns.cli.train import train
from taketurns.errors import TakeTurnsWarning, UsageError

app = typer.Typer(
    name="taketurns",
    help="The checkpoints of a training pipeline take turns writing one answer.",
    epilog="taketurns COMMAND --help shows the options of a command, and an example.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Command = Callable[..., None]
GROUPS: Mapping[str, Sequence[Command]] = MappingProxyType(
    {
        "Start": (chat, generate),  # and pocket and smol, which have commands of their own
        "Your own team": (check, tasks),
        "Train a switcher": (rollout, train, distill),
        "Compare": (evaluate, score),
        "Understand": (analyze, experiment),
        "Serve": (serve, safety),
        "Scale": (launch, plan, export),
        "Extend": (lm_eval,),
    }
)
"""The commands by what they are for, in the order of `--help` and of the README's documents."""
OLD_OPTIONS = (evaluate, analyze, experiment, safety)


def _add(group: str, function: Command) -> None:
    name = function.__name__.replace("_", "-")
    app.command(
        name,
        cls=OldOptions if function in OLD_OPTIONS else None,
        context_settings=PASS_ON if function is lm_eval else None,
        epilog=example_of(name),
        rich_help_panel=group,
    )(function)


for group, commands in GROUPS.items():
    for command in commands:
        _add(group, command)
app.add_typer(pocket, name="pocket", rich_help_panel="Start")
app.add_typer(smol, name="smol", rich_help_panel="Start")
moved_command(app, "bench", "make bench, or python -m benchmarks.overhead")

_say = options.say_as()


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


def main() -> NoReturn:
    """The entry point: turns errors and our warnings into a sentence, errors into an exit code. A
    reader of our output that has left is no error, but not all was said."""
    hold_streams()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", TakeTurnsWarning)
            warnings.showwarning = _as_sentence(warnings.showwarning)
            code = _run()
        flush_streams()
    except BrokenPipeError:
        drop_streams()
        sys.exit(options.FAILED)
    except UsageError as error:
        sys.exit(_report_error(error, options.MISTAKE))
    except Exception as error:
        sys.exit(_report_error(error, options.FAILED))
    sys.exit(code)


def _run() -> str | int:
    """The exit code of the command that was asked for, as Typer ends it."""
    try:
        app()
    except SystemExit as end:
        return 0 if end.code is None else end.code
    return 0


def _as_sentence(otherwise: Callable[..., None]) -> Callable[..., None]:
    """How a warning is shown: ours as a sentence."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, TakeTurnsWarning):
            _say(str(message))
        else:
            otherwise(message, category, *where, **more)

    return show


def _report_error(error: Exception, code: int) -> int:
    if os.environ.get("TAKETURNS_DEBUG") == "1":
        raise error
    from taketurns.runs.runner import describe_error

    sentence = describe_error(error)
    if isinstance(error, OSError) and error.strerror:
        sentence = f"cannot read or write {error.filename or 'a stream'}: {error.strerror}"
    with suppress(OSError):  # standard error has been closed
        _say(sentence)
    return code
