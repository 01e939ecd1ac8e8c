"""Headers of requests and bodies of responses, without Starlette's objects: for the fast routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

from starlette.types import Scope, Send

from mmindex.serve.errors import RequestError
from mmindex.serve.multipart import Body

Header = tuple[bytes, bytes]

TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")

_PIECE = 1 << 20  # bytes that a server is given at once: it holds what a client does not take


class HeaderLines:
    """Headers that are written once, for many responses."""

    __slots__ = ("headers", "lines")

    def __init__(self, headers: Iterable[Header] = ()) -> None:
        self.headers = tuple(headers)
        self.lines = b"".join([b"%b: %b\r\n" % header for header in self.headers])


class Answer(NamedTuple):
    """A response that is in memory.

    Attributes
    ----------
    status : int
        The status code.
    fixed : HeaderLines
        Headers that many responses have.
    more : sequence of (bytes, bytes)
        The others, Content-Length among them where there is a body.
    pieces : sequence of bytes-like
        The body.
    length : int
        The bytes of the body.
    """

    status: int
    fixed: HeaderLines
    more: Sequence[Header] = ()
    pieces: Sequence[Body] = ()
    length: int = 0

    def head(self) -> bytes:
        """Return the headers as they are sent."""
        return self.fixed.lines + b"".join([b"%b: %b\r\n" % header for header in self.more])


AtOnce = Callable[[Scope], Answer | None]  # None: the application has to be called as usual


def find_at_once(app: object) -> AtOnce:
    """Return the `answer_at_once` of an application; of one without, a function that never does."""
    found: AtOnce = getattr(app, "answer_at_once", _answer_nothing)
    return found


def _answer_nothing(scope: Scope) -> None:
    return None


class Headers:
    """The headers of a request that these routes look at; of one sent twice, both are joined."""

    __slots__ = ("_by_name",)

    def __init__(self, headers: Iterable[Header]) -> None:
        self._by_name: dict[bytes, bytes] = {}
        for name, value in headers:
            known = self._by_name.get(name)
            self._by_name[name] = value if known is None else known + b", " + value

    def get(self, name: bytes) -> str:
        """Return a header's value, empty where there is none."""
        return self._by_name.get(name, b"").decode("latin-1")

    def accept(self, scope: Scope) -> str:
        """Return what the client takes: the query's `accept` (PS3.18 8.3.3.1), else the header."""
        if b"accept=" in scope["query_string"]:
            try:
                asked = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=200)
            except ValueError:
                raise RequestError(400, "a query has at most 200 parameters") from None
            if "accept" in asked:
                return ", ".join(asked["accept"])
        return self.get(b"accept")

    def matches(self, etag: bytes) -> bool:
        """Return whether the client has this state already: If-None-Match (RFC 9110 13.1.2).

        A multipart message has a weak one (W/): its boundary is that of a process.
        """
        known = self._by_name.get(b"if-none-match")
        if known is None:
            return False
        tags = {tag.strip().removeprefix(b"W/") for tag in known.split(b",")}
        return etag.removeprefix(b"W/") in tags or known.strip() == b"*"

    def range_unless_changed(self, etag: bytes) -> str:
        """Return the Range header, empty if If-Range names another state (RFC 9110 13.1.5)."""
        known = self._by_name.get(b"if-range", etag)
        if known != etag or (known.startswith(b"W/") and b"if-range" in self._by_name):
            return ""
        return self.get(b"range")


def mount_of(scope: Scope) -> str:
    """Return the path where the application is mounted; "" of one that is not."""
    root: str = scope.get("root_path", "")
    return root.rstrip("/")


def route_path(scope: Scope) -> str:
    """Return the path below the place where the application is mounted."""
    path: str = scope["path"]
    if not scope.get("root_path"):
        return path
    root = mount_of(scope)
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def get_headers(scope: Scope) -> Headers:
    """Return the headers of a request."""
    return Headers(scope["headers"])


async def send_body(
    send: Send, body: Body, headers: Iterable[Header], *, status: int = 200
) -> None:
    """Send a response whose body is in memory; the server leaves the body out for HEAD."""
    answer = answer_with((body,), HeaderLines(), tuple(headers), status=status)
    await send_answer(send, answer)


def answer_with(
    pieces: Sequence[Body], fixed: HeaderLines, more: Sequence[Header], *, status: int = 200
) -> Answer:
    """Return a response with a body."""
    length = sum(map(len, pieces))
    size = (b"content-length", b"%d" % length)
    return Answer(status, fixed, (*more, size), pieces, length)


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a response; a long body in pieces, none of which is copied."""
    headers = [*answer.fixed.headers, *answer.more]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.length <= _PIECE:  # a copy costs less than pieces of their own
        body = answer.pieces[0] if len(answer.pieces) == 1 else b"".join(answer.pieces)
        await send({"type": "http.response.body", "body": body})
        return
    for body in answer.pieces:
        view = memoryview(body)
        for at in range(0, len(view), _PIECE):
            piece = view[at : at + _PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
