"""Frames that the connection answers itself: the same answers as those of an ASGI call."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from cli_runner import run_child
from dicom_bytes import dicom_file, element, image_attributes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_archive import CINE, CT, FRAMES, SERIES, STUDY, Server, header, write_archive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import mmindex
from mmindex.serve import application
from mmindex.serve.security import LOG

INSTANCE = f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{CINE}"
NATIVE = f"/dicom-web/studies/{STUDY}/series/1.2.3.2/instances/{CT}"
HOST = "Host: 127.0.0.1\r\n"
JPEG = HOST + "Accept: image/jpeg\r\n"
PARTS = HOST + 'Accept: multipart/related; type="image/jpeg"\r\n'


class Found(NamedTuple):
    """An answer on the wire; of Date, whether there is one."""

    status: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Watched:
    """An application that notes how it was asked."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.how: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.how.append("called")
        await self.app(scope, receive, send)

    def answer_at_once(self, scope: Any) -> Any:
        answer = self.app.answer_at_once(scope)
        if answer is not None:
            self.how.append("at once")
        return answer


class Pair:
    """One application on two servers: with this project's connection, and with uvicorn's."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.app = Watched(application(folder, revalidate_after=3600, **options))
        self.ours = Server(self.app)
        self.stock = Server(self.app, HttpToolsProtocol)

    def stop(self) -> None:
        self.ours.stop()
        self.stock.stop()


def get(path: str, headers: str = JPEG, version: str = "1.1", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/{version}\r\n{headers}\r\n".encode()


FIRST, SECOND = get(INSTANCE + "/frames/1"), get(INSTANCE + "/frames/2")
SLOW = get("/dicom-web/studies?limit=1", "Host: 127.0.0.1:80\r\n")


def connect(server: Server) -> socket.socket:
    port = int(server.url.rsplit(":", 1)[1])
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Reader:
    """Answers that come on a connection, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def _more(self) -> None:
        piece = self._connection.recv(65536)
        if not piece:
            raise EOFError
        self._received += piece

    def read(self, *, has_body: bool = True) -> Found:
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = [tuple(line.split(b": ", 1)) for line in lines]
        named = dict(headers)
        if b"chunked" in named.get(b"transfer-encoding", b""):
            while b"0\r\n\r\n" not in self._received:
                self._more()
            body, _, self._received = self._received.partition(b"0\r\n\r\n")
        else:
            length = int(named.get(b"content-length", b"0")) if has_body else 0
            while len(self._received) < length:
                self._more()
            body, self._received = self._received[:length], self._received[length:]
        headers = [(name, b"" if name == b"date" else value) for name, value in headers]
        return Found(status, sorted(headers), body)

    def is_closed(self) -> bool:
        """Return whether the server ends the connection, without another byte."""
        self._connection.settimeout(0.3)
        try:
            return not self._received and self._connection.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


def ask(server: Server, pieces: list[bytes], answers: int, *, has_body: bool = True) -> Any:
    """Return the answers to what is sent piece by piece, and whether the connection ends then."""
    with connect(server) as connection:
        reader = Reader(connection)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.01 if len(pieces) > 1 else 0)
        found = [reader.read(has_body=has_body) for _ in range(answers)]
        return found, reader.is_closed()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("at-once")
    write_archive(found)
    mmindex.build(found, workers=1)
    return found


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Pair]:
    running = Pair(folder)
    warm(running)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Pair]:
    running = Pair(folder, token="secret", allow_origins=["https://a.example"])
    warm(running, "Authorization: Bearer secret\r\n")
    yield running
    running.stop()


def warm(running: Pair, headers: str = "") -> None:
    """Open the instances, and bring the files into memory."""
    for path in (INSTANCE, NATIVE):
        request = get(path + "/frames/1", HOST + "Accept: */*\r\n" + headers)
        for _ in range(2):
            ask(running.ours, [request], 1)


