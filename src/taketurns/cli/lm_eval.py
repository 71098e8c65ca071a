"""`taketurns lm-eval …`: lm-evaluation-harness with a team as one of its models."""

from __future__ import annotations

import sys

import typer

from taketurns.utils.extras import require

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness with the model taketurns; all arguments go to the harness."""
    require("lm-evaluation-harness", "lm_eval")
    from lm_eval.__main__ import cli_evaluate

    import taketurns.integrations.lm_eval  # noqa: F401  # registers the model

    sys.argv = ["taketurns lm-eval", *context.args]  # the harness reads sys.argv
    cli_evaluate()
