"""Structured logs: one JSON object per line, on standard error. They have no text of clients unless
the configuration allows it: for an exception that quotes its input, only its kind is logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from traceback import format_tb
from typing import Any

from fastapi.exceptions import ValidationException
from pydantic import ValidationError as PydanticError

LOG = logging.getLogger("taketurns.server")
_OTHERS = (("uvicorn", logging.WARNING), ("opentelemetry", logging.WARNING))


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; `extra={"fields": {…}}` adds keys."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)

    def formatException(self, ei: Any) -> str:
        return "".join(_lines(ei[1])).rstrip()


def _lines(error: BaseException) -> Iterator[str]:
    """A traceback in Python's format, after the tracebacks of the exceptions that led to it."""
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        yield from _lines(earlier)
        yield "\nand then:\n\n"
    yield from format_tb(error.__traceback__)
    kind = type(error).__name__
    quotes = isinstance(error, PydanticError | ValidationException)
    yield f"{kind}\n" if quotes else f"{kind}: {error}\n"
    for member in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _lines(member)


def log_to_stderr() -> None:
    """Send the logs of this package, uvicorn and OpenTelemetry to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, level in (("taketurns.server", logging.INFO), *_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