# what is asked, how many of the answers come at once, and how many there are
SAME = {
    "plain": (FIRST, 1, 1),
    "parts": (get(INSTANCE + "/frames/9", PARTS), 1, 1),
    "parts unquoted": (get(INSTANCE + "/frames/9", PARTS.replace('"', "")), 1, 1),
    "anything": (get(INSTANCE + "/frames/2", HOST + "Accept: */*\r\n"), 1, 1),
    "no accept": (get(INSTANCE + "/frames/2", HOST), 1, 1),
    "native": (get(NATIVE + "/frames/2", HOST), 1, 1),
    "any syntax": (get(NATIVE + "/frames/2", PARTS.replace("image/jpeg", "*/*")), 1, 1),
    "keep-alive": (get(INSTANCE + "/frames/2", JPEG + "Connection: keep-alive\r\n"), 1, 1),
    "names in capitals": (
        get(INSTANCE + "/frames/2", JPEG.upper().replace("/JPEG", "/jpeg")),
        1,
        1,
    ),
    "many headers": (get(INSTANCE + "/frames/2", JPEG + "X-A: b\r\n" * 50), 1, 1),
    "range": (get(INSTANCE + "/frames/1", JPEG + "Range: bytes=3-9\r\n"), 1, 1),
    "range from the end": (get(INSTANCE + "/frames/1", JPEG + "Range: bytes=-4\r\n"), 1, 1),
    "range past the end": (get(INSTANCE + "/frames/1", JPEG + "Range: bytes=999-\r\n"), 0, 1),
    "none match": (get(INSTANCE + "/frames/1", JPEG + "If-None-Match: *\r\n"), 1, 1),
    "other match": (get(INSTANCE + "/frames/1", JPEG + 'If-None-Match: "x"\r\n'), 1, 1),
    "if range": (get(INSTANCE + "/frames/1", JPEG + 'Range: bytes=1-2\r\nIf-Range: "x"\r\n'), 1, 1),
    "two frames": (get(INSTANCE + "/frames/1,3", PARTS), 0, 1),
    "two frames, one part": (get(INSTANCE + "/frames/1,3"), 0, 1),
    "not acceptable": (get(INSTANCE + "/frames/1", HOST + "Accept: image/jls\r\n"), 0, 1),
    "no such frame": (get(INSTANCE + "/frames/10"), 0, 1),
    "frame zero": (get(INSTANCE + "/frames/0"), 0, 1),
    "no such instance": (get(INSTANCE + "9/frames/1"), 0, 1),
    "no such path": (get("/dicom-web/nothing"), 0, 1),
    "two slashes": (get("/" + INSTANCE + "/frames/1"), 0, 1),
    "query": (get(INSTANCE + "/frames/1?accept=image/jpeg", HOST), 0, 1),
    "escaped": (get(INSTANCE.replace("web", "%77eb") + "/frames/1"), 0, 1),
    "whole url": (get("http://127.0.0.1" + INSTANCE + "/frames/1"), 0, 1),
    "other host": (get(INSTANCE + "/frames/1", "Host: evil.example\r\n"), 0, 1),
    "no host": (get(INSTANCE + "/frames/1", ""), 0, 1),
    "two hosts": (get(INSTANCE + "/frames/1", HOST + HOST), 0, 1),
    "long headers": (get(INSTANCE + "/frames/1", JPEG + f"X: {'a' * 17_000}\r\n"), 0, 1),
    "head": (get(INSTANCE + "/frames/1", method="HEAD"), 0, 1),
    "post": (get(INSTANCE + "/frames/1", method="POST"), 0, 1),
    "length": (get(INSTANCE + "/frames/1", JPEG + "Content-Length: 3\r\n") + b"abc", 0, 1),
    "chunks": (
        get(INSTANCE + "/frames/1", JPEG + "Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        0,
        1,
    ),
    "expects": (get(INSTANCE + "/frames/1", JPEG + "Expect: 100-continue\r\n"), 0, 1),
    "http 1.0": (get(INSTANCE + "/frames/1", version="1.0"), 0, 1),
    "kept 1.0": (get(INSTANCE + "/frames/1", JPEG + "Connection: keep-alive\r\n", "1.0"), 0, 1),
    "close": (get(INSTANCE + "/frames/1", JPEG + "Connection: close\r\n"), 0, 1),
    "upgrade": (
        get(INSTANCE + "/frames/1", JPEG + "Connection: upgrade\r\nUpgrade: h2c\r\n"),
        0,
        1,
    ),
    "pair": (FIRST + SECOND, 1, 2),
    "four": (FIRST + SECOND + FIRST + SECOND, 1, 4),
    "at once, then called": (FIRST + SLOW + SECOND, 1, 3),
    "called, then at once": (SLOW + FIRST + SECOND, 0, 3),
    "empty lines first": (b"\r\n\r\n" + FIRST, 1, 1),
}


@pytest.mark.parametrize("name", SAME)
def test_answers_are_those_of_an_asgi_call(plain, name):
    """Status, headers, body and what becomes of the connection are the same for every request."""
    request, at_once, answers = SAME[name]
    has_body = not request.startswith(b"HEAD")
    plain.app.how.clear()
    ours = ask(plain.ours, [request], answers, has_body=has_body)
    assert plain.app.how.count("at once") == at_once
    assert ours == ask(plain.stock, [request], answers, has_body=has_body)


def simplify(found: Found) -> Found:
    """Return an answer with the names in its Vary header once: Starlette adds Origin again."""
    headers = dict(found.headers)
    names = {name.strip().lower() for name in headers.pop(b"vary", b"").split(b",")}
    return found._replace(headers=[*headers.items(), (b"vary", b",".join(sorted(names)))])


@pytest.mark.parametrize(
    ("headers", "at_once"),
    [
        ("Authorization: Bearer secret\r\n", 1),
        ("authorization: bearer secret\r\n", 1),
        ("Cookie: a=b; mmindex-token=secret\r\n", 1),
        ("Authorization: Bearer wrong\r\n", 0),
        ("Authorization: Basic secret\r\n", 0),
        ("", 0),
        ("Authorization: Bearer secret\r\nOrigin: https://a.example\r\n", 0),
        ("Authorization: Bearer secret\r\nOrigin: https://b.example\r\n", 0),
        ("Authorization: Bearer secret\r\nHost: other.example\r\n", 0),
    ],
)
def test_tokens_and_origins_are_those_of_an_asgi_call(guarded, headers, at_once):
    """Without the token nothing is answered here; pages of other origins get their headers."""
    request = get(INSTANCE + "/frames/4", JPEG + headers)
    guarded.app.how.clear()
    ours = ask(guarded.ours, [request], 1)
    assert guarded.app.how.count("at once") == at_once
    stock = ask(guarded.stock, [request], 1)
    assert [simplify(one) for one in ours[0]] == [simplify(one) for one in stock[0]]


def test_a_frame_is_that_of_the_file(plain):
    """Many requests on one connection, with the same headers and with others between them."""
    with connect(plain.ours) as connection:
        reader = Reader(connection)
        plain.app.how.clear()
        for number in (1, 2, 3, 9, 9, 4, 1):
            connection.sendall(get(f"{INSTANCE}/frames/{number}"))
            assert reader.read().body == FRAMES[number - 1]
            connection.sendall(get(f"{INSTANCE}/frames/{number}", JPEG + f"X-A: {number}\r\n"))
            assert reader.read().body == FRAMES[number - 1]
            connection.sendall(get(f"{INSTANCE}/frames/{number}", PARTS))
            assert FRAMES[number - 1] in reader.read().body
        assert plain.app.how == ["at once"] * 21


def test_headers_that_are_sent_again_mean_what_they_did(plain):
    """After answers to equal headers, what differs in the request line alone is parsed again."""
    with connect(plain.ours) as connection, connect(plain.stock) as other:
        ours, stock = Reader(connection), Reader(other)
        for request in (
            *(FIRST, SECOND, get("/dicom-web/nothing"), SECOND, get(INSTANCE + "/frames/77")),
            *(SECOND, FIRST, get(INSTANCE + "/frames/2?a=b"), SECOND, SLOW, FIRST, FIRST),
            *(get(INSTANCE + "/frames/1", HOST.replace("127.0.0.1", "evil.example")), FIRST),
            *(FIRST, get(INSTANCE + "/frames/1", version="1.0")),
        ):
            for sender in (connection, other):
                sender.sendall(request)
            assert ours.read() == stock.read()
        assert ours.is_closed()
        assert stock.is_closed()


@pytest.mark.parametrize("opening", [b"\r\n", b"\r", b"\x16\x03\x01", b"G", b"GET /x\r\n\r\n"])
def test_the_first_bytes_of_a_connection_may_be_anything(plain, opening, caplog):
    """Empty lines, TLS and halves of a request by themselves: as uvicorn answers them."""
    caplog.clear()
    ours = ask_slowly(plain.ours, opening, FIRST)
    assert ours == ask_slowly(plain.stock, opening, FIRST)
    assert not [one for one in caplog.records if one.exc_info]


def ask_slowly(server: Server, opening: bytes, rest: bytes) -> Found | None:
    """Return the answer to what is sent in two pieces; None where there is none."""
    with connect(server) as connection:
        connection.sendall(opening)
        time.sleep(0.1)
        try:
            connection.sendall(rest)
            return Reader(connection).read()
        except (ConnectionError, EOFError):
            return None


def test_what_is_no_request_ends_the_connection(plain):
    """The request before it is answered, and then that it is none."""
    with connect(plain.ours) as connection:
        reader = Reader(connection)
        for _ in range(2):
            connection.sendall(FIRST)
            assert reader.read().body == FRAMES[0]
        connection.sendall(FIRST + b"\x16\x03\x01nonsense\r\n\r\n")
        assert reader.read().body == FRAMES[0]
        assert reader.read().status == b"HTTP/1.1 400 Bad Request"
        assert reader.is_closed()


@pytest.mark.parametrize("name", ["plain", "pair", "at once, then called", "length", "chunks"])
def test_requests_come_byte_by_byte(plain, name):
    """Wherever the network cuts a request, the answers are the same."""
    request, _, answers = SAME[name]
    with connect(plain.ours) as connection:
        reader = Reader(connection)
        for at in range(len(request)):
            connection.sendall(request[at : at + 1])
        found = [reader.read() for _ in range(answers)]
    assert found == ask(plain.stock, [request], answers)[0]


PIECES = st.lists(
    st.sampled_from([FIRST, SECOND, SLOW, SAME["length"][0], SAME["range"][0], SAME["query"][0]]),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(requests=PIECES, cuts=st.lists(st.integers(0, 2000), max_size=5))
def test_requests_in_any_pieces_are_answered_in_order(plain, requests, cuts):
    """Requests that a client sends without waiting, cut anywhere, as uvicorn answers them."""
    data = b"".join(requests)
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places) if a < b]
    found, is_closed = ask(plain.ours, pieces, len(requests))
    expected = [ask(plain.stock, [one], 1)[0][0] for one in requests]
    assert [one.body for one in found] == [one.body for one in expected]
    assert [one.status for one in found] == [one.status for one in expected]
    assert not is_closed


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Path, Server, Watched]]:
    """Serve an archive that a test changes; whatever is asked is looked at again."""
    write_archive(tmp_path)
    mmindex.build(tmp_path, workers=1)
    app = Watched(application(tmp_path, revalidate_after=0.05))
    server = Server(app)
    yield tmp_path, server, app
    server.stop()


