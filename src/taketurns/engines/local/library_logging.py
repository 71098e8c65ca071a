"""Switch off transformers' progress bars, hints and reports where they would hide a run's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def asked_by_an_old_name() -> Iterator[None]:
    """Hide a deprecation warning while an adapter is loaded or TRL lets a model write: PEFT 0.21
    and TRL 1.16 use the name `is_gradient_checkpointing`, which transformers 5 has deprecated. This
    package does not use it, and its users cannot change it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Show only errors of transformers."""
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
