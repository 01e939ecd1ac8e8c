"""Frames over HTTP: `mmindex serve` beside a constant body from the same server, and Orthanc.

First the time of a request on one connection, then the CPU time that the server takes for a frame
on one and on 16 connections. The client is a bare socket, so that it costs little.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.data import Written, write_image
from scripts.benchmark.measure import Bench, Contender, attempt
from scripts.benchmark.model import MMINDEX
from scripts.benchmark.openers import build_mmindex
from scripts.benchmark.orthanc import NoOrthancError, measure_orthanc
from scripts.benchmark.server_load import CONNECTIONS, NUMBER_OF_FRAMES, measure_load, path_of

CONSTANT = "constant body, same server"
ORTHANC = "Orthanc"
SIZES = (("cine", 6_000), ("tiles", 28_000), ("CT", 174_000))

_CONSTANT_CODE = """
import sys, uvicorn
from mmindex.serve.protocol import BoundedProtocol
from mmindex.serve.server import bind
body = bytes(int(sys.argv[1]))
headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"image/jpeg")]
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
listening = bind("127.0.0.1", 0)
print(f"http://127.0.0.1:{listening.getsockname()[1]}/", file=sys.stderr, flush=True)
config = uvicorn.Config(app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
uvicorn.Server(config).run(sockets=[listening])"""


class Server(NamedTuple):
    """A server that runs: its process, its port, and where its frames are (an index follows)."""

    process_id: int
    port: int
    path: str

    def connect(self) -> Connection:
        """Return a new connection."""
        return Connection(self)


class Connection:
    """A connection that is kept open for one request after the other."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._path = server.path

    def get(self, frame_index: int) -> bytes:
        """Return the body of an answer with a Content-Length.

        Raises
        ------
        ValueError
            The answer is an error.
        """
        self._socket.sendall(
            f"GET {self._path}{frame_index + 1} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Accept: image/jpeg\r\n\r\n".encode()
        )
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, rest = bytes(received).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ValueError(head.split(b"\r\n")[0].decode())
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = bytearray(rest)
        while len(body) < length:
            body += self._receive()
        return bytes(body)

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def list_serve(bench: Bench) -> Iterator[Setup]:
    """Get frames, each in a request of its own."""
    for name, size in SIZES:
        yield f"{name}, frames of {size:,} bytes", partial(_list_cases, size)


def _list_cases(size: int, site: Site) -> Iterator[Case]:
    written = write_image(site.folder / "files", NUMBER_OF_FRAMES, sizes=(size, size + 2))
    build_mmindex(written.image.root)
    command = str(Path(sys.executable).with_name("mmindex"))
    path = f"{path_of(written.image)}/frames/"
    argv = [command, "serve", written.image.root, "--port", "0"]
    ours = site.stack.enter_context(_run(argv, path))
    argv = [sys.executable, "-c", _CONSTANT_CODE, str(size)]
    constant = site.stack.enter_context(_run(argv, "/"))
    one, other = ours.connect(), constant.connect()
    site.stack.callback(one.close)
    site.stack.callback(other.close)
    yield Case(
        f"serve: a frame of {size:,} bytes over HTTP, one connection",
        [_contend(one, written), Contender(CONSTANT, partial(other.get, 0))],
        limit=CONSTANT,
        bound=2,
    )
    requests = 1600 if site.bench.quick else 16_000
    samples = [()] * (3 if site.bench.quick else 7)
    of_orthanc = min(requests // 16, 320)  # it reads the whole file for each: 300 ms of 87 MB
    orthanc = attempt(ORTHANC, lambda: _weigh_orthanc(written, of_orthanc))
    for connections in CONNECTIONS:
        contenders = [
            Contender(
                name,
                partial(measure_load, server.process_id, server.connect, connections, requests),
                samples,
            )
            for name, server in ((MMINDEX, ours), (CONSTANT, constant))
        ]
        if orthanc.call is not None:
            peer = Contender(ORTHANC, partial(orthanc.call, connections))
        else:
            peer = orthanc
        yield Case(
            f"serve: CPU of the server for a frame of {size:,} bytes, {connections} at a time",
            [*contenders, peer],
            limit=CONSTANT,
            bound=2,
            unit="CPU",
        )


def _contend(connection: Connection, written: Written) -> Contender:
    generator = random.Random(7)
    count = len(written.frames)
    picked: Sequence[tuple[object, ...]] = [(generator.randrange(count),) for _ in range(500)]
    return Contender(MMINDEX, connection.get, picked, expected=written.frames.__getitem__)


def _weigh_orthanc(written: Written, requests: int) -> Contender:
    """Measure Orthanc once, for all numbers of connections."""
    try:
        found = measure_orthanc(written.image, requests)
    except NoOrthancError as error:
        return Contender(ORTHANC, None, note=str(error))
    return Contender(ORTHANC, found.__getitem__)


@contextmanager
def _run(argv: list[str], path: str) -> Iterator[Server]:
    """Run a server that says its address on standard error."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stderr.readline() if process.stderr else ""
            port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
            yield Server(process.pid, port, path)
        finally:
            process.terminate()
