"""A connection that does not wait for ever: it is cut when its client reads nothing any more, or
does not finish the head of a request.

uvicorn waits for a client to take what was written, also when it closes a connection, and a client
that stops reading would keep the connection and all that is queued in it for as long as it likes.
Nor does it mind a request that never gets as far as its body; how long that may take is known at
the `edge`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what the system has queued is dropped too


def impatient(stall: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol for connections that are cut when not a byte of what waits to be sent has
    been taken for `stall` seconds, and within twice that; or when the head of a request takes
    longer."""

    class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _unread = 0
        _timer: asyncio.TimerHandle | None = None
        _patience: asyncio.TimerHandle | None = None  # for the head of a request

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # writing pauses while anything waits
            self._transport = transport
            self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest()
            self._arrived()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._expect()  # if something has begun, it is not a request yet
            else:
                self._arrived()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch()

        def resume_writing(self) -> None:
            self._rest()
            super().resume_writing()

        def _watch(self) -> None:
            self._unread = self._transport.get_write_buffer_size()
            self._timer = asyncio.get_running_loop().call_later(stall, self._look)

        def _look(self) -> None:
            if self._transport.get_write_buffer_size() < self._unread:  # slow, but it reads
                self._watch()
                return
            self.scope["taketurns"]["error"] = "client_stalled"
            connected = self._transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

        def _expect(self) -> None:
            if self._patience is None:
                close = self._transport.close
                self._patience = asyncio.get_running_loop().call_later(stall, close)

        def _arrived(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

        def _rest(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Connection
