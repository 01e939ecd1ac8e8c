"""Retrieval: WADO-RS instances, metadata and bulk data (PS3.18 10.4)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from mmindex import Instance
from mmindex.dicom_json import find_vr, little_endian
from mmindex.errors import MMIndexError, StaleIndexError
from mmindex.model import Fingerprint, Status
from mmindex.serve.accept import NotAcceptableError, parse_accept
from mmindex.serve.catalogue import Catalogue
from mmindex.serve.errors import RequestError
from mmindex.serve.frames import choose_stored
from mmindex.serve.headers import PIXEL_TAGS, HeaderCache, read_dataset
from mmindex.serve.multipart import Multipart
from mmindex.serve.shelf import Held, Shelf

DICOM = "application/dicom"
_CHUNK = 256 << 10  # bytes that are held of a file on its way
_MOST_FILES = 100_000  # of one answer


class Piece(NamedTuple):
    """Bytes `start` to `end` of what `read(offset, length)` returns."""

    read: Callable[[int, int], bytes]
    start: int
    end: int

    def walk(self) -> Iterator[bytes]:
        """Yield the bytes, a chunk at a time."""
        for at in range(self.start, self.end, _CHUNK):
            yield self.read(at, min(_CHUNK, self.end - at))


class RetrieveService:
    """Finds what is to be sent; its methods run in threads."""

    def __init__(
        self, shelf: Shelf, catalogue: Catalogue, headers: HeaderCache, multipart: Multipart
    ) -> None:
        self._shelf = shelf
        self._catalogue = catalogue
        self._headers = headers
        self._multipart = multipart

    def uids(self, study: str, series: str | None) -> list[str]:
        """Return the SOP Instance UIDs of a study or of one of its series.

        Raises
        ------
        RequestError
            There is none: status 404.
        """
        found = self._catalogue.rows(study)
        if not found:
            raise RequestError(404, "there is no such study")
        if series is not None and series not in found:
            raise RequestError(404, "there is no such series in this study")
        uids = [uid for one, rows in found.items() if series in (None, one) for uid in rows]
        if len(uids) > _MOST_FILES:
            raise RequestError(400, f"an answer has at most {_MOST_FILES} instances")
        return uids

    def metadata(self, uids: Sequence[str]) -> Iterator[bytes]:
        """Yield a JSON array of headers (PS3.18 10.4.1.1.2), one a piece.

        Raises
        ------
        MMIndexError
            The only instance cannot be read; of several, such a one is left out.
        """
        before = b"["
        for uid in uids:
            try:
                text = self._headers.text(self._shelf.open(uid))
            except (MMIndexError, OSError):
                if len(uids) == 1:
                    raise
                continue
            yield before + text
            before = b","
        yield b"[]" if before == b"[" else b"]"

    def files(self, uids: Sequence[str], accept: str) -> Iterator[bytes]:
        """Yield a message of part 10 files as they are (PS3.18 10.4.1.1.1).

        A file that cannot be opened or is in a transfer syntax that the client does not take is
        left out, unless it is the only one.

        Raises
        ------
        MMIndexError, NotAcceptableError, RequestError
            No file can be sent.
        """
        first = True
        failure: Exception = RequestError(404, "there is no instance")
        for uid in uids:
            try:
                held = self._shelf.open(uid)
                syntax = held.record.transfer_syntax_uid
                require_dicom(accept, syntax)
                chunks = walk_file(held)
                opening = next(chunks, b"")
            except (MMIndexError, NotAcceptableError, OSError) as error:
                failure = error
                continue
            content_type = (
                f"{DICOM}; transfer-syntax={syntax}".encode() if syntax else DICOM.encode()
            )
            yield self._multipart.part_head(content_type, first=first)
            first = False
            yield opening
            yield from chunks
        if first:
            raise failure
        yield self._multipart.closing

    def element(self, held: Held, path: str) -> bytes:
        """Return the value of an element of the header: bulk data (PS3.18 10.4.1.1.5).

        Raises
        ------
        RequestError
            There is none at the path: status 404.
        FormatError
            The header cannot be read.
        """
        dataset = read_dataset(held.instance)
        *outer, last = path.split("/")
        if len(outer) % 2:
            raise RequestError(404, "bulk data is at a tag, or below items of sequences")
        for tag, number in zip(outer[::2], outer[1::2], strict=True):
            dataset = _find_item(dataset, tag, number)
        raw = _find_raw(dataset, last)
        vr = find_vr(raw.tag, raw.VR)
        return little_endian(raw.value or b"", vr, "<" if raw.is_little_endian else ">")


def require_dicom(accept: str, transfer_syntax_uid: str) -> None:
    """Raise NotAcceptableError unless a client takes part 10 files of this transfer syntax."""
    for one in parse_accept(accept):
        if one.matches(DICOM) and one.transfer_syntax in (None, "*", transfer_syntax_uid):
            return
    raise NotAcceptableError(
        f"instances are sent as stored: accept multipart/related; type={DICOM!r}, in "
        f"transfer-syntax=* or {transfer_syntax_uid}"
    )


def walk_file(held: Held) -> Iterator[bytes]:
    """Yield the file of an instance as it was indexed, a chunk at a time.

    Raises
    ------
    StaleIndexError
        The file changed.
    OSError
        It cannot be read.
    """
    record, path = held.record, held.instance.path
    if path is None or record.fingerprint is None:
        raise StaleIndexError("the instance has no file")
    if record.member is not None:
        yield from _walk_member(held.instance)
        return
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - the generator outlives this line
    except FileNotFoundError:
        raise StaleIndexError("the file is gone") from None
    with file:
        found = Fingerprint.of(os.fstat(file.fileno()))
        if found[:2] != record.fingerprint[:2]:
            raise StaleIndexError("the file changed after it was indexed")
        left = found.size
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise StaleIndexError("the file became shorter")
            left -= len(chunk)
            yield chunk


def _walk_member(instance: Instance) -> Iterator[bytes]:
    """Yield a file in a container, a chunk at a time; raises what `Instance.read_file` raises."""
    offset, left = instance.file_range
    while left:
        chunk = instance.read_file(offset, min(_CHUNK, left))
        yield chunk
        offset += len(chunk)
        left -= len(chunk)


def is_pixel_path(held: Held, path: str) -> bool:
    """Return whether a bulk data path is that of the pixel data."""
    return path.upper() == PIXEL_TAGS.get(held.record.image_pixel.pixel_keyword, "7FE00010")


def native_piece(held: Held) -> Piece | None:
    """Return native pixel data as one piece of the file, or a video stream; None of others."""
    record, instance = held.record, held.instance
    if record.status is Status.STREAM:
        return Piece(_StreamReader(held), 0, instance.stream_length)
    if record.frames is None or not record.frames.frame_bits:
        return None
    if record.frames.frame_bits % 8:
        return None
    size = record.frames.frame_bits // 8

    def read(offset: int, length: int) -> bytes:
        first, last = offset // size, (offset + length - 1) // size
        joined = b"".join(instance.frames(range(first, last + 1)))
        return joined[offset - first * size : offset - first * size + length]

    return Piece(read, 0, size * record.number_of_frames)


class _StreamReader:
    """Reads a video stream, whose fragments follow each other."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def __call__(self, offset: int, length: int) -> bytes:
        """Return bytes of the joined fragments."""
        found = bytearray()
        at = 0
        for fragment in self._held.instance.all_fragments():
            end = at + len(fragment)
            if end > offset:
                found += fragment[max(0, offset - at) : offset + length - at]
            at = end
            if at >= offset + length:
                break
        return bytes(found)


