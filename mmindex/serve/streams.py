"""Responses of routes: streams that threads read, byte ranges, what clients take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from mmindex.serve.accept import ANYTHING, OCTET_STREAM, parse_accept, parse_range
from mmindex.serve.errors import explain
from mmindex.serve.pixel_data import Piece
from mmindex.serve.responses import get_headers
from mmindex.serve.security import LOG
from mmindex.serve.services import Services
from mmindex.serve.wado import DICOM

FRESH = "private, no-cache"
VARY = "accept, accept-encoding, authorization, origin"


class Stream(StreamingResponse):
    """A response whose chunks are read as fast as the client takes them.

    Where reading fails after the status was sent, the message is left without its end, and the
    connection is closed: a client never takes a part for the whole.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the chunks."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        try:
            async for chunk in self.body_iterator:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception as error:
            if explain(error) is None:
                raise
            LOG.warning("an answer was cut short by %s", type(error).__name__)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def stream(
    request: Request,
    chunks: Iterator[bytes] | AsyncIterator[bytes],
    headers: dict[str, str],
    *,
    status: int = 200,
) -> Response:
    """Return a stream of chunks; of a HEAD request, without any."""
    if request.method == "HEAD":
        chunks = iter(())
    return Stream(chunks, status, headers)


def chain(opening: bytes, chunks: Iterator[bytes], closing: bytes = b"") -> Iterator[bytes]:
    """Yield what was read before the status was sent, and the rest."""
    yield opening
    yield from chunks
    if closing:
        yield closing


def not_modified(etag: str) -> Response:
    """Return status 304."""
    return Response(status_code=304, headers={"etag": etag, "cache-control": FRESH})


async def send_piece(
    services: Services,
    request: Request,
    piece: Piece,
    etag: str,
    *,
    media_type: str = OCTET_STREAM,
    in_parts: bool = False,
) -> Response:
    """Return a value or a range of it; its beginning is read before the status is sent."""
    headers = {"accept-ranges": "bytes", "cache-control": FRESH, "vary": VARY}
    if etag:
        headers["etag"] = etag
        if get_headers(request.scope).matches(etag.encode()):
            return not_modified(etag)
    asked = get_headers(request.scope).range_unless_changed(etag.encode())
    wanted = parse_range(asked, piece.end)
    start, end = wanted or (0, piece.end)
    status, place = 200, ""
    if wanted is not None:
        status, place = 206, f"bytes {start}-{end - 1}/{piece.end}"
    chunks = piece._replace(start=start, end=end).walk()
    opening = b"" if request.method == "HEAD" else await services.read(next, chunks, b"")
    if in_parts:
        headers["content-type"] = services.multipart.content_type(media_type.split(";")[0]).decode()
        head = media_type + (f"\r\nContent-Range: {place}" if place else "")
        before = services.multipart.part_head(head.encode(), first=True)
        whole = chain(before + opening, chunks, services.multipart.closing)
        return stream(request, whole, headers, status=status)
    headers["content-type"] = media_type
    headers["content-length"] = str(end - start)
    if place:
        headers["content-range"] = place
    return stream(request, chain(opening, chunks), headers, status=status)


def reader_of(value: bytes) -> Callable[[int, int], bytes]:
    """Return what reads ranges of a value."""
    return lambda offset, length: value[offset : offset + length]


def accept_of(request: Request) -> str:
    """Return what a client takes."""
    return get_headers(request.scope).accept(request.scope)


def wants_multipart(accept: str) -> bool:
    """Return whether the first thing that a client takes is a multipart message."""
    accepted = parse_accept(accept)
    best = accepted[0] if accepted else None
    if best is None or (best.media_type == ANYTHING and best.multipart is None):
        return False
    return bool(best.multipart)


def takes_one_part(accept: str) -> bool:
    """Return whether a client likes a bare `application/dicom` best."""
    accepted = parse_accept(accept)
    return bool(accepted) and accepted[0].media_type == DICOM and accepted[0].multipart is False


def takes_gzip(request: Request) -> bool:
    """Return whether a client takes gzip (RFC 9110 12.5.3)."""
    for piece in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = piece.partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
