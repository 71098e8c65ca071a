"""Structured logs: a JSON object a line, on standard error. Nobody's text is in them unless the
configuration says so: of an exception that quotes what it was given, only the kind."""

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
    """A record as one line of JSON; `extra={"fields": {…}}` gives it more keys."""

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
        return "".join(_told(ei[1])).rstrip()


def _told(error: BaseException) -> Iterator[str]:
    """As Python tells it, the exceptions that led to this one before it."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before)
        yield "\nand then:\n\n"
    yield from format_tb(error.__traceback__)
    kind = type(error).__name__
    quotes = isinstance(error, PydanticError | ValidationException)
    yield f"{kind}\n" if quotes else f"{kind}: {error}\n"
    for one in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _told(one)


def log_to_stderr() -> None:
    """Send what this package, uvicorn and OpenTelemetry have to say to standard error, a JSON
    object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, level in (("taketurns.server", logging.INFO), *_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
