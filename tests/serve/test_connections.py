"""Slow, vanished and greedy clients on real connections: each costs itself alone."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from dicom_bytes import dicom_file, element, image_attributes
from served_archive import CT, STUDY, Served, Server, header

import mmindex
from mmindex.serve import Limits, application

SIDE = 4000
PLACE = f"/dicom-web/studies/{STUDY}/series/1.2.3.2/instances/{CT}"
OCTETS = "application/octet-stream"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an image of 32 MB, more than a system takes for a client that reads nothing."""
    found = tmp_path_factory.mktemp("long")
    data = header(CT, STUDY, "1.2.3.2", "CR", b"Big^A ", "20200102")
    data += image_attributes(rows=SIDE, columns=SIDE, bits=16)
    pixels = np.random.default_rng(3).integers(0, 256, 2 * SIDE * SIDE, np.uint8).tobytes()
    (found / "big.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OW", pixels)))
    mmindex.build(found, workers=1)
    return found


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    running = Server(application(folder))
    yield running
    running.stop()


def begin(server: Server, path: str, accept: str = OCTETS) -> socket.socket:
    """Return a connection with a small window on which a request was sent."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
    request = f"GET {PLACE}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n\r\n"
    connection.sendall(request.encode())
    return connection


def is_open(connection: socket.socket) -> bool:
    """Return whether bytes still come."""
    try:
        return bool(connection.recv(1000))
    except ConnectionError:
        return False


@pytest.mark.parametrize("path", ["/frames/1", "/bulkdata/7FE00010", ""])
def test_a_slow_client_that_takes_something_is_kept(server, monkeypatch, path):
    """Far longer than the limit, a client that goes on reading gets its bytes."""
    monkeypatch.setattr("mmindex.serve.protocol.TAKEN_WITHIN", 0.3)
    with begin(server, path, "*/*") as connection:
        until = time.monotonic() + 2.5
        taken = 0
        while time.monotonic() < until:
            piece = connection.recv(16384)
            assert piece, f"closed after {taken} bytes"
            taken += len(piece)
            time.sleep(0.02)
    assert taken < 16 << 20


@pytest.mark.parametrize("path", ["/frames/1", "/bulkdata/7FE00010", ""])
def test_a_client_that_takes_nothing_is_let_go_of(server, monkeypatch, path):
    """Its connection ends after the limit, before all was sent."""
    monkeypatch.setattr("mmindex.serve.protocol.TAKEN_WITHIN", 0.3)
    with begin(server, path, "*/*") as connection:
        time.sleep(1.5)
        taken = 0
        try:
            while piece := connection.recv(1 << 20):
                taken += len(piece)
        except ConnectionError:
            pass
    assert taken < 2 * SIDE * SIDE


def test_long_answers_on_their_way_are_bounded_together(folder):
    """A body that its clients do not take keeps others from taking more memory: 503, and soon."""
    limits = Limits(all_response_bytes=40 << 20)
    running = Server(application(folder, limits=limits))
    try:
        headers = {"accept": OCTETS}
        with begin(running, "/frames/1"):
            until = time.monotonic() + 10
            while True:
                answer = httpx.get(running.url + PLACE + "/frames/1", headers=headers, timeout=20)
                if answer.status_code == 503 or time.monotonic() > until:
                    break
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
        until = time.monotonic() + 10
        while answer.status_code == 503 and time.monotonic() < until:
            answer = httpx.get(running.url + PLACE + "/frames/1", headers=headers, timeout=20)
        assert (answer.status_code, len(answer.content)) == (200, 2 * SIDE * SIDE)
    finally:
        running.stop()


def test_too_many_requests_for_pictures_get_503(folder, monkeypatch):
    """While as many wait as may, the next one is told to come again; frames go on."""
    drawing, go_on = threading.Event(), threading.Event()

    def draw(*arguments: object) -> bytes:
        drawing.set()
        go_on.wait(20)
        return b"picture"

    monkeypatch.setattr("mmindex.serve.pictures.render", draw)
    running = Server(application(folder, limits=Limits(renders=1, waiting_renders=3)))
    try:
        waiting = [begin(running, "/rendered", "image/png")]
        assert drawing.wait(10)
        waiting += [begin(running, "/rendered", "image/png") for _ in range(2)]
        until = time.monotonic() + 10
        answer = None
        while time.monotonic() < until:
            try:
                answer = httpx.get(running.url + PLACE + "/thumbnail", timeout=0.5)
                break
            except httpx.TimeoutException:
                continue
        assert answer is not None
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert httpx.get(running.url + "/dicom-web/studies").status_code == 200
        go_on.set()
        codes = []
        for one in waiting:
            with one:
                codes.append(one.recv(1000)[:12])
        assert codes[0] == b"HTTP/1.1 200"
        # a thumbnail that came before one of the others waits in its place
        assert set(codes) <= {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    finally:
        go_on.set()
        running.stop()


def test_pictures_for_clients_that_are_gone_are_not_drawn(folder, monkeypatch):
    """A hundred requests that were broken off cost at most the drawing that had begun."""
    drawn: list[int] = []
    go_on = threading.Event()

    def draw(*arguments: object) -> bytes:
        drawn.append(1)
        go_on.wait(20)
        return b"picture"

    monkeypatch.setattr("mmindex.serve.pictures.render", draw)
    running = Server(application(folder, limits=Limits(renders=1)))
    try:
        for number in range(50):
            begin(running, f"/rendered?window={number},5", "image/png").close()
        many = begin(running, "/frames/" + ",".join("1" * 50) + "/rendered", "multipart/related")
        time.sleep(0.5)
        many.close()
        time.sleep(0.3)
        go_on.set()
        last = httpx.get(running.url + PLACE + "/rendered", timeout=20)
        assert last.content == b"picture"
        assert len(drawn) <= 4
    finally:
        go_on.set()
        running.stop()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (f"GET /dicom-web/studies?a={'b' * 9000} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 414),
        (f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {'a' * 20_000}\r\n\r\n", 431),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    ],
)
def test_what_is_too_long_is_said_on_the_wire(server, request_head, status):
    """414, 431 and 421 as a client of the real server gets them."""
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request_head.encode())
        assert connection.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


def test_an_answer_that_breaks_off_has_no_end(folder, tmp_path):
    """Where a file goes while it is sent, the message is cut: no client takes it for whole."""
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    mmindex.build(tmp_path / "copy", workers=1)
    running = Server(application(tmp_path / "copy", revalidate_after=0))
    try:
        for path, accept in (("/bulkdata/7FE00010", OCTETS), ("", "multipart/related")):
            with begin(running, path, accept) as connection:
                assert is_open(connection)
                file = tmp_path / "copy" / "big.dcm"
                file.rename(tmp_path / "away")
                received = bytearray()
                try:
                    while piece := connection.recv(1 << 20):
                        received += piece
                except ConnectionError:
                    pass
                (tmp_path / "away").rename(file)
            assert len(received) < 2 * SIDE * SIDE
            assert not received.endswith(b"0\r\n\r\n")
    finally:
        running.stop()


def test_served_place_is_that_of_the_small_archive():
    """The path that these tests ask for is a path of an instance."""
    assert Served(Path(), "").instance(CT) == PLACE


_HEAPS_CODE = """
import ctypes, sys, threading
from mmindex.serve import server
if not hasattr(ctypes.CDLL(None), "malloc_info"):
    sys.exit(77)
if sys.argv[1] == "shared":
    server.share_heaps()
together = threading.Barrier(12)
def work():
    taken = [bytes(50_000) for _ in range(20)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is asked")
def test_threads_share_heaps() -> None:
    """A heap a thread would keep what the longest answers of each thread took."""
    heaps = {}
    for how in ("shared", "own"):
        command = [sys.executable, "-c", _HEAPS_CODE, how]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 77:
            pytest.skip("the C library is not glibc")
        assert done.returncode == 0, done.stderr
        heaps[how] = done.stdout.count("<heap nr=")
    assert heaps["own"] > 4  # else this proves nothing
    assert heaps["shared"] <= 2
