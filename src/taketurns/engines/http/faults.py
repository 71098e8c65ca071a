"""Failures of one request to one server, by what to do about them.

A `RetryableError` is a failure of this server; another one may succeed. A request that every server
would refuse raises an EngineError at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from taketurns.errors import EngineError

# Statuses with which every server would refuse the request. Any other status may be a fault of one
# server: 404 comes from a server that restarted with other models, 408 and 425 ask for another
# attempt, a redirect or 418 comes from a proxy in front of one server.
_REFUSED = {400, 413, 422}
_LONGEST_COOLDOWN = 300.0  # seconds: a longer Retry-After is shortened to this


class RetryableError(Exception):
    """A server failed at a request. `retry_after` is the number of seconds for which it asked for
    no requests. A `busy` server works but has too many requests."""

    def __init__(
        self, reason: str, *, retry_after: float | None = None, busy: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.busy = busy


def refuse(
    status: int, headers: Mapping[str, str], body: str, key_env: str | None
) -> RetryableError:
    """The failure for a response whose status is not 200. Raises EngineError if every server would
    refuse the request."""
    reason = " ".join(body.split())[:300] or "no reason given; see its log"
    if status in (401, 403):
        cure = f"correct the key in {key_env}" if key_env else "set api_key_env in the team file"
        raise EngineError(f"a server refused the API key (status {status}): {cure}")
    if status in _REFUSED:
        raise EngineError(f"a server refused a request with status {status}: {reason}")
    if 300 <= status < 400 and (place := headers.get("location")):
        reason = f"it redirects to {place[:200]}, but redirects are not followed: write that url"
    return RetryableError(
        f"status {status}: {reason}",
        retry_after=parse_retry_after(headers.get("retry-after")),
        busy=status == 429,
    )


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """The seconds in a Retry-After header, which is a number or a date; None if it is not valid."""
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
            return None  # the parser raises any of these for an invalid date
    return min(max(seconds, 0.0), _LONGEST_COOLDOWN) if seconds == seconds else None
