"""Routes of DICOMweb (PS3.18 10), but for the one of frames that has a way of its own."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from mmindex.errors import MMIndexError
from mmindex.serve.accept import ANYTHING, OCTET_STREAM, choose, parse_accept, parse_range
from mmindex.serve.catalogue import Catalogue
from mmindex.serve.errors import RequestError
from mmindex.serve.frames import FrameService, require_frames
from mmindex.serve.headers import BASE
from mmindex.serve.multipart import Multipart
from mmindex.serve.qido import QueryService
from mmindex.serve.query import parse_query
from mmindex.serve.rendered import (
    IMAGE_TYPES,
    THUMBNAIL,
    Rendering,
    parse_rendering,
    render,
)
from mmindex.serve.responses import get_headers
from mmindex.serve.security import is_loopback
from mmindex.serve.shelf import Held, Shelf
from mmindex.serve.wado import (
    DICOM,
    Piece,
    RetrieveService,
    encapsulated_parts,
    is_pixel_path,
    native_piece,
    require_dicom,
    stream_media_type,
    walk_file,
)

Result = TypeVar("Result")
Handler = Callable[[Request], Awaitable[Response]]

_JSON = ("application/dicom+json", "application/json")
_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
_MOST_PARAMETERS = 200
_SHORTEST_COMPRESSED = 1 << 10  # bytes
_MOST_JOINED = 500  # instances whose metadata is one body; of more it is a stream
_FRESH = "private, no-cache"
_AGED = "private, max-age=60"
_VARY = "accept, accept-encoding, authorization, origin"


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes and what they stand on."""

    prefix: str
    shelf: Shelf
    catalogue: Catalogue
    frames: FrameService
    queries: QueryService
    retrieval: RetrieveService
    multipart: Multipart
    readers: Executor
    renderers: Executor
    render_slots: asyncio.Semaphore

    def make(self, prefix: str) -> list[BaseRoute]:
        """Return the routes below a prefix."""
        found: list[tuple[str, Handler]] = [
            ("/studies", self.search),
            ("/series", self.search),
            ("/instances", self.search),
            (_STUDY + "/series", self.search),
            (_STUDY + "/instances", self.search),
            (_SERIES + "/instances", self.search),
            (_STUDY, self.retrieve),
            (_SERIES, self.retrieve),
            (_INSTANCE, self.retrieve),
            (_STUDY + "/metadata", self.metadata),
            (_SERIES + "/metadata", self.metadata),
            (_INSTANCE + "/metadata", self.metadata),
            (_INSTANCE + "/bulkdata/{path:path}", self.bulkdata),
            (_INSTANCE + "/frames/{frames}/rendered", self.rendered),
            (_INSTANCE + "/frames/{frames}/thumbnail", self.thumbnail),
            (_INSTANCE + "/rendered", self.rendered),
            (_INSTANCE + "/thumbnail", self.thumbnail),
            (_SERIES + "/thumbnail", self.thumbnail),
            (_STUDY + "/thumbnail", self.thumbnail),
            (_INSTANCE + "/frames/{frames}", self.refuse_frames),
        ]
        routes: list[BaseRoute] = [
            Route(prefix + path, handler, methods=["GET"]) for path, handler in found
        ]
        for path in ("/workitems", "/workitems/{rest:path}"):
            routes.append(Route(prefix + path, self.refuse_worklists, methods=_METHODS))
        return routes

    async def search(self, request: Request) -> Response:
        """Answer QIDO-RS (PS3.18 10.6)."""
        media_type = choose(_accept(request), _JSON, "a query's answer")
        level = request.url.path.rsplit("/", 1)[1]
        query = parse_query(_parameters(request), of_studies=level == "studies")
        chunks = await self._read(self.queries.search, level, query, dict(request.path_params))
        opening = await self._read(lambda: b"".join(islice(chunks, 2)))
        response: Response
        if opening.endswith(b"]"):
            response = await self._send_json(request, opening, media_type)
        else:  # many results, as the client takes them
            base = self._base(request)
            whole = (piece.replace(BASE.encode(), base) for piece in _chain(opening, chunks))
            response = _stream(request, whole, {"content-type": media_type, "vary": _VARY})
        if query.unknown:
            text = "unknown parameters were ignored, and fuzzy matching is literal"
            response.headers["warning"] = f'299 mmindex "{text}"'
        return response

    async def metadata(self, request: Request) -> Response:
        """Answer WADO-RS metadata (PS3.18 10.4.1.1.2)."""
        media_type = choose(_accept(request), _JSON, "metadata")
        etag = ""
        if "instance" in request.path_params:
            held = await self._held(request)
            uids, etag = [held.record.sop_instance_uid], f'"{held.etag}-metadata"'
            if get_headers(request.scope).matches(etag.encode()):
                return _not_modified(etag)
        else:
            uids = await self._uids(request)
        if len(uids) > _MOST_JOINED:
            base = self._base(request)
            chunks = (chunk.replace(BASE.encode(), base) for chunk in self.retrieval.metadata(uids))
            return _stream(request, chunks, {"content-type": media_type, "vary": _VARY})
        text = await self._read(lambda: b"".join(self.retrieval.metadata(uids)))
        response = await self._send_json(request, text, media_type)
        if etag:
            response.headers["etag"] = etag
        return response

    async def retrieve(self, request: Request) -> Response:
        """Answer WADO-RS instances: part 10 files as they are (PS3.18 10.4.1.1.1)."""
        accept = _accept(request)
        headers = {"content-type": self.multipart.content_type(DICOM).decode(), "vary": _VARY}
        if "instance" in request.path_params:
            held = await self._held(request)
            uids = [held.record.sop_instance_uid]
            require_dicom(accept, held.record.transfer_syntax_uid)
            headers["etag"] = f'"{held.etag}-file"'
            if get_headers(request.scope).matches(headers["etag"].encode()):
                return _not_modified(headers["etag"])
            if _takes_one_part(accept):
                headers["content-type"] = DICOM
                name = re.sub(r"[^0-9A-Za-z.]", "", held.record.sop_instance_uid)
                headers["content-disposition"] = f'attachment; filename="{name}.dcm"'
                whole = walk_file(held)
                opening = await self._read(next, whole)
                return _stream(request, _chain(opening, whole), headers)
        else:
            uids = await self._uids(request)
        chunks = self.retrieval.files(uids, accept)
        first = await self._read(next, chunks)
        return _stream(request, _chain(first, chunks), headers)

    async def bulkdata(self, request: Request) -> Response:
        """Answer WADO-RS bulk data (PS3.18 10.4.1.1.5), with ranges where it is one piece."""
        held = await self._held(request)
        path = request.path_params["path"]
        accept = _accept(request)
        etag = f'"{held.etag}-{path}"' if path.isascii() and path.isalnum() else ""
        if not is_pixel_path(held, path):
            value = await self._read(self.retrieval.element, held, path)
            return self._send_piece(request, Piece(_reader(value), 0, len(value)), accept, etag)
        piece = await self._read(native_piece, held)
        if piece is None and held.record.frames is not None and not held.record.frames.frame_bits:
            content_type, chunks = encapsulated_parts(held, accept, self.multipart)
            headers = {"content-type": content_type.decode(), "etag": etag, "vary": _VARY}
            return _stream(request, chunks, headers)
        if piece is None:
            require_frames(held)
            raise RequestError(406, "single bits have no bulk data of their own: ask for frames")
        return self._send_piece(request, piece, accept, etag)

    def _send_piece(self, request: Request, piece: Piece, accept: str, etag: str) -> Response:
        headers = {"accept-ranges": "bytes", "cache-control": _FRESH, "vary": _VARY}
        if etag:
            headers["etag"] = etag
            if get_headers(request.scope).matches(etag.encode()):
                return _not_modified(etag)
        asked = get_headers(request.scope).range_unless_changed(etag.encode())
        wanted = parse_range(asked, piece.end)
        start, end = wanted or (0, piece.end)
        status, place = 200, ""
        if wanted is not None:
            status, place = 206, f"bytes {start}-{end - 1}/{piece.end}"
        part = Piece(piece.read, start, end)
        if _wants_multipart(accept):
            headers["content-type"] = self.multipart.content_type(OCTET_STREAM).decode()
            head = OCTET_STREAM + (f"\r\nContent-Range: {place}" if place else "")
            opening = self.multipart.part_head(head.encode(), first=True)
            chunks = _chain(opening, part.walk(), self.multipart.closing)
            return _stream(request, chunks, headers, status=status)
        headers["content-type"] = OCTET_STREAM
        headers["content-length"] = str(end - start)
        if place:
            headers["content-range"] = place
        return _stream(request, part.walk(), headers, status=status)

    async def rendered(self, request: Request) -> Response:
        """Answer WADO-RS rendered resources (PS3.18 10.4.1.1.3)."""
        held = await self._held(request)
        stream = await self._send_video(request, held)
        if stream is not None:
            return stream
        rendering = parse_rendering(request.query_params)
        return await self._send_picture(request, held, self._numbers(request, held, 1), rendering)

    async def thumbnail(self, request: Request) -> Response:
        """Answer WADO-RS thumbnails (PS3.18 10.4.1.1.4): the middle frame unless one is named."""
        if "instance" in request.path_params:
            held = await self._held(request)
        else:
            held = await self._read(self._representative, await self._uids(request))
        rendering = parse_rendering(request.query_params, (THUMBNAIL, THUMBNAIL))
        middle = held.record.number_of_frames // 2 + 1
        numbers = self._numbers(request, held, middle)
        return await self._send_picture(request, held, numbers, rendering)

    def _representative(self, uids: list[str]) -> Held:
        """Return an instance with frames, from the middle of those that can be opened."""
        middle = len(uids) // 2
        failure: Exception = RequestError(404, "no instance has frames")
        for uid in (uids[middle:] + uids[:middle])[:50]:
            try:
                held = self.shelf.open(uid)
            except (MMIndexError, OSError) as error:
                failure = error
                continue
            if held.record.status.has_frames:
                return held
        raise failure

    def _numbers(self, request: Request, held: Held, default: int) -> list[int]:
        require_frames(held)
        text = request.path_params.get("frames", str(default))
        return [index + 1 for index in self.frames.parse_numbers(held, text)]

    async def _send_picture(
        self, request: Request, held: Held, numbers: list[int], rendering: Rendering
    ) -> Response:
        media_type = choose(_accept(request), IMAGE_TYPES, "a rendered frame")
        as_query = f"{rendering.window}{rendering.quality}{rendering.viewport}{rendering.source}"
        key = f"{numbers}{as_query}{media_type}".encode().hex()[-200:]
        etag = f'"{held.etag}-{key}"'
        if get_headers(request.scope).matches(etag.encode()):
            return _not_modified(etag)
        if self.render_slots.locked():
            raise RequestError(503, "too many pictures are being made", ((b"retry-after", b"1"),))
        async with self.render_slots:
            loop = asyncio.get_running_loop()
            pictures = [
                await loop.run_in_executor(
                    self.renderers, render, held, number - 1, rendering, media_type
                )
                for number in numbers
            ]
        headers = {"cache-control": _AGED, "etag": etag, "vary": _VARY}
        if len(pictures) == 1 and not _wants_multipart(_accept(request)):
            return Response(pictures[0], headers={**headers, "content-type": media_type})
        body = self.multipart.join(pictures, media_type.encode())
        content_type = self.multipart.content_type(media_type).decode()
        return Response(body, headers={**headers, "content-type": content_type})

    async def _send_video(self, request: Request, held: Held) -> Response | None:
        """Return a video stream as its own type, for players that ask for it; else None."""
        piece = await self._read(native_piece, held)
        if held.record.status.has_frames or piece is None:
            return None
        media_type = await self._read(stream_media_type, held)
        choose(_accept(request), (media_type,), "the video stream")
        response = self._send_piece(request, piece, OCTET_STREAM, f'"{held.etag}-video"')
        response.headers["content-type"] = media_type
        return response

    async def refuse_frames(self, request: Request) -> Response:
        """Say what frame numbers look like: well-formed ones never come here."""
        raise RequestError(400, "frame numbers are a comma list of numbers from 1 on")

    async def refuse_worklists(self, request: Request) -> Response:
        """Answer UPS-RS (PS3.18 11), which is not there."""
        raise RequestError(501, "worklists (UPS-RS) are not served")

    async def _held(self, request: Request) -> Held:
        names = request.path_params
        return await self.frames.find(names["study"], names["series"], names["instance"])

    async def _uids(self, request: Request) -> list[str]:
        names = request.path_params
        return await self._read(self.retrieval.uids, names["study"], names.get("series"))

    async def _read(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run what may wait for a disk in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, work, *arguments)

    def _base(self, request: Request) -> bytes:
        """Return the service's URL as the client knows it, from its Host header.

        Some clients leave the port out there. That of this server is added for names of this
        machine; another name may be that of a proxy with a port of its own.
        """
        url = request.base_url
        server = request.scope.get("server")
        if url.port is None and server and is_loopback(url.hostname or ""):
            default = 443 if url.scheme == "https" else 80
            url = url.replace(port=server[1]) if server[1] not in (None, default) else url
        return (str(url).rstrip("/") + self.prefix).encode()

    async def _send_json(self, request: Request, text: bytes, media_type: str) -> Response:
        text = text.replace(BASE.encode(), self._base(request))
        headers = {"content-type": media_type, "cache-control": _FRESH, "vary": _VARY}
        encodings = request.headers.get("accept-encoding", "")
        if len(text) >= _SHORTEST_COMPRESSED and "gzip" in encodings:
            text = await self._read(lambda: gzip.compress(text, 1))
            headers["content-encoding"] = "gzip"
        return Response(text, headers=headers)


