"""Connections end in time, whatever a client sends or leaves unread, and no answer is broken."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom_bytes import dicom_file, element, image_attributes
from served_archive import CT, STUDY, Server, header
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import mmindex
from mmindex.serve import application
from mmindex.serve.protocol import BoundedProtocol

PLACE = f"/dicom-web/studies/{STUDY}/series/1.2.3.2/instances/{CT}"
HOST = "Host: 127.0.0.1\r\n"
SIDE = 100


def request(path: str, headers: str = "", method: str = "GET") -> bytes:
    return f"{method} {PLACE}{path} HTTP/1.1\r\n{HOST}{headers}\r\n".encode()


FRAME, CALLED = request("/frames/1"), request("/metadata")
POST = request("", "Content-Length: 10\r\n", "POST")


def write(folder: Path, side: int) -> bytes:
    """Write a square image of bytes, and return these."""
    pixels = os.urandom(side * side)
    data = header(CT, STUDY, "1.2.3.2", "CR", b"Big^A ", "20200102")
    data += image_attributes(rows=side, columns=side) + element(0x7FE00010, "OB", pixels)
    (folder / "image.dcm").write_bytes(dicom_file(data))
    mmindex.build(folder, workers=1)
    return pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("small")
    write(found, SIDE)
    return found


@pytest.fixture(params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest, folder: Path, monkeypatch: Any) -> Iterator[Server]:
    """Serve with short times; each of them is far shorter than what a test waits."""
    pytest.importorskip(request.param)
    monkeypatch.setattr("mmindex.serve.protocol.HEADERS_WITHIN", 0.4)
    monkeypatch.setattr("mmindex.serve.protocol.TAKEN_WITHIN", 0.4)
    app = application(folder, revalidate_after=3600)
    running = Server(app, timeout_keep_alive=1, loop=request.param)
    yield running
    running.stop()


def connect(server: Server, received: int | None = None) -> socket.socket:
    """Return a connection, with a system that holds few of the bytes that are not read."""
    connection = socket.socket()
    if received is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    connection.settimeout(8)
    connection.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
    return connection


@pytest.mark.parametrize(
    "pieces",
    [
        [CALLED, b"\r\n"],
        [FRAME, FRAME, b"\r\n"],
        [FRAME, CALLED, b"\r\n", b"\r\n"],
        [CALLED, b"\r\n", CALLED, b"G"],
        [POST],
        [POST, b"a"],
        [POST, b"a" * 10],
        [POST, b"a" * 10, b"\r\n"],
        [POST + b"a" * 10, b"\r\n"],
        [FRAME, POST, b"a" * 9],
    ],
    ids=lambda pieces: f"{len(pieces)}-{pieces[-1][:12]!r}",
)
def test_no_byte_makes_an_idle_connection_last(server, pieces):
    """Empty lines and bodies after their answer: the time without a request goes on."""
    with connect(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.15)
        try:
            while connection.recv(1 << 16):
                pass
        except ConnectionError:
            pass  # a time-out of the socket would be an error of the test


def test_a_body_that_is_whole_stops_the_time_for_it(server):
    """A connection goes on after a body that came late."""
    with connect(server) as connection:
        for piece in (POST, b"a" * 5, b"a" * 5):
            connection.sendall(piece)
            time.sleep(0.1)
        assert b" 405 " in connection.recv(1 << 16)
        time.sleep(0.5)
        connection.sendall(CALLED)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")


def fill(server: Server, connection: socket.socket) -> Any:
    """Ask for frames until one waits for the client, and return the server's side."""
    for _ in range(3000):
        connection.sendall(FRAME)
        time.sleep(0.002)
        for one in server.server.server_state.connections:
            if one.transport.get_write_buffer_size():
                return one
    raise AssertionError("the system takes everything")


@pytest.mark.parametrize("last", [b"", request("/metadata", "Connection: close\r\n")])
def test_an_answer_that_is_not_taken_does_not_keep_a_closed_connection(server, last):
    """Too few bytes to pause the server: the connection ends all the same, with them unsent."""
    with connect(server, 4096) as connection:
        one = fill(server, connection)
        connection.sendall(last)
        until = time.monotonic() + 6
        while one in server.server.server_state.connections and time.monotonic() < until:
            time.sleep(0.05)
        assert not server.server.server_state.connections


class NeverPaused(BoundedProtocol):
    """As on a Python whose `writelines` does not pause what writes (CVE-2024-12254)."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(1 << 30)


class Watched:
    """An application that counts how often frames are asked for at once, with an answer."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.at_once = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def answer_at_once(self, scope: Any) -> Any:
        answer = self.app.answer_at_once(scope)
        self.at_once += answer is not None
        return answer


def test_nothing_is_answered_at_once_while_an_answer_waits(folder):
    """What is written without waiting is one answer at most, on every Python."""
    app = Watched(application(folder, revalidate_after=3600))
    server = Server(app, NeverPaused, loop="asyncio")
    try:
        with connect(server, 4096) as connection:
            fill(server, connection)
            time.sleep(0.1)
            before = app.at_once
            for _ in range(3):
                connection.sendall(FRAME)
                time.sleep(0.05)
            assert before == app.at_once > 0
    finally:
        server.stop()


def test_what_is_no_request_breaks_no_answer(tmp_path):
    """An error is not written into the middle of a frame that is on its way."""
    pixels = write(tmp_path, 3000)
    server = Server(application(tmp_path))
    try:
        with connect(server, 65536) as connection:
            connection.sendall(request("/frames/1", "Accept: application/octet-stream\r\n"))
            received = bytearray(connection.recv(4096))
            connection.sendall(b"nonsense\r\n\r\n")
            time.sleep(0.3)
            try:
                while piece := connection.recv(1 << 20):
                    received += piece
            except ConnectionError:
                pass
        body = bytes(received.partition(b"\r\n\r\n")[2])
        assert body
        assert body == pixels[: len(body)]
    finally:
        server.stop()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_that_leaves_before_its_answers_is_no_error(tmp_path, loop, caplog):
    """Of several requests, the one that is answered ends with the connection, too."""
    pytest.importorskip(loop)
    if not hasattr(HttpToolsProtocol, "_start_asgi_task"):
        pytest.skip("this uvicorn does not say which request it answers")
    write(tmp_path, 3000)
    server = Server(application(tmp_path), loop=loop)
    try:
        for _ in range(3):
            with connect(server, 4096) as connection:
                connection.sendall(FRAME * 4)
                assert connection.recv(100)
                time.sleep(0.3)
        until = time.monotonic() + 5
        while server.server.server_state.tasks and time.monotonic() < until:
            time.sleep(0.05)
        assert not server.server.server_state.tasks
        assert not caplog.records
    finally:
        server.stop()


@pytest.mark.parametrize("last", [FRAME, CALLED])
def test_no_time_goes_on_after_a_connection_was_reset(server, last, caplog):
    """What would close an idle connection finds none any more, and says nothing."""
    with connect(server) as connection:
        connection.sendall(last)
        assert connection.recv(1 << 16)
        time.sleep(0.1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(1.3)
    assert not caplog.records
