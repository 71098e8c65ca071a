"""What a client is told when something is wrong: OpenAI's error object, with the fitting status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException

from taketurns.errors import CapacityError, EngineError, LengthError, PromptError, UsageError


class ApiError(HTTPException):
    """An error with an HTTP status. `code` is for programs, `param` the field that is to blame.

    `retry` False tells OpenAI's clients not to send the same request again. `more` goes into the
    body beside the error, `reason` into the log and to no client: it may name servers and files.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        if retry is not None:
            self.headers = {**(self.headers or {}), "x-should-retry": str(retry).lower()}
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.more = dict(more or {})
        self.reason = reason

    def fields(self) -> dict[str, Any]:
        """What the log says of it."""
        reason = {} if self.reason is None else {"reason": self.reason}
        return {"error": self.code, **reason}

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            },
            **self.more,
        }


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The request itself is wrong: 400."""
    return ApiError(400, message, param=param, code=code)


def busy(seconds: int) -> ApiError:
    """Too many wait already: 429."""
    return ApiError(
        429,
        f"too many requests are waiting; try again in {seconds} s",
        kind="rate_limit_error",
        code="queue_full",
        headers={"retry-after": str(seconds)},
    )


def leaving(seconds: int = 1) -> ApiError:
    """The server is shutting down: 503."""
    return ApiError(
        503,
        "the server is shutting down",
        kind="server_error",
        code="shutting_down",
        headers={"retry-after": str(seconds)},
    )


def too_slow(seconds: float, began: bool) -> ApiError:
    """The answer took longer than it may: 504, or 503 where it never began."""
    if not began:
        return ApiError(
            503,
            f"no answer could be begun within {seconds:g} s",
            kind="server_error",
            code="queue_timeout",
            headers={"retry-after": "1"},
        )
    return ApiError(
        504,
        f"the answer was not finished within {seconds:g} s",
        kind="server_error",
        code="timeout",
        retry=False,
    )


def failed(error: Exception) -> ApiError:
    """What went wrong in this package, as a client is told."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptError):  # the query's id is of our making
        code = "context_length_exceeded" if isinstance(error, LengthError) else None
        return refused(error.what, code=code)
    if isinstance(error, UsageError):
        return refused(str(error))
    if isinstance(error, CapacityError):
        code, said = "no_memory", str(error)
        return ApiError(503, said, kind="server_error", code=code, retry=False, reason=said)
    if isinstance(error, EngineError):
        said = "a model failed: the server's log says why"
        return ApiError(500, said, kind="server_error", code="engine_error", reason=str(error))
    return ApiError(500, "something went wrong here", kind="server_error", code="internal_error")