@pytest.mark.parametrize("change", ["written", "removed", "replaced", "shortened"])
def test_a_changed_file_is_gone(own, change):
    """On a connection that got its frames at once, the next answers are 410."""
    folder, server, app = own
    file = folder / "cine.dcm"
    with connect(server) as connection:
        reader = Reader(connection)
        until = time.monotonic() + 10
        while "at once" not in app.how and time.monotonic() < until:
            connection.sendall(FIRST)
            assert reader.read().body == FRAMES[0]
        assert "at once" in app.how
        data = file.read_bytes()
        if change == "written":
            file.write_bytes(data.replace(FRAMES[0], FRAMES[0][::-1]))
        elif change == "removed":
            file.unlink()
        elif change == "replaced":
            (folder / "other").write_bytes(data[:-2] + b"ab")
            os.replace(folder / "other", file)
        else:
            os.truncate(file, 1000)
        time.sleep(0.1)
        connection.sendall(FIRST)
        assert reader.read().status.startswith(b"HTTP/1.1 410 ")
        file.write_bytes(data)
        mmindex.build(folder, workers=1)
        time.sleep(0.1)
        connection.sendall(FIRST)
        assert reader.read().body == FRAMES[0]


def test_an_index_built_anew_is_followed(own):
    """After the index was deleted and built again, frames are those of the new one."""
    folder, server, app = own
    with connect(server) as connection:
        reader = Reader(connection)
        for number in range(3):
            connection.sendall(FIRST)
            assert reader.read().body == FRAMES[0]
            for path in folder.glob(".mmindex*"):
                path.unlink()
            assert run_child("build", folder).returncode == 0
            time.sleep(0.1 * (number % 2))
    assert app.how


