"""Connections with timeouts: one is closed if its client stops reading, or does not finish the head
of a request.

uvicorn waits for a client to read all data, also when it closes a connection. So a client that
stops reading would keep the connection and its queued data forever. uvicorn also does not limit the
time for the head of a request. `middleware.BodyLimit` limits the body.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: also drop the data queued in the system


def timeout_protocol(stall: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol with timeouts. A connection is closed if the client has read no byte of
    the waiting data for `stall` seconds (detected within twice that time), or if the head of a
    request takes longer."""

    class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _unread = 0  # bytes
        _write_timer: asyncio.TimerHandle | None = None
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # writing pauses while data waits
            self._transport = transport
            self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_write_timer()
            self._stop_head_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._expect_head()  # the head is not complete yet
            else:
                self._stop_head_timer()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._expect_reading()

        def resume_writing(self) -> None:
            self._stop_write_timer()
            super().resume_writing()

        def _expect_reading(self) -> None:
            self._unread = self._transport.get_write_buffer_size()
            self._write_timer = asyncio.get_running_loop().call_later(stall, self._check_reading)

        def _check_reading(self) -> None:
            if self._transport.get_write_buffer_size() < self._unread:  # slow, but it reads
                self._expect_reading()
                return
            self.scope["taketurns"]["error"] = "client_stalled"
            connected = self._transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

        def _expect_head(self) -> None:
            if self._head_timer is None:
                close = self._transport.close
                self._head_timer = asyncio.get_running_loop().call_later(stall, close)

        def _stop_head_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _stop_write_timer(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

    return Connection
