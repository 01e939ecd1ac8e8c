"""The scan of an object that is far away: of the bytes that the scan looks at, and few others.

The scan reads a buffer as long as the object, a sparse file, into which the header, offset tables,
item headers and first bytes of fragments are fetched before. What is not fetched reads as zeros,
which are neither an item nor a start marker: so a fragment that nobody fetched is never a frame.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from mmindex.closing import Closing
from mmindex.errors import FormatError, MMIndexError, NotDicomError, RemoteReadError
from mmindex.frame_table import ByteRange, Layout
from mmindex.model import Buffer, InstanceRecord
from mmindex.scan import tags
from mmindex.scan.encoding import UNDEFINED_LENGTH
from mmindex.scan.header import Header, scan_header
from mmindex.scan.trusted_tables import sample_entries
from mmindex.sources.base import ByteSource
from mmindex.sources.coalesce import group_pieces
from mmindex.sources.file import write_at
from mmindex.sources.temporary_room import temporary_room

Order = Literal["little", "big"]
Scan = Callable[[Buffer], InstanceRecord]

_HEAD = 1 << 16  # bytes that are read first
_GROWTH = 4  # by which the head grows until the pixel data is reached
_LOOK = 72  # bytes of an item's header and of its fragment's beginning
_BLOCK = 512  # bytes that show what a file is
_NEAR = 1 << 16  # bytes between two ranges that are fetched with them
_TAIL = 8192  # bytes before the end of the last fragment
_MOST_TABLE = 1 << 24  # bytes of an offset table, which takes many times as much memory
_SHORT_TABLE = 1 << 20  # bytes of one that any number of scans may hold
_WHOLE_FRAME = 1 << 20  # bytes of a frame in several fragments that is fetched at once
_FAR = 1 << 20  # bytes of an item that is skipped rather than read
_WINDOW = 4 << 20  # bytes of near items that are read at once
_DIGITS = re.compile(r"[0-9]+")
_ROUNDS = 1000  # items of the last frame


class ForgetfulMap(mmap.mmap):
    """A map of a file, of whose pages a long scan keeps few in memory: see `items.gather`."""

    def forget(self) -> None:
        """Let go of the pages that were read; they stay in the file."""
        self.madvise(mmap.MADV_DONTNEED)


def scan_remote(
    source: ByteSource,
    scan: Scan,
    *,
    force: bool = False,
    prove: bool = True,
    within: tuple[int, int] | None = None,
    is_enough: Callable[[bytes], bool] = lambda head: False,
) -> InstanceRecord:
    """Return the record of an object, as a scan of all its bytes returns it.

    Parameters
    ----------
    scan : callable
        The scan of a buffer, with the same `force` and `prove`.
    prove : bool
        Look at every item. Else an offset table needs only the items that are sampled.
    within : (int, int), optional
        Offset and length of the part of the source that is scanned; all of it unless given.
    is_enough : callable
        Called with the first bytes; True where `scan` needs no others.

    Raises
    ------
    FormatError
        As `scan`; or no file is as long as the object says; or an offset table takes over 16 MiB.
    StaleIndexError, MissingFileError
        As `ByteSource.read`.
    RemoteReadError
        As `ByteSource.read`; or the folder of temporary files has no room.
    """
    with _SparseCopy(source, *(within or (0, source.size))) as copy:
        header = _fetch_header(copy, force, is_enough)
        pixel_data = None if header is None else header.data_set.pixel_data
        if header is None or pixel_data is None:
            return scan(memoryview(copy.buffer)[: copy.head])
        byte_order = header.encoding.byte_order
        start = pixel_data.value_offset
        copy.fetch(start, _TAIL)
        item = header.encoding.length.pack(header.encoding.item)
        if copy.at(start, 4) != item:
            if pixel_data.length != UNDEFINED_LENGTH:
                copy.fetch(start + pixel_data.length, _LOOK)
            return scan(copy.buffer)
        origin = start + 8 + int.from_bytes(copy.at(start + 4, 4), _name_order(byte_order))
        length = _table_length(header, start, origin)
        _require_short_table(length, start)

        def find_trusted() -> InstanceRecord | None:
            copy.fetch_windows(start, origin - start + _LOOK)
            if prove or not _fetch_samples(copy, header, start, origin, item):
                return None
            record = scan(copy.buffer)
            is_trusted = record.frames is not None and record.frames.layout is Layout.TRUSTED
            return record if is_trusted else None

        is_short = length <= _SHORT_TABLE
        if is_short and (record := find_trusted()) is not None:
            return record
        with temporary_room(copy.size):
            if not is_short and (record := find_trusted()) is not None:
                return record
            _fetch_items(copy, start, item, _name_order(byte_order))
            return scan(copy.buffer)


class _SparseCopy(Closing):
    """A sparse file as long as the object, with those of its bytes that were fetched."""

    def __init__(self, source: ByteSource, first: int, size: int) -> None:
        self._source = source
        self._first = first  # where the object begins in the source
        self.size = size
        self.head = 0  # bytes from the first on that were fetched
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed by close
        self.buffer: Buffer = b""
        try:
            os.truncate(self._file.fileno(), self.size)
            if self.size:
                self.buffer = ForgetfulMap(self._file.fileno(), self.size, access=mmap.ACCESS_READ)
        except (OSError, OverflowError, ValueError) as error:
            self._file.close()
            raise FormatError(f"no file is as long as {self.size} bytes: {error}") from None
        self._known: list[tuple[int, int]] = []  # ranges that were fetched: start and end

    def close(self) -> None:
        """Remove the copy, once its map is released."""
        self._file.close()

    def at(self, offset: int, length: int) -> bytes:
        """Return bytes that were fetched."""
        return bytes(self.buffer[offset : offset + length])

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """Keep bytes of the object.

        Raises
        ------
        RemoteReadError
            They cannot be kept: a part that is missing would read as zeros.
        """
        try:
            write_at(self._file.fileno(), data, offset)
        except OSError as error:
            raise RemoteReadError(
                "cannot keep what is read of the object, which may take as much as the object, in "
                f"{tempfile.gettempdir()}: {error.strerror}; TMPDIR names another folder",
                path=self._source.name,
            ) from None

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the object, which are not kept."""
        return self._source.read(self._first + offset, length)

    def fetch(self, *piece: int) -> None:
        """Fetch (offset, length), as far as the object goes, but what was fetched before."""
        self.fetch_many([(piece[0], piece[1])])

    def fetch_windows(self, offset: int, length: int) -> None:
        """Fetch a range, with little of it in memory at a time."""
        for at in range(offset, offset + length, _WINDOW):
            self.fetch(at, min(_WINDOW, offset + length - at))

    def fetch_many(self, pieces: list[tuple[int, int]]) -> None:
        """Fetch ranges, as far as the object goes, but what was fetched before.

        What lies between near ones is fetched, too: a request takes longer.
        """
        together = group_pieces([(*piece, 0) for piece in sorted(pieces)], _NEAR, _WINDOW)
        wanted = [
            ByteRange(self._first + start, end - start)
            for offset, behind, _ in together
            for start, end in self._walk_missing(offset, min(behind, self.size))
        ]
        for piece, data in zip(wanted, self._source.read_many(wanted), strict=True):
            self.keep(piece.offset - self._first, data)

    def keep(self, offset: int, data: bytes) -> None:
        """Keep bytes of the object, and remember that they were fetched."""
        self.put(offset, data)
        self.know(offset, offset + len(data))

    def know(self, start: int, end: int) -> None:
        """Remember that the bytes from `start` to `end` were fetched."""
        self._known.append((start, end))

    def _walk_missing(self, position: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of the parts of a range that were not fetched."""
        for first, last in sorted(self._known):
            if first >= end:
                break
            if position < first:
                yield position, first
            position = max(position, last)
        if position < end:
            yield position, end


def _require_short_table(length: int, start: int) -> None:
    """Raise FormatError if an offset table is longer than any that is read."""
    if length > _MOST_TABLE:
        raise FormatError(
            f"expected an offset table of at most {_MOST_TABLE} bytes, found {length}: download "
            "the object to index it",
            offset=start,
        )


def _table_length(header: Header, start: int, origin: int) -> int:
    """Return the length of the longer one of both offset tables, in bytes."""
    extended = header.data_set.elements.get(tags.EXTENDED_OFFSET_TABLE)
    return max(origin - start - 8, extended.length if extended is not None else 0)


def _fetch_header(
    copy: _SparseCopy, force: bool, is_enough: Callable[[bytes], bool]
) -> Header | None:
    """Fetch until the pixel data is reached; None where `copy.head` bytes say it all."""
    length = min(_HEAD, copy.size)
    while copy.head < copy.size:
        while copy.head < length:
            data = copy.read(copy.head, min(length - copy.head, _WINDOW))
            copy.put(copy.head, data)
            copy.head += len(data)
        if copy.head == copy.size <= _MOST_TABLE or is_enough(copy.at(0, _BLOCK)):
            return None
        header = None
        try:
            header = scan_header(memoryview(copy.buffer)[: copy.head], force=force)
        except NotDicomError:
            return None
        except MMIndexError as error:  # the header may be whole with more bytes
            if _is_final(copy, error, force):
                copy.head = copy.size
                return None
        pixel_data = None if header is None else header.data_set.pixel_data
        if pixel_data is not None and pixel_data.value_offset <= copy.head:
            copy.know(0, copy.head)
            return header
        length = min(_GROWTH * length, copy.size)
    return None


def _is_final(copy: _SparseCopy, error: MMIndexError, force: bool) -> bool:
    """Return whether an error of the head is that of the whole object, too.

    It is where the object's length changes nothing but the number of bytes that were found.
    """
    if error.offset is None or error.offset + _LOOK > copy.head:
        return False
    try:
        scan_header(copy.buffer, force=force)
    except MMIndexError as other:
        same = type(error) is type(other) and error.offset == other.offset
        return same and _DIGITS.sub("", error.message) == _DIGITS.sub("", other.message)
    return False


def _fetch_samples(copy: _SparseCopy, header: Header, start: int, origin: int, item: bytes) -> bool:
    """Fetch the items at some entries of an offset table; return whether there is a table."""
    order = header.encoding.byte_order
    extended = header.data_set.elements.get(tags.EXTENDED_OFFSET_TABLE)
    if extended is not None and extended.length:
        table = copy.at(extended.value_offset, extended.length)
        starts = np.frombuffer(table[: len(table) // 8 * 8], f"{order}u8").astype(np.int64)
    else:
        table = copy.at(start + 8, origin - start - 8)
        starts = np.frombuffer(table[: len(table) // 4 * 4], f"{order}u4").astype(np.int64)
        starts[1:] += np.cumsum(np.diff(starts) < 0) << 32  # past 4 GiB entries wrap
    if not len(starts) or int(starts.min()) < 0 or int(starts.max()) >= copy.size:
        return False
    last = len(starts) - 1
    samples = sample_entries(starts)
    tail = (copy.size - _LOOK, _LOOK)  # where most last frames end
    copy.fetch_many([*((origin + int(starts[at]), _LOOK) for at in samples), tail])
    spans = []
    for at in samples[:-1]:
        begin, end = origin + int(starts[at]), origin + int(starts[at + 1])
        length = _length_at(copy, begin, item, order)
        if length is not None and begin + 8 + length < end <= begin + _WHOLE_FRAME:
            spans.append((begin, end - begin))
    if sum(length for _, length in spans) <= _WINDOW:
        copy.fetch_many(spans)
    else:
        for span in spans:
            copy.fetch(*span)
    position = origin + int(starts[last])
    for _ in range(_ROUNDS):
        length = _length_at(copy, position, item, order)
        if length is None:
            break
        position += 8 + length
        copy.fetch(position, _LOOK)
    return True


def _length_at(copy: _SparseCopy, position: int, item: bytes, byte_order: str) -> int | None:
    """Return the length of the item at a place that was fetched; None where none is."""
    header = copy.at(position, 8)
    if len(header) < 8 or header[:4] != item:
        return None
    length = int.from_bytes(header[4:], _name_order(byte_order))
    return None if length == UNDEFINED_LENGTH else length


def _fetch_items(copy: _SparseCopy, position: int, item: bytes, order: Order) -> None:
    """Fetch the header and the beginning of every item, in one pass through the object.

    Items that are long are skipped; short ones are read through, since that costs less.
    """
    size = copy.size
    begin = position
    window = copy.at(begin, max(0, copy.head - begin))  # bytes of the object from `begin` on
    count, first, last = 0, position, position
    while position < size:
        end = begin + len(window)
        if position + _LOOK > end and end < size:
            far = count > 1 and (position - first) // count > _FAR
            window = window[position - begin :] if position < end else b""
            begin = position
            length = (1 << 12) if far else _WINDOW if count > 1 else _HEAD
            at = begin + len(window)
            window += copy.read(at, min(length, size - at))
        piece = window[position - begin : position - begin + _LOOK]
        copy.put(position, piece)
        if len(piece) < 8 or piece[:4] != item:
            break
        length = int.from_bytes(piece[4:8], order)
        if length == UNDEFINED_LENGTH:
            break
        count, last = count + 1, position + 8
        position += 8 + length
    end = min(position, size)
    tail = max(last, end - _TAIL)
    held = max(begin, tail)
    copy.keep(held, window[held - begin : end + _LOOK - begin])
    copy.fetch(tail, end - tail + _LOOK)


def _name_order(byte_order: str) -> Order:
    """Return a byte order as int.from_bytes calls it."""
    return "little" if byte_order == "<" else "big"
