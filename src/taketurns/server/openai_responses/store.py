"""Responses that were given, for as long as there is room for them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from taketurns.server.errors import ApiError

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A `response` as it was given, and the `messages` of the conversation up to its end, without
    instructions; both are JSON."""

    response: bytes
    messages: bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.response) + len(self.messages)


class ResponseStore:
    """At most `count` responses of at most `size` bytes together. A new one drops those whose last
    use is longest ago."""

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._used = 0
        self._lock = Lock()  # responses are encoded, and then kept, in threads
        self._stored: OrderedDict[str, StoredResponse] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stored)

    def keep(self, identifier: str, stored: StoredResponse) -> None:
        """Store a response, unless it is too large for the store by itself."""
        with self._lock:
            self._stored[identifier] = stored
            self._used += stored.size
            while len(self._stored) > self._count or self._used > self._size:
                _, dropped = self._stored.popitem(last=False)
                self._used -= dropped.size

    def response(self, identifier: str) -> bytes:
        """A response as it was given. Raises ApiError for one that is not stored."""
        with self._lock:
            return self._find(identifier, None).response

    def messages(self, identifier: str) -> list[JsonObject]:
        """The messages up to a response's end. Raises ApiError for one that is not stored."""
        with self._lock:
            stored = self._find(identifier, "previous_response_id")
        messages: list[JsonObject] = json.loads(stored.messages)
        return messages

    def delete(self, identifier: str) -> None:
        """Drop a response. Raises ApiError for one that is not stored."""
        with self._lock:
            self._used -= self._find(identifier, None).size
            del self._stored[identifier]

    def _find(self, identifier: str, param: str | None) -> StoredResponse:
        if identifier not in self._stored:
            what = "" if param is None else f"{param}: "
            raise ApiError(
                404,
                f"{what}there is no response {identifier[:64]!r} here: it was not stored, or "
                f"dropped for newer ones (this server keeps up to {self._count}); send the "
                "conversation as input",
                param=param,
                code="response_not_found" if param is None else "previous_response_not_found",
            )
        self._stored.move_to_end(identifier)
        return self._stored[identifier]


def as_json(messages: Sequence[JsonObject]) -> bytes:
    """Messages as they are stored."""
    return json.dumps(messages, ensure_ascii=False).encode()