def write_image(folder: Path, side: int) -> bytes:
    """Write the CT as a square image of bytes, and return these."""
    data = header(CT, STUDY, "1.2.3.2", "CR", b"Big^A ", "20200102")
    data += image_attributes(rows=side, columns=side)
    pixels = os.urandom(side * side)
    (folder / "big.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OB", pixels)))
    mmindex.build(folder, workers=1)
    return pixels


def test_a_client_that_does_not_read_holds_little(tmp_path):
    """What is written for it stays bounded, and it gets all of its answers in the end."""
    pixels = write_image(tmp_path, 600)
    server = Server(application(tmp_path, revalidate_after=3600))
    request, count = get(NATIVE + "/frames/1", HOST + "Accept: application/octet-stream\r\n"), 200
    try:
        ask(server, [request], 1)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
            most = 0
            for _ in range(count):
                connection.sendall(request)
                time.sleep(0.002)
                for one in server.server.server_state.connections:
                    most = max(most, one.transport.get_write_buffer_size())
            assert 0 < most < 3 * len(pixels)
            reader = Reader(connection)
            for _ in range(count):
                assert reader.read().body == pixels
    finally:
        server.stop()


def test_a_client_that_asks_again_and_takes_nothing_is_let_go_of(folder, monkeypatch):
    """Another request does not stop the time in which it has to take what was sent."""
    monkeypatch.setattr("mmindex.serve.protocol.TAKEN_WITHIN", 0.3)
    server = Server(application(folder))
    try:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(10)
            connection.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
            with pytest.raises(ConnectionError):
                connection.sendall(FIRST * 100_000)
    finally:
        server.stop()


