"""Routes of pictures: WADO-RS `/rendered` and `/thumbnail` (PS3.18 10.4.1.1.3, 10.4.1.1.4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass
from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from mmindex import __version__
from mmindex.errors import MMIndexError
from mmindex.serve.accept import choose
from mmindex.serve.errors import RequestError
from mmindex.serve.frames import require_frames
from mmindex.serve.held import Held, Uids
from mmindex.serve.pixel_data import native_piece, stream_media_type
from mmindex.serve.rendered import IMAGE_TYPES, THUMBNAIL, Rendering, parse_rendering, render
from mmindex.serve.responses import get_headers
from mmindex.serve.services import Services
from mmindex.serve.streams import (
    VARY,
    accept_of,
    not_modified,
    send_piece,
    stream,
    wants_multipart,
)

_AGED = "private, max-age=60"
_MOST_TRIED = 50  # instances of a study of which a thumbnail is tried


@dataclass(frozen=True, slots=True)
class Pictures:
    """The routes of pictures.

    Attributes
    ----------
    executor : Executor
        Where pictures are drawn.
    turns : asyncio.Semaphore
        How many are drawn at the same time: a client that is gone before its turn has none drawn.
    waiting : asyncio.Semaphore
        How many requests wait for a picture at the same time.
    most_frames : int
        How many frames a request may name.
    """

    services: Services
    executor: Executor
    turns: asyncio.Semaphore
    waiting: asyncio.Semaphore
    most_frames: int

    async def rendered(self, request: Request) -> Response:
        """Answer WADO-RS rendered resources."""
        held = await self.services.find(request)
        video = await self._send_video(request, held)
        if video is not None:
            return video
        rendering = parse_rendering(request.query_params)
        return await self._send(request, held, self._numbers(request, held, 1), rendering)

    async def thumbnail(self, request: Request) -> Response:
        """Answer WADO-RS thumbnails: the middle frame unless one is named."""
        if "instance" in request.path_params:
            held = await self.services.find(request)
        else:
            uids = await self.services.uids(request)
            held = await self.services.read(self._representative, uids)
        rendering = parse_rendering(request.query_params, (THUMBNAIL, THUMBNAIL))
        middle = held.record.number_of_frames // 2 + 1
        return await self._send(request, held, self._numbers(request, held, middle), rendering)

    def _representative(self, uids: list[Uids]) -> Held:
        """Return an instance with frames, from the middle of those that can be opened."""
        middle = len(uids) // 2
        failure: Exception = RequestError(404, "no instance has frames")
        for one in (uids[middle:] + uids[:middle])[:_MOST_TRIED]:
            try:
                held = self.services.shelf.open(one)
            except (MMIndexError, OSError) as error:
                failure = error
                continue
            if held.record.status.has_frames:
                return held
        raise failure

    def _numbers(self, request: Request, held: Held, default: int) -> list[int]:
        require_frames(held)
        text = request.path_params.get("frames", str(default))
        found = [index + 1 for index in self.services.frames.parse_numbers(held, text)]
        if len(found) > self.most_frames:
            raise RequestError(400, f"a request has at most {self.most_frames} rendered frames")
        return found

    async def _send(
        self, request: Request, held: Held, numbers: list[int], rendering: Rendering
    ) -> Response:
        accept = accept_of(request)
        media_type = choose(accept, IMAGE_TYPES, "a rendered frame")
        in_parts = len(numbers) > 1 or wants_multipart(accept)
        key = repr((numbers, rendering, media_type, in_parts, __version__)).encode()
        weak = "W/" if in_parts else ""
        etag = f'{weak}"{held.etag}-{blake2b(key, digest_size=9).hexdigest()}"'
        if get_headers(request.scope).matches(etag.encode()):
            return not_modified(etag)
        if self.waiting.locked():
            raise RequestError(503, "too many pictures are being made", ((b"retry-after", b"1"),))
        first = await self._draw(request, held, numbers[0], rendering, media_type)
        headers = {"cache-control": _AGED, "etag": etag, "vary": VARY}
        if not in_parts:
            return Response(first, headers={**headers, "content-type": media_type})
        multipart = self.services.multipart

        async def walk() -> AsyncIterator[bytes]:
            kind = media_type.encode()
            yield multipart.part_head(kind, first=True) + first
            for number in numbers[1:]:
                picture = await self._draw(request, held, number, rendering, media_type)
                yield multipart.part_head(kind) + picture
            yield multipart.closing

        headers["content-type"] = multipart.content_type(media_type).decode()
        return stream(request, walk(), headers)

    async def _draw(
        self, request: Request, held: Held, number: int, rendering: Rendering, media_type: str
    ) -> bytes:
        async with self.waiting, self.turns:
            if await _is_gone(request):
                raise RequestError(503, "the client is gone")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self.executor, render, held, number - 1, rendering, media_type
            )

    async def _send_video(self, request: Request, held: Held) -> Response | None:
        """Return a video stream as its own type, for players that ask for it; else None."""
        piece = await self.services.read(native_piece, held)
        if held.record.status.has_frames or piece is None:
            return None
        media_type = await self.services.read(stream_media_type, held)
        choose(accept_of(request), (media_type,), "the video stream")
        etag = f'"{held.etag}-video"'
        return await send_piece(self.services, request, piece, etag, media_type=media_type)


async def _is_gone(request: Request) -> bool:
    """Return whether a client has closed its connection; the first look takes its request's end."""
    return await request.is_disconnected() or await request.is_disconnected()
