"""The error object of OpenAI's API, and the HTTP status of every failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException

from taketurns.errors import CapacityError, EngineError, LengthError, PromptError, UsageError


class ApiError(HTTPException):
    """An error with an HTTP status. `code` is for programs, `param` is the wrong field.

    `retry=False` makes OpenAI's clients not repeat the request; `retry_after` is in seconds. `more`
    goes into the body beside the error. `reason` goes only into the log, because it may name
    servers and files.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry: bool = True,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(status, message)
        self.headers: dict[str, str] = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)
        if not retry:
            self.headers["x-should-retry"] = "false"
        self.message = message
        self.code = code
        self.param = param
        self.more: dict[str, Any] = {}
        self.reason = reason

    @property
    def kind(self) -> str:
        """OpenAI's `type` of an error with this status."""
        if self.status_code == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status_code < 500 else "server_error"

    def fields(self) -> dict[str, Any]:
        """Keys for the line in the log."""
        reason = {} if self.reason is None else {"reason": self.reason}
        return {"error": self.code, **reason}

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error, **self.more}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The request is not valid: 400."""
    return ApiError(400, message, param=param, code=code)


def too_large(limit: int, how: str = "", **options: Any) -> ApiError:
    """The body has more than `limit` bytes, `how` they were counted: 413."""
    message = f"a request may have at most {limit} bytes{' ' if how else ''}{how}"
    return ApiError(413, message, code="request_too_large", **options)


def unknown_address(path: str) -> ApiError:
    """Nothing is served at `path`: 404. Most often a client's base URL lacks /v1."""
    message = (
        f"there is no {path[:64]!r} here: answers are at /v1/chat/completions, /v1/completions, "
        "/v1/responses and /v1/messages; the base URL of OpenAI's clients ends with /v1"
    )
    return ApiError(404, message)


def queue_full(seconds: int) -> ApiError:
    """Too many answers are waiting: 429."""
    message = f"too many requests are waiting; try again in {seconds} s"
    return ApiError(429, message, code="queue_full", retry_after=seconds)


def loading() -> ApiError:
    """The server is not ready yet: 503."""
    return ApiError(503, "the models are being loaded", code="loading", retry_after=1)


def shutting_down() -> ApiError:
    """The server admits no more requests: 503."""
    return ApiError(503, "the server is shutting down", code="shutting_down", retry_after=1)


def engine_ended() -> ApiError:
    """The engine failed and cannot recover: 503."""
    message = "the models have stopped and cannot recover: restart the server"
    return ApiError(503, message, code="engine_ended", retry=False)


def timed_out(seconds: float, began: bool) -> ApiError:
    """The answer took longer than `seconds`: 504, or 503 if it did not start."""
    if not began:
        message = f"the answer did not start within {seconds:g} s: try again later"
        return ApiError(503, message, code="queue_timeout", retry_after=1)
    message = f"the answer was not finished within {seconds:g} s: lower max_tokens"
    return ApiError(504, message, code="timeout", retry=False)


def as_api_error(error: Exception) -> ApiError:
    """The error for a client, from an exception of this package."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptError):  # without the query's id, which is internal
        code = "context_length_exceeded" if isinstance(error, LengthError) else None
        return bad_request(error.what, error.setting, code)
    if isinstance(error, UsageError):
        return bad_request(str(error))
    if isinstance(error, CapacityError):
        return ApiError(503, str(error), code="no_memory", retry=False, reason=str(error))
    if isinstance(error, EngineError):
        message = "a model failed: see the server's log"
        return ApiError(500, message, code="engine_error", reason=str(error))
    return ApiError(500, "the server failed: see its log", code="internal_error")
