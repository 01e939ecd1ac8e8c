"""Frames over HTTP: `mmindex serve` beside a constant body from the same server.

One client on one connection that is kept open, written on a bare socket so that it costs little;
a sample is the time from request to last byte.
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

from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.data import Written, write_image
from scripts.benchmark.measure import Bench, Contender
from scripts.benchmark.model import MMINDEX, Image
from scripts.benchmark.openers import build_mmindex

CONSTANT = "constant body, same server"
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


class Connection:
    """A connection that is kept open for one request after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str) -> bytes:
        """Return the body of an answer with a Content-Length."""
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: image/jpeg\r\n\r\n".encode()
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
    """Get frames at random, each in a request of its own, on one connection."""
    for name, size in SIZES:
        yield f"{name}, frames of {size:,} bytes", partial(_list_cases, size)


def _list_cases(size: int, site: Site) -> Iterator[Case]:
    number_of_frames = 200 if site.bench.quick else 2000
    written = write_image(site.folder / "files", number_of_frames, sizes=(size, size + 2))
    build_mmindex(written.image.root)
    command = str(Path(sys.executable).with_name("mmindex"))
    server = _connect([command, "serve", written.image.root, "--port", "0"])
    ours = site.stack.enter_context(server)
    server = _connect([sys.executable, "-c", _CONSTANT_CODE, str(size)])
    constant = site.stack.enter_context(server)
    yield Case(
        f"serve: a frame of {size:,} bytes over HTTP, one connection",
        [_contend(ours, written), Contender(CONSTANT, partial(constant.get, "/"))],
        limit=CONSTANT,
    )


def _contend(connection: Connection, written: Written) -> Contender:
    def get(frame_index: int) -> bytes:
        return connection.get(f"{_path_of(written.image)}/frames/{frame_index + 1}")

    generator = random.Random(7)
    count = len(written.frames)
    picked: Sequence[tuple[object, ...]] = [(generator.randrange(count),) for _ in range(500)]
    return Contender(MMINDEX, get, picked, expected=written.frames.__getitem__)


def _path_of(image: Image) -> str:
    return (
        f"/dicom-web/studies/{image.study_instance_uid}/series/{image.series_instance_uid}"
        f"/instances/{image.sop_instance_uid}"
    )


@contextmanager
def _connect(argv: list[str]) -> Iterator[Connection]:
    """Run a server that says its address on standard error, and connect to it."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stderr.readline() if process.stderr else ""
            port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
            connection = Connection(port)
            yield connection
            connection.close()
        finally:
            process.terminate()
