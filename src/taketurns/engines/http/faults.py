"""What may go wrong with one request to one server, sorted by what is to be done about it.

A `Fault` is the server's: another may do better. What is the request's own fault, and would be
refused by every server, is an EngineError at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from taketurns.errors import EngineError

# 404 is a server that has come back with other models, 408 and 425 ask for another try.
_RETRIED = {404, 408, 425, 429}
_LONGEST_REST = 300.0  # seconds; a server may not send us away for longer


class Fault(Exception):
    """A server failed at a request. `rest` is how many seconds it asked to be left alone; a `busy`
    one works as it should and has too much to do."""

    def __init__(self, reason: str, *, rest: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.rest = rest
        self.busy = busy


def refuse(status: int, headers: Mapping[str, str], body: str, key_env: str | None) -> Fault:
    """The fault behind a response that is none of success. Raises EngineError where another try
    would be in vain."""
    said = " ".join(body.split())[:300] or "no reason given"
    if status in (401, 403):
        cure = f"is {key_env} right?" if key_env else "does the server want an api_key_env?"
        raise EngineError(f"a server refused the API key ({status}); {cure}")
    if status in _RETRIED or status >= 500:
        rest = retry_after(headers.get("retry-after"))
        return Fault(f"status {status}: {said}", rest=rest, busy=status == 429)
    raise EngineError(f"a server refused a request with status {status}: {said}")


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, written as a number or a date; None if it does
    not say."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        seconds = (until - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_REST) if seconds == seconds else None