def _accept(request: Request) -> str:
    return get_headers(request.scope).accept(request.scope)


def _parameters(request: Request) -> list[tuple[str, str]]:
    found = request.query_params.multi_items()
    if len(found) > _MOST_PARAMETERS:
        raise RequestError(400, f"a query has at most {_MOST_PARAMETERS} parameters")
    return found


def _wants_multipart(accept: str) -> bool:
    """Return whether the first thing that a client takes is a multipart message."""
    accepted = parse_accept(accept)
    best = accepted[0] if accepted else None
    if best is None or (best.media_type == ANYTHING and best.multipart is None):
        return False
    return bool(best.multipart)


def _takes_one_part(accept: str) -> bool:
    """Return whether a client likes a bare `application/dicom` best."""
    accepted = parse_accept(accept)
    return bool(accepted) and accepted[0].media_type == DICOM and accepted[0].multipart is False


def _reader(value: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: value[offset : offset + length]


def _chain(opening: bytes, chunks: Iterator[bytes], closing: bytes = b"") -> Iterator[bytes]:
    yield opening
    yield from chunks
    if closing:
        yield closing


def _stream(
    request: Request, chunks: Iterator[bytes], headers: dict[str, str], *, status: int = 200
) -> Response:
    """Return a response whose chunks threads read as fast as the client takes them."""
    if request.method == "HEAD":
        chunks = iter(())
    return StreamingResponse(chunks, status, headers)


def _not_modified(etag: str) -> Response:
    return Response(status_code=304, headers={"etag": etag, "cache-control": _FRESH})
