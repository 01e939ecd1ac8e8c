"""A store on loopback that speaks as much of S3 as reading needs, counts requests, and can fail."""

from __future__ import annotations

import hashlib
import http.server
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from sources.loopback import LoopbackServer, patient

PAGE = 1000  # keys of a page, as of S3
BUCKET = "archive"


@dataclass
class Request:
    """A request that was answered: LIST, HEAD or GET, its key or prefix, and how."""

    kind: str
    key: str
    status: int
    length: int = 0


@dataclass
class S3Server(LoopbackServer):
    """Objects by key; `faults` is called before each answer about a key and may return a status.

    It may change `objects`, too, so that an object changes just before it is read.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    modified: float = 1_700_000_000.0
    faults: Callable[[str, str], int] = lambda kind, key: 0
    requests: list[Request] = field(default_factory=list)

    def make_handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        return _handler(self)

    def connect(self, *, retries: int = 8) -> Any:
        """Return the bucket as a store of obstore that retries within milliseconds."""
        from obstore.store import S3Store

        return S3Store(
            BUCKET,
            endpoint=self.url,
            region="us-east-1",
            access_key_id="key",
            secret_access_key="secret",
            virtual_hosted_style_request=False,
            **patient(retries, timeout="10s"),
        )

    def count(self, kind: str) -> int:
        """Return how many requests of a kind were answered."""
        return sum(request.kind == kind for request in self.requests)

    def received(self, key: str) -> int:
        """Return the bytes of an object that were sent."""
        return sum(each.length for each in self.requests if each.key == key)


def _handler(server: S3Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer("HEAD")

        def do_GET(self) -> None:
            self._answer("GET")

        def _answer(self, kind: str) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
            if bucket != BUCKET:
                return self._refuse(kind, key, 404)
            if query.get("list-type") == "2":
                kind, key = "LIST", query.get("prefix", "")
            if status := server.faults(kind, key):
                return self._refuse(kind, key, status)
            if kind == "LIST":
                return self._send(kind, key, 200, {}, _list(server, query))
            data = server.objects.get(key)
            if data is None:
                return self._refuse(kind, key, 404)
            e_tag = _e_tag(data)
            if self.headers.get("If-Match") not in (None, e_tag):
                return self._refuse(kind, key, 412)
            headers = {"ETag": e_tag, "Last-Modified": formatdate(server.modified, usegmt=True)}
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if match is None:
                return self._send(kind, key, 200, headers, data)
            start, end = int(match[1]), min(int(match[2]) + 1, len(data))
            if start >= len(data):
                span = {"Content-Range": f"bytes */{len(data)}"}
                return self._send(kind, key, 416, span, b"")
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            return self._send(kind, key, 206, headers, data[start:end])

        def _send(
            self, kind: str, key: str, status: int, headers: dict[str, str], body: bytes
        ) -> None:
            sent = body if kind != "HEAD" else b""
            server.requests.append(Request(kind, key, status, len(sent)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)
            self.wfile.flush()

        def _refuse(self, kind: str, key: str, status: int) -> None:
            self._send(kind, key, status, {}, b"")

    return Handler


def _e_tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _list(server: S3Server, query: dict[str, str]) -> bytes:
    """Return a page of ListObjectsV2, in the order of UTF-8."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token", query.get("start-after", ""))
    found: dict[str, str] = {}
    for key in sorted(server.objects, key=str.encode):
        if not key.startswith(prefix):
            continue
        head, slash, _ = key[len(prefix) :].partition("/")
        if delimiter and slash:
            name = prefix + head + "/"
            found[name] = f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        else:
            moment = datetime.fromtimestamp(server.modified, UTC)
            data = server.objects[key]
            found[key] = (
                f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size>"
                f"<LastModified>{moment:%Y-%m-%dT%H:%M:%S}.123Z</LastModified>"
                f"<ETag>{escape(_e_tag(data))}</ETag></Contents>"
            )
    names = [name for name in found if name.encode() > after.encode()]
    is_cut = len(names) > PAGE
    names = names[:PAGE]
    token = f"<NextContinuationToken>{escape(names[-1])}</NextContinuationToken>" if is_cut else ""
    body = "".join(found[name] for name in names)
    return (
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult>"
        f"<Name>{BUCKET}</Name><IsTruncated>{str(is_cut).lower()}</IsTruncated>{token}{body}"
        "</ListBucketResult>"
    ).encode()
