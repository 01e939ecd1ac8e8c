"""Frames as stored: WADO-RS `/frames/1,2,3` (PS3.18 10.4.1.1.6), plain ASGI for speed.

A frame that lies in memory is sent at once; reading from a disk is left to a thread, so that
no client waits for another one's disk.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from hashlib import blake2b

from starlette.types import Scope, Send

from mmindex.errors import NoPixelDataError, NotAddressableError
from mmindex.model import Status
from mmindex.scan.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from mmindex.serve.accept import Choice, choose_frame, parse_range
from mmindex.serve.errors import RequestError
from mmindex.serve.held import Held, Uids
from mmindex.serve.limits import Limits
from mmindex.serve.multipart import Body, Multipart
from mmindex.serve.responses import Headers, get_headers, send_body, send_not_modified, send_pieces
from mmindex.serve.security import HARDENING
from mmindex.serve.shelf import Shelf

_AGE = (b"cache-control", b"private, max-age=60")
_VARY = (b"vary", b"accept, authorization, origin")
_SOON = ((b"retry-after", b"1"),)
_NUMBERS = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")
_LONG = 1 << 20  # bytes from which a body is sent in pieces, and counted while on its way


class FrameService:
    """Sends frames."""

    def __init__(
        self, shelf: Shelf, multipart: Multipart, executor: Executor, limits: Limits
    ) -> None:
        self._shelf = shelf
        self._multipart = multipart
        self._executor = executor
        self._limits = limits
        self._held_bytes = 0

    async def find(self, uids: Uids) -> Held:
        """Return an instance, open, from a thread unless it is open already.

        Raises
        ------
        MMIndexError
            As `Shelf.open`.
        """
        held = self._shelf.held(uids)
        if held is None:
            loop = asyncio.get_running_loop()
            held = await loop.run_in_executor(self._executor, self._shelf.open, uids)
        return held

    async def respond(self, scope: Scope, send: Send, uids: Uids, numbers: str) -> None:
        """Send the frames that a comma list of numbers, from 1 on, names.

        Raises
        ------
        RequestError, NotAcceptableError, MMIndexError
            There are no such frames, or the client takes them in no form that there is.
        """
        held = await self.find(uids)
        indices = self.parse_numbers(held, numbers)
        headers = get_headers(scope)
        choice = choose_stored(held, headers.accept(scope))
        if len(indices) > 1 and not choice.multipart:
            raise RequestError(406, "several frames are sent as multipart/related only")
        form = choice.media_type[-3:] + "m" * choice.multipart
        which = numbers if len(indices) == 1 else _digest(numbers)
        etag = f'{"W/" if choice.multipart else ""}"{held.etag}-{which}-{form}"'.encode()
        common = [*HARDENING, _AGE, _VARY, (b"etag", etag)]
        if headers.matches(etag):
            await send_not_modified(send, common)
            return
        first = held.read_at_once(indices[0]) if len(indices) == 1 else None
        bodies: list[Body]
        if first is not None:
            bodies = [first]
        else:
            loop = asyncio.get_running_loop()
            bodies = await loop.run_in_executor(self._executor, self._read, held, indices)
        length = sum(map(len, bodies))
        is_long = length >= _LONG
        with self._on_its_way(length) if is_long else nullcontext():
            if choice.multipart:
                common.append((b"content-type", self._multipart.content_type(choice.media_type)))
                pieces = self._multipart.list_pieces(bodies, choice.content_type)
                if is_long:
                    await send_pieces(send, pieces, common)
                else:  # a copy costs less than pieces of their own
                    await send_body(send, b"".join(pieces), common)
            else:
                await _send_frame(send, headers, choice, bodies[0], common, etag)

    @contextmanager
    def _on_its_way(self, length: int) -> Iterator[None]:
        """Count the bytes of a body that is held for its client, for a `with` statement.

        Raises
        ------
        RequestError
            Other clients have not taken too many bytes: status 503.
        """
        if self._held_bytes and self._held_bytes + length > self._limits.all_response_bytes:
            raise RequestError(503, "too many long answers are on their way", _SOON)
        self._held_bytes += length
        try:
            yield
        finally:
            self._held_bytes -= length

    def parse_numbers(self, held: Held, numbers: str) -> list[int]:
        """Return the indices, from 0 on, of a comma list of frame numbers.

        Raises
        ------
        RequestError
            One is no number, there are too many, or the instance has no such frame.
        """
        pieces = numbers.split(",")
        if len(pieces) > self._limits.frames:
            raise RequestError(400, f"a request has at most {self._limits.frames} frames")
        if not _NUMBERS.fullmatch(numbers):
            raise RequestError(400, "frame numbers are a comma list of numbers from 1 on")
        require_frames(held)
        count = held.record.number_of_frames
        indices = [int(piece) - 1 for piece in pieces]
        for index in indices:
            if not 0 <= index < count:
                raise RequestError(
                    404, f"there is no frame {index + 1}: the instance has 1 to {count}"
                )
        return indices

    def _read(self, held: Held, indices: list[int]) -> list[Body]:
        found: list[Body] = []
        left = self._limits.response_bytes
        for index in indices:
            at_once = held.read_at_once(index)
            found.append(held.read(index) if at_once is None else at_once)
            left -= len(found[-1])
            if left < 0 and len(indices) > 1:
                raise RequestError(
                    400, f"these frames are over {self._limits.response_bytes} bytes: ask for fewer"
                )
        return found


async def _send_frame(
    send: Send,
    headers: Headers,
    choice: Choice,
    body: Body,
    common: list[tuple[bytes, bytes]],
    etag: bytes,
) -> None:
    """Send one frame, or the range of it that the client asks for."""
    common += [(b"content-type", choice.content_type), (b"accept-ranges", b"bytes")]
    wanted = parse_range(headers.range_unless_changed(etag), len(body))
    if wanted is None:
        await send_body(send, body, common)
        return
    start, end = wanted
    common.append((b"content-range", f"bytes {start}-{end - 1}/{len(body)}".encode()))
    await send_body(send, memoryview(body)[start:end], common, status=206)


def _digest(numbers: str) -> str:
    """Return a short name of a list of frames, without commas: an ETag is one of a list."""
    return blake2b(numbers.encode(), digest_size=9).hexdigest()


def require_frames(held: Held) -> None:
    """Raise the error that says why where an instance has no frames of their own."""
    if held.record.status is Status.STREAM:
        raise NotAddressableError(
            "the frames are one video stream, which /bulkdata and /rendered send"
        )
    if not held.record.status.has_frames:
        raise NoPixelDataError("the instance has no pixel data")


def choose_stored(held: Held, accept: str) -> Choice:
    """Return how the frames of an instance are sent to a client.

    Raises
    ------
    NotAcceptableError
        The client takes them in no form that is stored.
    """
    record = held.record
    encapsulated = record.frames is not None and not record.frames.frame_bits
    syntax = record.transfer_syntax_uid
    if not encapsulated and record.big_endian:  # whatever the file says
        syntax = EXPLICIT_VR_BIG_ENDIAN
    elif not encapsulated and syntax == EXPLICIT_VR_BIG_ENDIAN:
        syntax = EXPLICIT_VR_LITTLE_ENDIAN
    return choose_frame(accept, syntax, encapsulated=encapsulated)
