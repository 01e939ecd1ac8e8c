"""One HTTP connection that cannot be held for ever: time-outs and limits that uvicorn lacks.

A client that sends its request slowly, keeps a connection idle or does not take what was sent is
let go of; headers have a bounded size before they are parsed.

A plain request that the application can answer at once is answered here: the task, events and
messages of an ASGI call cost more than a short frame. Every other request is left to uvicorn.
Clients send the same headers with each request: those of the last answer are not parsed again.
"""

from __future__ import annotations

import asyncio
import string
import sys
from functools import partial
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from mmindex.serve.responses import Answer, AtOnce, find_at_once

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # not POSIX: what the system's socket holds is not counted
    ioctl = None  # type: ignore[assignment]

HEADERS_WITHIN = 15.0  # seconds
TAKEN_WITHIN = 60.0  # seconds in which a client takes something of what waits for it
MOST_REQUEST_BYTES = 64 << 10  # headers and bodies: no request has a body that is read
MOST_CONNECTIONS = 4000

_METHOD, _VERSION, _END = b"GET ", b" HTTP/1.1\r\n", b"\r\n\r\n"
_LONGEST_KEPT = 4 << 10  # bytes of headers
_FRAMES = b"/frames/"
_PLAIN = (string.ascii_letters + string.digits + "._~,/-").encode()  # no escapes, no query
_NOT_PLAIN = frozenset(  # headers of requests that have a body or want more than an answer
    (b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te")
)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection with limits, and with answers that wait for nothing."""

    _received = 0
    _in_message = False  # from the first byte of a request to the last one of its body
    _same_headers = b""  # of the request answered last, if nothing else was received since then
    _is_answered = False  # the request that is parsed now, by this class
    _may_answer = False  # one request of what comes in together: others get their turn
    _headers_timer: asyncio.TimerHandle | None = None
    _taking_timer: asyncio.TimerHandle | None = None
    _idle_timer: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None  # uvicorn's `cycle` is the last one that came
    _answered_at = 0.0  # the last of the requests that this class answered, by the loop's time
    _answer_at_once: AtOnce

    def connection_made(self, transport: Any) -> None:
        """Begin a connection; of too many, the one that has waited longest for its headers ends."""
        super().connection_made(transport)
        is_plain = not (self.config.access_log or self.root_path) and self.limit_concurrency is None
        self._answer_at_once = find_at_once(self.config.app if is_plain else None)
        if len(self.connections) > MOST_CONNECTIONS:
            oldest = next(iter(_WAITING), self)  # has had the longest time to send its request
            _WAITING.pop(oldest, None)
            oldest.transport.abort()
        if not transport.is_closing():
            _WAITING[self] = None
            self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the request is too long."""
        self._received += len(data)
        if self._received > MOST_REQUEST_BYTES:
            self.transport.abort()
            return
        self._may_answer = True
        if self._same_headers and self._answer_like_before(data):
            return
        begins = not self._in_message
        super().data_received(data)
        self._same_headers = self._find_headers(data) if begins else b""
        self._expect_more()

    def on_message_begin(self) -> None:
        """Note that a request has begun: a client has limited time for its headers."""
        super().on_message_begin()
        self._in_message = True
        self._is_answered = False

    def on_headers_complete(self) -> None:
        """Stop the time for headers; answer here, or have uvicorn call the application."""
        self._received = 0
        _WAITING.pop(self, None)
        self._stop_headers_timer()
        answer = self._find_answer()
        if answer is not None:
            self._write(answer)
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Tell uvicorn that a request is whole, if it answers that one."""
        self._in_message = False
        self._stop_headers_timer()
        if not self._is_answered:
            super().on_message_complete()

    def _is_idle(self) -> bool:
        """Return whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _find_answer(self) -> Answer | None:
        """Return the answer to a plain request, if uvicorn would do no more than send it."""
        if not (self._may_answer and self._is_idle()):
            return None
        parser = self.parser
        if parser.get_method() != b"GET" or parser.get_http_version() != "1.1":
            return None
        if not (parser.should_keep_alive() and _NOT_PLAIN.isdisjoint(dict(self.headers))):
            return None
        return self._ask(self.url)

    def _answer_like_before(self, data: bytes) -> bool:
        """Answer a request that differs in its path alone from the one before; return whether."""
        target, _, headers = data[len(_METHOD) :].partition(_VERSION)
        if headers != self._same_headers or not data.startswith(_METHOD):
            return False
        answer = self._ask(target)
        if answer is None:
            return False
        self._received = 0
        self._write(answer)
        return True

    def _find_headers(self, data: bytes) -> bytes:
        """Return the bytes of the headers if `data` was one request that was answered here."""
        if not self._is_answered or self._in_message:
            return b""
        line = _METHOD + self.url + _VERSION
        headers = data[len(line) :]
        is_one = data.startswith(line) and headers.find(_END) == len(headers) - len(_END)
        return headers if is_one and len(headers) <= _LONGEST_KEPT else b""

    def _ask(self, target: bytes) -> Answer | None:
        """Return the application's answer to a GET request with the headers parsed last."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return None  # who takes nothing is waited for
        if _FRAMES not in target:  # nothing else is answered at once: it would be checked twice
            return None
        if target.translate(None, _PLAIN) or target[:1] != b"/" or target[1:2] == b"/":
            return None
        scope: Scope = self.scope  # type: ignore[assignment]
        scope["method"] = "GET"
        scope["path"] = target.decode()
        scope["raw_path"] = target
        scope["query_string"] = b""
        return self._answer_at_once(scope)

    def _write(self, answer: Answer) -> None:
        """Send an answer, and wait for the next request."""
        self._is_answered, self._may_answer = True, False
        before = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        head = b"".join((STATUS_LINE[answer.status], *before, answer.head(), b"\r\n"))
        self.transport.writelines((head, *answer.pieces))
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self._idle_timer is None:
            self._end_after(self.timeout_keep_alive)

    def _end_after(self, seconds: float) -> None:
        """Look after some time whether a client has sent nothing since its last answer.

        One timer serves many answers: to stop and begin one for each costs more than a look-up.
        """
        self._idle_timer = self.loop.call_later(seconds, self._end_if_idle)

    def _end_if_idle(self) -> None:
        self._idle_timer = None
        if self._in_message or not self._is_idle() or self.timeout_keep_alive_task is not None:
            return  # another time-out counts
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._end_after(left)
        else:
            self.timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection without a request."""
        super().timeout_keep_alive_handler()
        self._expect_end()

    def on_response_complete(self) -> None:
        """Go on with the next request, or end the connection."""
        super().on_response_complete()
        self._expect_end()

    def send_400_response(self, msg: str) -> None:
        """Say that what came is no request, but not in the middle of another answer."""
        if self._is_idle() or not (self.pipeline or self.cycle.response_started):
            super().send_400_response(msg)
        else:
            self.transport.close()
        self._expect_end()

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent, but not for ever."""
        super().pause_writing()
        if self._taking_timer is None:
            self._expect_less()

    def resume_writing(self) -> None:
        """Stop the time for taking, and go on sending."""
        if self._taking_timer is not None:
            self._taking_timer.cancel()
            self._taking_timer = None
        super().resume_writing()
        self._expect_end()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        _WAITING.pop(self, None)
        self._unset_keepalive_if_required()
        for timer in (self._headers_timer, self._taking_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        running = self._running
        if running is not None and not running.response_complete:  # others may wait behind it
            running.disconnected = True
            running.message_event.set()

    def _expect_headers(self) -> None:
        """End the connection unless headers, or the rest of a body, come in time."""
        self._headers_timer = self.loop.call_later(HEADERS_WITHIN, self.transport.abort)

    def _stop_headers_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _expect_more(self) -> None:
        """Limit the time of a connection on which nothing is answered: uvicorn's has stopped."""
        if self._headers_timer is not None or not self._is_idle():
            return
        if self._in_message:
            self._expect_headers()
        elif self._idle_timer is None and self.timeout_keep_alive_task is None:
            self._end_after(self.timeout_keep_alive)

    def _expect_end(self) -> None:
        """Have a closed connection end even if its client does not take the rest."""
        is_closing = self.transport.is_closing() and self.transport.get_write_buffer_size()
        if is_closing and self._taking_timer is None:
            self._expect_less()

    def _expect_less(self, before: int | None = None) -> None:
        """Close the connection if no byte of what waits for the client is taken in time."""
        waiting = self._count_waiting()
        if before is not None and waiting >= before:
            self.transport.abort()
            return
        expect = partial(self._expect_less, waiting)
        self._taking_timer = self.loop.call_later(TAKEN_WITHIN, expect)

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


_WAITING: dict[BoundedProtocol, None] = {}  # connections without a request yet, oldest first