def stream_media_type(held: Held) -> str:
    """Return what a video stream is: an MP4 file, or an MPEG stream (PS3.18 table 8.7.3-6)."""
    head = _StreamReader(held)(0, 12)
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/mpeg"


def encapsulated_parts(
    held: Held, accept: str, multipart: Multipart
) -> tuple[bytes, Iterator[bytes]]:
    """Return Content-Type and message of encapsulated pixel data: a part a frame.

    Raises
    ------
    NotAcceptableError
        The client does not take it as stored.
    """
    choice = choose_stored(held, accept)

    def walk() -> Iterator[bytes]:
        for index in range(held.record.number_of_frames):
            yield multipart.part_head(choice.content_type, first=not index)
            yield held.instance.frame(index)
        yield multipart.closing

    return multipart.content_type(choice.media_type), walk()


def _find_item(dataset: Dataset, tag: str, number: str) -> Dataset:
    missing = RequestError(404, "there is no such item")
    if not (_is_tag(tag) and number.isascii() and number.isdigit() and len(number) < 8):
        raise missing
    if int(tag, 16) not in dataset:
        raise missing
    element = dataset[int(tag, 16)]
    if element.VR != "SQ" or not 1 <= int(number) <= len(element.value):
        raise missing
    found: Dataset = element.value[int(number) - 1]
    return found


def _find_raw(dataset: Dataset, tag: str) -> RawDataElement:
    raw = None
    if _is_tag(tag) and int(tag, 16) in dataset:
        raw = dataset.get_item(int(tag, 16))
    if not isinstance(raw, RawDataElement):
        raise RequestError(404, "there is no such element")
    return raw


def _is_tag(text: str) -> bool:
    return len(text) == 8 and all(char in "0123456789abcdefABCDEF" for char in text)
