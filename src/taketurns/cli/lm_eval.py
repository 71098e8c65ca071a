"""`taketurns lm-eval …`: lm-evaluation-harness with a team as one of its models."""

from __future__ import annotations

import sys

import typer

from taketurns.cli.examples import example_of
from taketurns.utils.extras import require

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness with a team as its model.

    All arguments go to the harness.
    """
    if not context.args or {"-h", "--help"} & {*context.args}:  # the harness shows its own help
        print(f"{example_of('lm-eval')}\n", flush=True)  # noqa: T201
    require("lm-evaluation-harness", "lm_eval")
    from lm_eval.__main__ import cli_evaluate

    import taketurns.integrations.lm_eval  # noqa: F401  # registers the model

    sys.argv = ["taketurns lm-eval", *context.args]  # the harness reads sys.argv
    cli_evaluate()