def test_an_idle_connection_ends_after_the_last_answer(folder):
    """The time without a request counts from the last answer, whoever gave it."""
    app = application(folder, revalidate_after=3600)
    server = Server(app, timeout_keep_alive=1)
    try:
        with connect(server) as connection:
            reader = Reader(connection)
            for wait in (0.6, 0.6, 0.6, 0.0):
                connection.sendall(FIRST)
                assert reader.read().body == FRAMES[0]
                time.sleep(wait)
            connection.sendall(SLOW)
            assert reader.read().status.startswith(b"HTTP/1.1 200")
            time.sleep(0.6)
            start = time.monotonic()
            connection.sendall(FIRST)
            assert reader.read().body == FRAMES[0]
            assert connection.recv(1) == b""
            assert 0.5 < time.monotonic() - start < 5
    finally:
        server.stop()


def send_slowly(connection: socket.socket, request: bytes, reader: Reader) -> Found:
    for at in range(len(request)):
        connection.sendall(request[at : at + 1])
        time.sleep(0.02)
    return reader.read()


def test_headers_have_limited_time_after_an_answer(folder, monkeypatch):
    """A client that got a frame and sends its next request slowly is let go of."""
    monkeypatch.setattr("mmindex.serve.protocol.HEADERS_WITHIN", 0.3)
    server = Server(application(folder, revalidate_after=3600))
    try:
        with connect(server) as connection:
            reader = Reader(connection)
            for _ in range(2):
                connection.sendall(FIRST)
                assert reader.read().body == FRAMES[0]
            time.sleep(0.5)  # idle, which is no slow request
            with pytest.raises((ConnectionError, EOFError)):
                send_slowly(connection, FIRST, reader)
    finally:
        server.stop()


def test_answers_at_once_are_logged(plain, monkeypatch):
    """One line a request: method, path, status and time."""
    lines: list[str] = []
    monkeypatch.setattr(LOG, "isEnabledFor", lambda level: True)
    monkeypatch.setattr(LOG, "info", lambda text, *values: lines.append(text % values))
    plain.app.how.clear()
    ask(plain.ours, [FIRST], 1)
    ask(plain.stock, [FIRST], 1)
    assert plain.app.how == ["at once", "called"]
    for line in lines:
        assert re.fullmatch(f"GET {INSTANCE}/frames/1 200 [0-9.]+ ms", line)
    assert len(lines) == 2


def test_requests_are_counted_and_a_server_stops(folder):
    """What uvicorn counts includes these answers; an idle connection does not hold its end up."""
    server = Server(application(folder, revalidate_after=3600))
    with connect(server) as connection:
        reader = Reader(connection)
        for _ in range(5):
            connection.sendall(FIRST)
            reader.read()
        assert server.server.server_state.total_requests == 5
        start = time.monotonic()
        server.stop()
        assert reader.is_closed()
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("options", [{"limit_concurrency": 1}, {"root_path": "/below"}])
def test_settings_of_uvicorn_are_left_to_uvicorn(folder, options):
    """Where it limits or places the application, each request is one call."""
    app = Watched(application(folder, revalidate_after=3600))
    ours, stock = Server(app, **options), Server(app, HttpToolsProtocol, **options)
    try:
        assert ask(ours, [FIRST], 1) == ask(stock, [FIRST], 1)
        assert "at once" not in app.how
    finally:
        ours.stop()
        stock.stop()


def test_long_frames_wait_for_their_client(tmp_path):
    """A frame of more than a megabyte is left to what counts the bytes on their way."""
    pixels = write_image(tmp_path, 1024)
    app = Watched(application(tmp_path, revalidate_after=3600))
    server = Server(app)
    try:
        for _ in range(3):
            answer = httpx.get(
                server.url + NATIVE + "/frames/1", headers={"accept": "application/octet-stream"}
            )
            assert answer.content == pixels
        assert app.how == ["called"] * 3
    finally:
        server.stop()
