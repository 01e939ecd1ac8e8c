"""One HTTP connection that cannot be held for ever: time-outs and limits that uvicorn lacks.

A client that sends its request slowly, keeps a connection idle or does not take what was sent is
let go of; headers have a bounded size before they are parsed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # not POSIX: what the system's socket holds is not counted
    ioctl = None  # type: ignore[assignment]

HEADERS_WITHIN = 15.0  # seconds
TAKEN_WITHIN = 60.0  # seconds in which a client takes something of what waits for it
MOST_REQUEST_BYTES = 64 << 10  # headers and bodies: no request has a body that is read
MOST_CONNECTIONS = 4000


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection with limits."""

    _received = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin a connection; of too many, the one that has waited longest for its headers ends."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            oldest = next(iter(_WAITING), self)  # has had the longest time to send its request
            _WAITING.pop(oldest, None)
            oldest.transport.abort()
        if not transport.is_closing():
            _WAITING[self] = None
            self._restart(HEADERS_WITHIN)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the request is too long."""
        self._received += len(data)
        if self._received > MOST_REQUEST_BYTES:
            self.transport.abort()
            return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Give the client time for the headers of its next request."""
        super().on_message_begin()
        if self.cycle is None or self.cycle.response_complete:
            self._restart(HEADERS_WITHIN)

    def on_headers_complete(self) -> None:
        """Stop the time for headers."""
        self._received = 0
        _WAITING.pop(self, None)
        self._restart(None)
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent, but not for ever."""
        super().pause_writing()
        self._expect_less()

    def resume_writing(self) -> None:
        """Stop the time for taking, and go on sending."""
        self._restart(None)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        _WAITING.pop(self, None)
        self._restart(None)
        super().connection_lost(exc)

    def _expect_less(self, before: int | None = None) -> None:
        """Close the connection if no byte of what waits for the client is taken in time."""
        waiting = self._count_waiting()
        if before is not None and waiting >= before:
            self.transport.abort()
            return
        self._restart(TAKEN_WITHIN, partial(self._expect_less, waiting))

    def _count_waiting(self) -> int:
        """Return the bytes that the client has not taken: held here, and by the system's socket."""
        waiting: int = self.transport.get_write_buffer_size()
        connection = self.transport.get_extra_info("socket")
        if ioctl is None or connection is None:
            return waiting
        try:
            found = ioctl(connection.fileno(), TIOCOUTQ, bytes(4))
        except OSError:
            return waiting
        return waiting + int.from_bytes(found, sys.byteorder)

    def _restart(self, seconds: float | None, late: Callable[[], object] | None = None) -> None:
        """Stop the time; begin a new one after which `late` is called, or the connection ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, late or self.transport.abort)


_WAITING: dict[BoundedProtocol, None] = {}  # connections without a request yet, oldest first
