"""Routes of DICOMweb (PS3.18 10), but for the one of frames that has a way of its own."""

from __future__ import annotations

import gzip
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mmindex.serve.accept import OCTET_STREAM, choose
from mmindex.serve.current import answering_again
from mmindex.serve.errors import RequestError
from mmindex.serve.frames import require_frames
from mmindex.serve.headers import BASE
from mmindex.serve.pictures import Pictures
from mmindex.serve.pixel_data import (
    Piece,
    choose_native,
    encapsulated_parts,
    is_pixel_path,
    native_piece,
)
from mmindex.serve.query import Query, parse_query
from mmindex.serve.responses import get_headers
from mmindex.serve.services import Services
from mmindex.serve.streams import (
    FRESH,
    VARY,
    accept_of,
    chain,
    not_modified,
    reader_of,
    send_piece,
    stream,
    takes_gzip,
    takes_one_part,
    wants_multipart,
)
from mmindex.serve.wado import DICOM, require_dicom, walk_file

Handler = Callable[[Request], Awaitable[Response]]

_JSON = ("application/dicom+json", "application/json")
_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
_MOST_PARAMETERS = 200
_SHORTEST_COMPRESSED = 1 << 10  # bytes
_MOST_JOINED = 500  # instances whose metadata is one body; of more it is a stream
_LEFT_OUT = {"warning": '299 mmindex "instances that cannot be read or taken are left out"'}


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes of queries, metadata, instances and bulk data; lists those of pictures, too."""

    services: Services
    pictures: Pictures

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
            (_INSTANCE + "/frames/{frames}/rendered", self.pictures.rendered),
            (_INSTANCE + "/frames/{frames}/thumbnail", self.pictures.thumbnail),
            (_INSTANCE + "/rendered", self.pictures.rendered),
            (_INSTANCE + "/thumbnail", self.pictures.thumbnail),
            (_SERIES + "/thumbnail", self.pictures.thumbnail),
            (_STUDY + "/thumbnail", self.pictures.thumbnail),
            (_INSTANCE + "/frames/{frames}", self.refuse_frames),
        ]
        routes: list[BaseRoute] = [
            Route(prefix + path, answering_again(handler), methods=["GET"])
            for path, handler in found
        ]
        for path in ("/workitems", "/workitems/{rest:path}"):
            routes.append(Route(prefix + path, self.refuse_worklists, methods=_METHODS))
        return routes

    async def search(self, request: Request) -> Response:
        """Answer QIDO-RS (PS3.18 10.6)."""
        media_type = choose(accept_of(request), _JSON, "a query's answer")
        level = request.url.path.rsplit("/", 1)[1]
        query = parse_query(_parameters(request), of_studies=level == "studies")
        services = self.services
        chunks = await services.read(
            services.queries.search, level, query, dict(request.path_params)
        )
        opening = await services.read(lambda: b"".join(islice(chunks, 2)))
        response: Response
        if opening.endswith(b"]"):
            response = await self._send_json(request, opening, media_type)
        else:  # many results, as the client takes them
            base = services.base(request)
            whole = (piece.replace(BASE.encode(), base) for piece in chain(opening, chunks))
            response = stream(request, whole, {"content-type": media_type, "vary": VARY})
        if warnings := _warnings(query):
            response.headers["warning"] = warnings
        return response

    async def metadata(self, request: Request) -> Response:
        """Answer WADO-RS metadata (PS3.18 10.4.1.1.2)."""
        media_type = choose(accept_of(request), _JSON, "metadata")
        services = self.services
        joined = services.retrieval.joined_metadata
        if "instance" in request.path_params:
            held = await services.find(request)
            etag = f'"{held.etag}-metadata{"-gzip" if takes_gzip(request) else ""}"'
            if get_headers(request.scope).matches(etag.encode()):
                return not_modified(etag)
            text, _ = await services.read(joined, [held.uids])
            response = await self._send_json(request, text, media_type)
            response.headers["etag"] = etag
            return response
        uids = await services.uids(request)
        if len(uids) > _MOST_JOINED:
            base = services.base(request)
            found = await services.read(services.retrieval.readable, uids)
            chunks = services.retrieval.metadata(found.uids)
            whole = (chunk.replace(BASE.encode(), base) for chunk in chunks)
            opening = await services.read(next, whole)
            headers = {"content-type": media_type, "vary": VARY}
            return _stream_found(request, chain(opening, whole), headers, is_whole=found.is_whole)
        text, is_whole = await services.read(joined, uids)
        response = await self._send_json(request, text, media_type)
        if not is_whole:
            response.status_code = 206
            response.headers.update(_LEFT_OUT)
        return response

    async def retrieve(self, request: Request) -> Response:
        """Answer WADO-RS instances: part 10 files as they are (PS3.18 10.4.1.1.1)."""
        accept = accept_of(request)
        services = self.services
        retrieval = services.retrieval
        multipart = services.multipart.content_type(DICOM).decode()
        headers = {"content-type": multipart, "vary": VARY}
        if "instance" not in request.path_params:
            found = await services.read(retrieval.readable, await services.uids(request), accept)
            chunks = retrieval.files(found.uids)
            first = await services.read(next, chunks)
            return _stream_found(request, chain(first, chunks), headers, is_whole=found.is_whole)
        held = await services.find(request)
        require_dicom(accept, held.record.transfer_syntax_uid)
        is_bare = takes_one_part(accept)
        headers["etag"] = f'"{held.etag}-file"' if is_bare else f'W/"{held.etag}-files"'
        if get_headers(request.scope).matches(headers["etag"].encode()):
            return not_modified(headers["etag"])
        chunks = retrieval.files([held.uids])
        if is_bare:
            headers["content-type"] = DICOM
            headers["content-length"] = str(held.instance.file_range.length)
            name = re.sub(r"[^0-9A-Za-z.]", "", held.record.sop_instance_uid)
            headers["content-disposition"] = f'attachment; filename="{name}.dcm"'
            chunks = walk_file(held)
        opening = await services.read(next, chunks, b"")
        return stream(request, chain(opening, chunks), headers)

    async def bulkdata(self, request: Request) -> Response:
        """Answer WADO-RS bulk data (PS3.18 10.4.1.1.5), with ranges where it is one piece."""
        services = self.services
        held = await services.find(request)
        path = request.path_params["path"]
        accept = accept_of(request)
        in_parts = wants_multipart(accept)
        etag = f'"{held.etag}-{path}"' if path.isascii() and path.isalnum() else ""
        if etag and in_parts:
            etag = f'W/"{held.etag}-{path}-m"'
        if not is_pixel_path(held, path):
            value = await services.read(services.retrieval.element, held, path)
            piece = Piece(reader_of(value), 0, len(value))
            return await send_piece(services, request, piece, etag, in_parts=in_parts)
        native = await services.read(native_piece, held)
        if native is not None:
            native, media_type = choose_native(held, native, accept)
            if etag and media_type != OCTET_STREAM:
                etag = f'{etag[:-1]}-be"'  # the same value in another order
            return await send_piece(
                services, request, native, etag, media_type=media_type, in_parts=in_parts
            )
        if held.record.frames is not None and not held.record.frames.frame_bits:
            content_type, chunks = encapsulated_parts(held, accept, services.multipart)
            opening = await services.read(lambda: b"".join(islice(chunks, 2)))
            headers = {"content-type": content_type.decode(), "vary": VARY}
            return stream(request, chain(opening, chunks), headers)
        require_frames(held)
        raise RequestError(406, "single bits have no bulk data of their own: ask for frames")

    async def refuse_frames(self, request: Request) -> Response:
        """Say what frame numbers look like: well-formed ones never come here."""
        raise RequestError(400, "frame numbers are a comma list of numbers from 1 on")

    async def refuse_worklists(self, request: Request) -> Response:
        """Answer UPS-RS (PS3.18 11), which is not there."""
        raise RequestError(501, "worklists (UPS-RS) are not served")

    async def _send_json(self, request: Request, text: bytes, media_type: str) -> Response:
        text = text.replace(BASE.encode(), self.services.base(request))
        headers = {"content-type": media_type, "cache-control": FRESH, "vary": VARY}
        if len(text) >= _SHORTEST_COMPRESSED and takes_gzip(request):
            text = await self.services.read(lambda: gzip.compress(text, 1))
            headers["content-encoding"] = "gzip"
        return Response(text, headers=headers)


def _stream_found(
    request: Request, chunks: Iterator[bytes], headers: dict[str, str], *, is_whole: bool
) -> Response:
    """Return a stream, with status 206 where instances are left out."""
    if is_whole:
        return stream(request, chunks, headers)
    return stream(request, chunks, {**headers, **_LEFT_OUT}, status=206)


def _parameters(request: Request) -> list[tuple[str, str]]:
    found = request.query_params.multi_items()
    if len(found) > _MOST_PARAMETERS:
        raise RequestError(400, f"a query has at most {_MOST_PARAMETERS} parameters")
    return found


def _warnings(query: Query) -> str:
    """Return the Warning header of an answer (PS3.18 8.3.1, 8.3.4.2); empty without one."""
    texts = []
    if query.fuzzy:
        texts.append(
            "The fuzzymatching parameter is not supported. "
            "Only literal matching has been performed."
        )
    if query.unknown:
        texts.append("unknown parameters were ignored")
    return ", ".join(f'299 mmindex "{text}"' for text in texts)
