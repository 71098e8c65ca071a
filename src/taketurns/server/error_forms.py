"""Errors in the form of the API that was asked by."""

from __future__ import annotations

from typing import Any

from taketurns.server.errors import ApiError

_ANTHROPIC = "/v1/messages"
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(error: ApiError, path: str) -> dict[str, Any]:
    """The body of an error's response to a request for `path`."""
    if path == _ANTHROPIC or path.startswith(f"{_ANTHROPIC}/"):
        return anthropic_error(error)
    return error.body()


def anthropic_error(error: ApiError) -> dict[str, Any]:
    """Anthropic's error object. Beside it, `code` and `param` are as in OpenAI's."""
    default = "invalid_request_error" if error.status_code < 500 else "api_error"
    kind = _KINDS.get(error.status_code, default)
    detail = {"type": kind, "message": error.message, "param": error.param, "code": error.code}
    return {"type": "error", "error": detail, **error.more}
