"""Frames as stored: WADO-RS `/frames/1,2,3` (PS3.18 10.4.1.1.6), plain ASGI for speed.

A frame that lies in memory is sent at once; reading from a disk is left to a thread, so that
no client waits for another one's disk.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from hashlib import blake2b
from typing import NamedTuple

from starlette.types import Scope, Send

from mmindex.errors import NoPixelDataError, NotAddressableError
from mmindex.model import Status
from mmindex.scan.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from mmindex.serve.accept import Choice, choose_frame, parse_range
from mmindex.serve.errors import RequestError
from mmindex.serve.held import Held, Uids
from mmindex.serve.limits import Limits
from mmindex.serve.multipart import Body, Multipart
from mmindex.serve.responses import (
    Answer,
    HeaderLines,
    Headers,
    answer_with,
    get_headers,
    send_answer,
)
from mmindex.serve.security import HARDENING
from mmindex.serve.shelf import Shelf

_AGE = (b"cache-control", b"private, max-age=60")
_VARY = (b"vary", b"accept, authorization, origin")
_SOON = ((b"retry-after", b"1"),)
_NUMBERS = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")
_MOST_FORMS, _LONGEST_ACCEPT = 32, 512  # that are kept of an instance, and characters of each
_LONG = 1 << 20  # bytes from which a body is sent in pieces, and counted while on its way


class Form(NamedTuple):
    """How the frames of an instance go to a client.

    Attributes
    ----------
    choice : Choice
        Media type and transfer syntax.
    etag : bytes
        The ETag of a frame, but for its number in the place of `%b`.
    whole, unchanged : HeaderLines
        Headers of an answer with frames; of one without, as the client has them.
    """

    choice: Choice
    etag: bytes
    whole: HeaderLines
    unchanged: HeaderLines


class _Asked(NamedTuple):
    """What a request for frames asks for."""

    held: Held
    indices: list[int]
    headers: Headers
    form: Form
    etag: bytes


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
        asked = self._parse(scope, await self.find(uids), numbers)
        answer = self._answer_at_once(asked)
        if answer is None:
            loop = asyncio.get_running_loop()
            bodies = await loop.run_in_executor(
                self._executor, self._read, asked.held, asked.indices
            )
            answer = self._make_answer(asked, bodies)
        with self._on_its_way(answer.length) if answer.length >= _LONG else nullcontext():
            await send_answer(send, answer)

    def answer_at_once(self, scope: Scope, uids: Uids, numbers: str) -> Answer | None:
        """Return what `respond` would send if nothing has to be waited for; None otherwise.

        A long frame is left to `respond`, which waits for its client.

        Raises
        ------
        RequestError, NotAcceptableError, MMIndexError
            As `respond`.
        """
        held = self._shelf.held(uids)
        if held is None:
            return None
        return self._answer_at_once(self._parse(scope, held, numbers), _LONG)

    def _parse(self, scope: Scope, held: Held, numbers: str) -> _Asked:
        """Return what a request asks for, in the form in which its client takes that."""
        indices = self.parse_numbers(held, numbers)
        headers = get_headers(scope)
        accept = headers.accept(scope)
        form = held.forms.get(accept)
        if form is None:
            form = self._choose_form(held, accept)
        if len(indices) > 1 and not form.choice.multipart:
            raise RequestError(406, "several frames are sent as multipart/related only")
        which = numbers if len(indices) == 1 else _digest(numbers)
        return _Asked(held, indices, headers, form, form.etag % which.encode())

    def _choose_form(self, held: Held, accept: str) -> Form:
        """Return how frames go to a client; kept for the next ones that take the same."""
        choice = choose_stored(held, accept)
        name = choice.media_type[-3:] + "m" * choice.multipart
        etag = f'{"W/" if choice.multipart else ""}"{held.etag}-%b-{name}"'.encode()
        always = (*HARDENING, _AGE, _VARY)
        if choice.multipart:
            kind = self._multipart.content_type(choice.media_type)
            whole = HeaderLines((*always, (b"content-type", kind)))
        else:
            kind = choice.content_type
            whole = HeaderLines((*always, (b"content-type", kind), (b"accept-ranges", b"bytes")))
        form = Form(choice, etag, whole, HeaderLines(always))
        if len(held.forms) < _MOST_FORMS and len(accept) <= _LONGEST_ACCEPT:
            held.forms[accept] = form
        return form

    def _answer_at_once(self, asked: _Asked, longest: int | None = None) -> Answer | None:
        """Return the answer without a body, or with one frame that lies in memory."""
        if asked.headers.matches(asked.etag):
            return Answer(304, asked.form.unchanged, ((b"etag", asked.etag),))
        if len(asked.indices) > 1:
            return None
        body = asked.held.read_at_once(asked.indices[0], longest)
        return None if body is None else self._make_answer(asked, [body])

    def _make_answer(self, asked: _Asked, bodies: Sequence[Body]) -> Answer:
        """Return the answer with these frames, or with the range of one that is asked for."""
        form, etag = asked.form, (b"etag", asked.etag)
        if form.choice.multipart:
            pieces = self._multipart.list_pieces(bodies, form.choice.content_type)
            return answer_with(pieces, form.whole, (etag,))
        (body,) = bodies
        wanted = parse_range(asked.headers.range_unless_changed(asked.etag), len(body))
        if wanted is None:
            return answer_with(bodies, form.whole, (etag,))
        start, end = wanted
        place = (b"content-range", b"bytes %d-%d/%d" % (start, end - 1, len(body)))
        return answer_with([memoryview(body)[start:end]], form.whole, (etag, place), status=206)

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
