"""Records what clients send to a served team and what the team answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Exchange:
    """A request and its response. `sent` is the body of the request, `received` that of the
    response, as far as they came."""

    method: str
    path: str
    sent: bytearray = field(default_factory=bytearray)
    status: int | None = None
    received: bytearray = field(default_factory=bytearray)

    @property
    def request(self) -> dict[str, Any]:
        """The body of the request; empty where there is none."""
        return json.loads(self.sent) if self.sent else {}

    @property
    def events(self) -> list[dict[str, Any]]:
        """The response as JSON objects: the events of a stream, or the one."""
        text = self.received.decode()
        if not text.startswith("data:"):
            return [json.loads(text)]
        events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        return [json.loads(event) for event in events if event != "[DONE]"]

    @property
    def is_answer(self) -> bool:
        """Whether this asked for an answer and got one."""
        return self.path.endswith("/completions") and self.status == 200

    @property
    def refusal(self) -> str | None:
        """The message of an error, with the address where it says nothing of a field."""
        if self.status is None or self.status < 400:
            return None
        try:
            return f"{self.status}: {self.events[0]['error']['message']}"
        except (ValueError, KeyError):
            return f"{self.status} {self.method} {self.path}"

    @property
    def text(self) -> str:
        """What the first choice says."""
        pieces = []
        for event in self.events:
            for choice in event.get("choices", [])[:1]:
                said = choice.get("message") or choice.get("delta") or choice
                pieces.append(said.get("content") or said.get("text") or "")
        return "".join(pieces)

    @property
    def tokens(self) -> int:
        """How many tokens were written, as the pieces of a stream say."""
        choices = [choice for event in self.events for choice in event.get("choices", [])]
        return sum(choice.get("taketurns", {}).get("tokens", 0) for choice in choices)

    @property
    def finish(self) -> str | None:
        """Why the first choice ended."""
        reasons = [
            choice["finish_reason"] for event in self.events for choice in event.get("choices", [])
        ]
        return next((reason for reason in reasons if reason is not None), None)


class Recorder:
    """An application that records the exchanges of another one."""

    def __init__(self, app: ASGIApp) -> None:
        self.exchanges: list[Exchange] = []
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/health"):
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope["method"], scope["path"])
        self.exchanges.append(exchange)

        async def recorded_receive() -> Message:
            message = await receive()
            exchange.sent += message.get("body", b"")
            return message

        async def recorded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            exchange.received += message.get("body", b"")
            await send(message)

        await self._app(scope, recorded_receive, recorded_send)
