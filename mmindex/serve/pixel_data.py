"""Pixel data as bulk data: native values and video streams by range, frames in parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from mmindex.dicom_json import swap_words, word_size
from mmindex.frame_table import ByteRange
from mmindex.model import Status
from mmindex.scan.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from mmindex.serve.accept import (
    OCTET_STREAM,
    NotAcceptableError,
    in_transfer_syntax,
    parse_accept,
)
from mmindex.serve.frames import choose_stored
from mmindex.serve.headers import PIXEL_TAGS
from mmindex.serve.held import Held
from mmindex.serve.multipart import Multipart

CHUNK = 256 << 10  # bytes that are held of a file on its way
_REMOTE_CHUNK = 4 << 20  # of an object: a request a chunk


class Piece(NamedTuple):
    """Bytes `start` to `end` of what `read(offset, length)` returns."""

    read: Callable[[int, int], bytes]
    start: int
    end: int
    chunk: int = CHUNK

    def walk(self) -> Iterator[bytes]:
        """Yield the bytes, a chunk at a time."""
        for at in range(self.start, self.end, self.chunk):
            yield self.read(at, min(self.chunk, self.end - at))


def chunk_size(held: Held) -> int:
    """Return how many bytes of an instance's file are read at a time."""
    return _REMOTE_CHUNK if held.is_remote else CHUNK


def is_pixel_path(held: Held, path: str) -> bool:
    """Return whether a bulk data path is that of the pixel data."""
    return path.upper() == PIXEL_TAGS.get(held.record.image_pixel.pixel_keyword, "7FE00010")


def native_piece(held: Held) -> Piece | None:
    """Return native pixel data as one piece of the file, or a video stream; None of others."""
    record = held.record
    if record.status is Status.STREAM:
        return Piece(_read_stream(held), 0, held.instance.stream_length, chunk_size(held))
    if record.frames is None or not record.frames.frame_bits:
        return None
    if record.frames.frame_bits % 8:
        return None
    length = record.frames.frame_bits // 8 * record.number_of_frames
    return Piece(_NativeReader(held), 0, length, chunk_size(held))


def choose_native(held: Held, piece: Piece, accept: str) -> tuple[Piece, str]:
    """Return native pixel data or a video stream as a client takes it, and the media type.

    Big Endian becomes Little Endian, which bulk data are (PS3.18 8.7.3.2), unless the client asks
    for that transfer syntax or for any.

    Raises
    ------
    NotAcceptableError
        The samples are Big Endian, and the client takes neither, or their words are not known.
    """
    if held.record.status is Status.STREAM or not held.record.big_endian:
        return piece, OCTET_STREAM
    stored = in_transfer_syntax(OCTET_STREAM, EXPLICIT_VR_BIG_ENDIAN).decode()
    size = _find_word_size(held)
    for one in parse_accept(accept):
        if not one.matches(OCTET_STREAM):
            continue
        if one.transfer_syntax in ("*", EXPLICIT_VR_BIG_ENDIAN):
            return piece, stored
        if size and one.transfer_syntax in (None, EXPLICIT_VR_LITTLE_ENDIAN):
            return piece._replace(read=_SwappedReader(piece.read, size)), OCTET_STREAM
    raise NotAcceptableError(f"the samples are Big Endian, sent as stored: accept {stored}")


def _find_word_size(held: Held) -> int | None:
    """Return the bytes of a word of native pixel data; None where the file leaves that open.

    Of bytes that are declared as words of another size, programs disagree; a last word with a
    padding byte has a sample where the padding is.
    """
    image, table = held.record.image_pixel, held.record.frames
    if table is None or word_size(image.pixel_vr) * 8 < image.stored_bits(table.frame_bits):
        return None
    if image.pixel_vr not in ("OB", "OW", "OF", "OD"):
        return None
    length = table.frame_bits // 8 * held.record.number_of_frames
    return None if length % word_size(image.pixel_vr) else word_size(image.pixel_vr)


class _SwappedReader:
    """Reads words with their bytes in the other order."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size

    def __call__(self, offset: int, length: int) -> bytes:
        """Return bytes of the swapped words; those around the ends are read whole."""
        before = offset % self._size
        whole = -(-(before + length) // self._size) * self._size
        return swap_words(self._read(offset - before, whole), self._size)[before : before + length]


class _NativeReader:
    """Reads native frames as one value, of a long frame only the bytes asked for."""

    def __init__(self, held: Held) -> None:
        table = held.record.frames
        assert table is not None
        self._table = table
        self._instance = held.instance
        self._size = table.frame_bits // 8

    def __call__(self, offset: int, length: int) -> bytes:
        """Return bytes of the joined frames."""
        size, end = self._size, offset + length
        first, last = -(-offset // size), end // size  # the frames that are wanted whole
        if first > last:
            return self._read_part(last, offset - last * size, length)
        parts = []
        if offset < first * size:
            parts.append(self._read_part(first - 1, size - first * size + offset, None))
        parts += self._instance.frames(range(first, last))
        if last * size < end:
            parts.append(self._read_part(last, 0, end - last * size))
        return b"".join(parts)

    def _read_part(self, frame_index: int, start: int, length: int | None) -> bytes:
        length = self._size - start if length is None else length
        place = self._table.contiguous_range(frame_index)
        if place is None:
            return self._instance.frame(frame_index)[start : start + length]
        return self._instance.source.read(place[0] + start, length)


def _read_stream(held: Held) -> Callable[[int, int], bytes]:
    """Return what reads a video stream, whose fragments follow each other."""
    table = held.record.frames
    assert table is not None
    ranges = table.fragment_ranges(0)
    starts = [0, *accumulate(piece.length for piece in ranges)]

    def read(offset: int, length: int) -> bytes:
        return held.instance.source.read_joined(_cut(ranges, starts, offset, length))

    return read


def _cut(
    ranges: Sequence[ByteRange], starts: Sequence[int], offset: int, length: int
) -> list[ByteRange]:
    """Return the ranges of bytes `offset` to `offset + length` of joined ranges."""
    found = []
    at, end = bisect_right(starts, offset) - 1, offset + length
    while at < len(ranges) and starts[at] < end:
        skipped = max(0, offset - starts[at])
        taken = min(ranges[at].length, end - starts[at]) - skipped
        found.append(ByteRange(ranges[at].offset + skipped, taken))
        at += 1
    return found


def stream_media_type(held: Held) -> str:
    """Return what a video stream is: an MP4 file, or an MPEG stream (PS3.18 table 8.7.3-6)."""
    head = _read_stream(held)(0, min(12, held.instance.stream_length))
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
