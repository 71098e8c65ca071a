"""Transformers' own bars, hints and reports, off where they would drown a run's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def peft_asks_as_before() -> Iterator[None]:
    """For where an adapter is put on a model: up to 0.21 PEFT asks the model for an attribute by a
    name that transformers 5 has deprecated, and TRL does too. It is not a warning to users of ours,
    who can do nothing about it."""
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
        with peft_asks_as_before():
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
