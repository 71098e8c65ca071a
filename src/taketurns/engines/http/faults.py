"""What may go wrong with one request to one server, sorted by what is to be done about it.

A `RetryableError` is the server's: another may do better. What is the request's own fault, and
would be refused by every server, is an EngineError at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from taketurns.errors import EngineError

# What every server would refuse. Any other status may be one server's own trouble: 404 is one that
# has come back with other models, 408 and 425 ask for another try, a redirect or a teapot is a
# proxy before one of them.
_REFUSED = {400, 413, 422}
_LONGEST_COOLDOWN = 300.0  # seconds; a server may not send us away for longer


class RetryableError(Exception):
    """A server failed at a request. `retry_after` is how many seconds it asked to be left alone; a
    `busy` one works as it should and has too much to do."""

    def __init__(
        self, reason: str, *, retry_after: float | None = None, busy: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.busy = busy


def refuse(
    status: int, headers: Mapping[str, str], body: str, key_env: str | None
) -> RetryableError:
    """The fault behind a response with another status than 200. Raises EngineError where every
    server would refuse the request."""
    reason = " ".join(body.split())[:300] or "no reason given"
    if status in (401, 403):
        cure = f"is {key_env} right?" if key_env else "does the server want an api_key_env?"
        raise EngineError(f"a server refused the API key ({status}); {cure}")
    if status in _REFUSED:
        raise EngineError(f"a server refused a request with status {status}: {reason}")
    if 300 <= status < 400 and (place := headers.get("location")):
        reason = f"it redirects to {place[:200]}, and redirects are not followed"
    return RetryableError(
        f"status {status}: {reason}",
        retry_after=parse_retry_after(headers.get("retry-after")),
        busy=status == 429,
    )


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, written as a number or a date; None if it does
    not say."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
            if until.tzinfo is None:
                until = until.replace(tzinfo=UTC)
            seconds = (until - (now or datetime.now(UTC))).total_seconds()
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return None  # the parser raises all of these for dates that are none
    return min(max(seconds, 0.0), _LONGEST_COOLDOWN) if seconds == seconds else None
