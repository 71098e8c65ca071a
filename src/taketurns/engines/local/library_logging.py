"""Transformers' own bars, hints and reports, off where they would drown a run's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def asked_by_an_old_name() -> Iterator[None]:
    """For where an adapter is put on a model, or TRL lets a model write: PEFT 0.21 and TRL 1.16 ask
    the model whether activations are computed twice by a name that transformers 5 has deprecated.
    No call of ours does, and our users can do nothing about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Only errors are shown."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with asked_by_an_old_name():
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
