"""A web server on loopback that serves byte ranges, counts them, and fails as a test asks."""

from __future__ import annotations

import hashlib
import http.server
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import unquote

from sources.loopback import LoopbackServer


@dataclass
class Served:
    """A request that was answered."""

    method: str
    path: str
    start: int
    length: int
    status: int


@dataclass
class RangeServer(LoopbackServer):
    """Objects by path; `faults` is asked before each GET and may name what goes wrong.

    "status NNN": that status; "cut": half of the body, then the connection closes; "reset": no
    answer; "whole": the range is ignored; "other": the object changes just before the answer;
    "other unnoticed": it does, and If-Match is ignored. No Last-Modified where `modified` is 0.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    e_tags: bool = True
    redirects: dict[str, str] = field(default_factory=dict)  # URLs by path
    authorization: str = ""  # what requests have to have
    e_tag_prefix: str = ""  # "W/" of weak ones
    honours_if_match: bool = True
    modified: float = 1_700_000_000.0
    faults: Callable[[str], str] = lambda path: ""
    head_status: int = 0  # the status of every answer to HEAD; 200: such an answer has no length
    # Of the next answers to HEAD, which are refused.
    head_statuses: Iterator[int] = field(default_factory=lambda: iter(()))
    served: list[Served] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)  # of each request
    urls: list[str] = field(default_factory=list)  # path and query of each request
    connections: list[socket.socket] = field(default_factory=list)
    tags: dict[int, tuple[bytes, str]] = field(default_factory=dict)

    def make_handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        return _handler(self)

    def close(self) -> None:
        super().close()
        for connection in self.connections:
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)

    def tag(self, data: bytes) -> str:
        """Return the ETag of an object: of a long one it takes longer than an answer."""
        known = self.tags.get(id(data))
        if known is None or known[0] is not data:
            known = self.tags[id(data)] = data, '"' + hashlib.md5(data).hexdigest() + '"'
        return known[1]

    @property
    def gets(self) -> list[Served]:
        return [request for request in self.served if request.method == "GET"]

    @property
    def bytes_served(self) -> int:
        return sum(request.length for request in self.gets)


def _handler(server: RangeServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            server.connections.append(self.connection)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            server.headers.append(dict(self.headers.items()))
            server.urls.append(self.path)
            path = unquote(self.path.partition("?")[0])
            if server.authorization not in ("", self.headers.get("Authorization")):
                self._refuse(401)
                return
            if self.command == "HEAD" and server.head_status:
                server.served.append(Served("HEAD", path, 0, 0, server.head_status))
                self.send_response(server.head_status)
                self.end_headers()
                return
            refused = next(server.head_statuses, 0) if self.command == "HEAD" else 0
            if refused:
                self._refuse(refused)
                return
            if path in server.redirects:
                self._refuse(302, {"Location": server.redirects[path]})
                return
            fault = server.faults(path) if self.command == "GET" else ""
            if fault == "reset":
                self.close_connection = True
                return
            if fault.startswith("other") and path in server.objects:
                server.objects[path] = server.objects[path][::-1]
            data = server.objects.get(path)
            if fault.startswith("status") or data is None:
                self._refuse(int(fault.split()[1]) if fault else 404)
                return
            e_tag = server.tag(data)
            wanted = self.headers.get("If-Match")
            honours = server.honours_if_match and fault != "other unnoticed"
            if wanted not in (None, e_tag) and server.e_tags and honours:
                self._refuse(412)
                return
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = 0, len(data)
            if match and fault != "whole":
                start, end = int(match[1]), min(int(match[2]) + 1, len(data))
                if start >= len(data):
                    self._refuse(416, {"Content-Range": f"bytes */{len(data)}"})
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            else:
                self.send_response(200)
            if server.e_tags:
                self.send_header("ETag", server.e_tag_prefix + e_tag)
            if server.modified:
                self.send_header("Last-Modified", formatdate(server.modified, usegmt=True))
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            body = data[start:end] if self.command == "GET" else b""
            if fault == "cut":
                body = body[: len(body) // 2]
                self.close_connection = True
            server.served.append(Served(self.command, path, start, len(body), 200))
            if len(body) > 1 << 20 and fault == "whole":
                body = body[: 1 << 20]  # enough for a client that would take it
                self.close_connection = True
            try:
                self.wfile.write(body)
                self.wfile.flush()
            except OSError:
                self.close_connection = True

        def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
            server.served.append(Served(self.command, self.path, 0, 0, status))
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

    return Handler


def at_random(faults: list[str], share: float, seed: int) -> Callable[[str], str]:
    """Return what fails a share of all requests, by one of these faults."""
    source, lock = random.Random(seed), threading.Lock()

    def choose(path: str) -> str:
        with lock:
            return source.choice(faults) if source.random() < share else ""

    return choose
