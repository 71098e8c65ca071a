"""Errors about a request that was translated name the fields that it had before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from taketurns.server.errors import ApiError

Places = Sequence[tuple[re.Pattern[str], str]]
"""Expressions that find fields of a chat request, and what stands for them."""


@contextmanager
def named_as(places: Places) -> Iterator[None]:
    """Rename the fields in errors that are raised inside."""
    try:
        yield
    except ApiError as error:
        for pattern, place in places:
            error.message = pattern.sub(place, error.message)
            error.param = None if error.param is None else pattern.sub(place, error.param)
        raise
