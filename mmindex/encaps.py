"""Encapsulated pixel data without a file: the functions of pydicom.encaps (PS3.5 Annex A.4).

Each function has the name and the arguments of pydicom's, those that pydicom 3 deprecates too, and
returns the same for a value that follows the standard. Where frame boundaries are ambiguous or the
value is cut, mmindex's rules count, and the function raises. Nothing here encapsulates.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    NoPixelDataError,
)
from mmindex.frame_table import ITEM_HEADER_LENGTH, FrameTable
from mmindex.model import Boundaries, InstanceRecord, Status
from mmindex.read.instance import Instance
from mmindex.scan.bare_items import read_item_length, walk_items
from mmindex.scan.encapsulated import scan_encapsulated
from mmindex.scan.encapsulated_value import PixelDataValue, StoredTable
from mmindex.scan.frame_count import FrameCount
from mmindex.scan.items import LONGEST_HEAD
from mmindex.scan.transfer_syntax import Codec, find_transfer_syntax
from mmindex.sources.memory import MemorySource

__all__ = [
    "decode_data_sequence",
    "defragment_data",
    "generate_fragmented_frames",
    "generate_fragments",
    "generate_frames",
    "generate_pixel_data",
    "generate_pixel_data_fragment",
    "generate_pixel_data_frame",
    "get_frame",
    "get_frame_offsets",
    "get_nr_fragments",
    "parse_basic_offsets",
    "parse_fragments",
    "scan_value",
]

_TABLES = (Boundaries.BASIC_OFFSET_TABLE, Boundaries.EXTENDED_OFFSET_TABLE)
_GUESSES = (Codec.JPEG, Codec.JPEG_2000, Codec.JPEG_XL)  # by the marker of the first fragment


class ReadableBuffer(Protocol):
    """A binary file object, placed at the first byte that is wanted."""

    def read(self, size: int = -1, /) -> bytes: ...

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class HasPixelData(Protocol):
    """A pydicom Dataset, or what has its attributes."""

    PixelData: bytes


Value = bytes | bytearray | memoryview | ReadableBuffer
ExtendedOffsets = tuple[bytes, bytes] | tuple[Sequence[int], Sequence[int]]


def scan_value(
    value: Value | HasPixelData,
    number_of_frames: int | None = None,
    transfer_syntax_uid: str = "",
    *,
    extended_offsets: ExtendedOffsets | None = None,
    endianness: str = "<",
) -> FrameTable:
    """Return where the frames lie in the value of encapsulated pixel data, as `ds.PixelData` is.

    Parameters
    ----------
    value : bytes, bytearray, memoryview, binary file object or pydicom Dataset
        From the item of the Basic Offset Table on; the sequence delimiter may be absent. A file
        object is read from its position to its end. A Dataset gives its Pixel Data and, unless
        given, the arguments below.
    number_of_frames : int, optional
        (0028,0008). None where an offset table counts the frames.
    transfer_syntax_uid : str
        The transfer syntax. Where it is unknown, the first fragment's start marker tells the codec.
    extended_offsets : (bytes, bytes) or (sequence of int, sequence of int), optional
        (7FE0,0001) and (7FE0,0002): offsets and lengths.
    endianness : str
        "<" for Little Endian, ">" for Big Endian.

    Returns
    -------
    FrameTable
        Offsets count bytes from the beginning of `value`.

    Raises
    ------
    FormatError
        The items are broken, or fewer than the frames; the transfer syntax is a native one.
    AmbiguousFramesError
        The fragments allow more than one reading of where frames begin.
    NoPixelDataError
        The Dataset has no Pixel Data.
    """
    frames = _open(value, number_of_frames, transfer_syntax_uid, extended_offsets, endianness)
    assert frames.record.frames is not None
    return frames.record.frames


class _Found(NamedTuple):
    """The parameters of the encapsulated frames in a Dataset."""

    value: bytes
    number_of_frames: int
    transfer_syntax_uid: str
    extended_offsets: tuple[bytes, bytes] | None


def _read_data_set(data_set: Any) -> _Found:
    value = getattr(data_set, "PixelData", None)
    if not value:
        raise NoPixelDataError("the Dataset has no Pixel Data")
    meta = getattr(data_set, "file_meta", None)
    tables = (
        getattr(data_set, "ExtendedOffsetTable", None),
        getattr(data_set, "ExtendedOffsetTableLengths", None),
    )
    return _Found(
        value,
        int(getattr(data_set, "NumberOfFrames", None) or 1),
        str(getattr(meta, "TransferSyntaxUID", "") or ""),
        (bytes(tables[0]), bytes(tables[1])) if tables[0] and tables[1] else None,
    )


def generate_frames(
    buffer: Value | HasPixelData,
    *,
    number_of_frames: int | None = None,
    extended_offsets: ExtendedOffsets | None = None,
    endianness: str = "<",
    transfer_syntax_uid: str = "",
) -> Iterator[bytes]:
    """Yield the frames of a value or a Dataset, each one's fragments joined; see `scan_value`.

    Raises
    ------
    TruncatedFrameError
        The value ends before the frame does.
    """
    frames = _open(buffer, number_of_frames, transfer_syntax_uid, extended_offsets, endianness)
    yield from frames


def generate_fragmented_frames(
    buffer: Value | HasPixelData,
    *,
    number_of_frames: int | None = None,
    extended_offsets: ExtendedOffsets | None = None,
    endianness: str = "<",
    transfer_syntax_uid: str = "",
) -> Iterator[tuple[bytes, ...]]:
    """Yield the fragments of each frame of a value; arguments and errors as `generate_frames`."""
    frames = _open(buffer, number_of_frames, transfer_syntax_uid, extended_offsets, endianness)
    for frame_index in range(len(frames)):
        yield tuple(bytes(fragment) for fragment in frames.fragments(frame_index))


def get_frame(
    buffer: Value | HasPixelData,
    index: int,
    *,
    extended_offsets: ExtendedOffsets | None = None,
    number_of_frames: int | None = None,
    endianness: str = "<",
    transfer_syntax_uid: str = "",
) -> bytes:
    """Return one frame of a value; arguments and errors as `generate_frames`.

    A file object is put back to where it was. Of many frames of one value, `scan_value` and its
    table read each in constant time; here every call scans the value.

    Raises
    ------
    FrameIndexError
        There is no such frame.
    """
    file: Any = buffer if hasattr(buffer, "tell") else None
    start = file.tell() if file is not None else 0
    frames = _open(buffer, number_of_frames, transfer_syntax_uid, extended_offsets, endianness)
    frame = frames.frame(index)
    if file is not None:
        file.seek(start)
    return frame


def parse_basic_offsets(buffer: Value, *, endianness: str = "<") -> list[int]:
    """Return the entries of the Basic Offset Table as they are stored; empty where there are none.

    A file object is then placed after the table. No entry is checked; `scan_value` checks each.

    Raises
    ------
    FormatError
        The value does not begin with an item, or the item is no table.
    """
    data = _take(buffer)
    length = read_item_length(data, 0, endianness)
    if length is None:
        raise FormatError(
            "expected the item of the Basic Offset Table, found "
            + (bytes(data[:4]).hex() or "nothing"),
            offset=0,
        )
    end = ITEM_HEADER_LENGTH + length
    if length % 4 or end > len(data):
        raise FormatError(
            f"expected a Basic Offset Table of whole 4-byte entries, found {length} bytes in "
            f"{len(data) - ITEM_HEADER_LENGTH}",
            offset=0,
        )
    if not isinstance(buffer, (bytes, bytearray, memoryview)):
        buffer.seek(end - len(data), 1)
    return list(struct.unpack(f"{endianness}{length // 4}I", data[ITEM_HEADER_LENGTH:end]))


def parse_fragments(buffer: Value, *, endianness: str = "<") -> tuple[int, list[int]]:
    """Return the number of items from `buffer` on, and the offset of each one's tag.

    Parameters
    ----------
    buffer : bytes, bytearray, memoryview or binary file object
        From the first fragment's item on. A file object is put back to where it was, and offsets
        count from its beginning.

    Raises
    ------
    FormatError
        Something else stands where an item should; TruncatedFrameError where one is cut.
    """
    start = 0 if isinstance(buffer, (bytes, bytearray, memoryview)) else buffer.tell()
    data = _take(buffer)
    offsets = [start + offset for offset, _ in walk_items(data, endianness)]
    if not isinstance(buffer, (bytes, bytearray, memoryview)):
        buffer.seek(start)
    return len(offsets), offsets


def generate_fragments(buffer: Value, *, endianness: str = "<") -> Iterator[bytes]:
    """Yield the fragments from `buffer` on; arguments and errors as `parse_fragments`."""
    data = _take(buffer)
    for item_offset, length in walk_items(data, endianness):
        fragment_offset = item_offset + ITEM_HEADER_LENGTH
        yield bytes(data[fragment_offset : fragment_offset + length])


def get_nr_fragments(fp: Value) -> int:
    """Return the number of fragments from `fp` on; as `parse_fragments`."""
    return parse_fragments(fp)[0]


def get_frame_offsets(fp: Value) -> tuple[bool, list[int]]:
    """Return whether the Basic Offset Table has entries, and these, or [0].

    See `parse_basic_offsets`.
    """
    offsets = parse_basic_offsets(fp)
    return bool(offsets), offsets or [0]


def generate_pixel_data_fragment(fp: Value) -> Iterator[bytes]:
    """Yield the fragments from `fp` on, placed after the table; see `generate_fragments`."""
    return generate_fragments(fp)


def generate_pixel_data_frame(bytestream: Value, nr_frames: int | None = None) -> Iterator[bytes]:
    """Yield the frames of a value, joined; as `generate_frames`."""
    return generate_frames(bytestream, number_of_frames=nr_frames)


def generate_pixel_data(
    bytestream: Value, nr_frames: int | None = None
) -> Iterator[tuple[bytes, ...]]:
    """Yield the fragments of each frame of a value; as `generate_fragmented_frames`."""
    return generate_fragmented_frames(bytestream, number_of_frames=nr_frames)


def decode_data_sequence(data: Value) -> list[bytes]:
    """Return every fragment of a value, without the Basic Offset Table, whatever frame owns it.

    Raises
    ------
    FormatError
        Something else stands where an item should; TruncatedFrameError where one is cut.
    """
    return list(generate_fragments(data))[1:]


def defragment_data(data: Value) -> bytes:
    """Return every fragment of a value, joined: the frame, where there is one."""
    return b"".join(decode_data_sequence(data))


def _open(
    value: Value | HasPixelData,
    number_of_frames: int | None,
    transfer_syntax_uid: str,
    extended_offsets: ExtendedOffsets | None,
    endianness: str,
) -> Instance:
    """Return the frames of a value or a Dataset as an instance in memory."""
    if hasattr(value, "file_meta") or hasattr(value, "PixelData"):
        data_set: Any = value
        found = _read_data_set(data_set)
        value = found.value
        number_of_frames = number_of_frames or found.number_of_frames
        transfer_syntax_uid = transfer_syntax_uid or found.transfer_syntax_uid
        extended_offsets = extended_offsets or found.extended_offsets
    data = _take(value)
    if endianness not in ("<", ">"):
        raise ValueError(f"endianness is '<' or '>', not {endianness!r}")
    if read_item_length(data, 0, endianness) is None:
        raise FormatError(
            f"expected an item tag, found {bytes(data[:4]).hex() or 'nothing'}: frames of native "
            "pixel data lie one after the other",
            offset=0,
        )
    codec = find_transfer_syntax(transfer_syntax_uid).codec
    if codec in (Codec.NATIVE, Codec.NO_PIXEL_DATA):
        raise FormatError(f"transfer syntax {transfer_syntax_uid} encapsulates no frames")
    if codec is Codec.UNKNOWN:
        codec = _guess_codec(data, endianness)
    end, table = len(data), None
    if extended_offsets is not None:
        data, table = _append_table(data, extended_offsets, endianness)
    pixel_data = PixelDataValue(data, 0, end, True, endianness)
    try:
        frames, boundaries = scan_encapsulated(
            pixel_data, codec, FrameCount(number_of_frames), table, []
        )
    except AmbiguousFramesError as error:
        if number_of_frames is None:
            error.message += "; give number_of_frames"
        raise
    count = frames.number_of_fragments
    uncounted = number_of_frames is None and boundaries not in _TABLES and count > 1
    if uncounted and codec is not Codec.VIDEO:
        raise AmbiguousFramesError(
            f"{count} fragments without an offset table: give number_of_frames", offset=0
        )
    record = InstanceRecord(
        status=Status.STREAM if codec is Codec.VIDEO else Status.INDEXED,
        transfer_syntax_uid=transfer_syntax_uid,
        big_endian=endianness == ">",
        number_of_frames=frames.number_of_frames,
        boundaries=boundaries,
        frames=frames,
    )
    return Instance(record, MemorySource(data))


def _take(value: Value) -> bytes | memoryview:
    """Return the bytes of a value; of a file object, those from its position on."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return memoryview(value).toreadonly().cast("B")
    return value.read()


def _guess_codec(data: bytes | memoryview, endianness: str) -> Codec:
    """Return the codec whose start marker begins the first fragment, Codec.UNKNOWN without one."""
    length = read_item_length(data, 0, endianness) or 0
    begin = 2 * ITEM_HEADER_LENGTH + length
    head = bytes(data[begin : begin + LONGEST_HEAD])
    return next((codec for codec in _GUESSES if codec.begins(head)), Codec.UNKNOWN)


def _append_table(
    data: bytes | memoryview, extended_offsets: ExtendedOffsets, endianness: str
) -> tuple[bytes, StoredTable]:
    """Return the value followed by an Extended Offset Table, and where this is (C.7.6.3.1.8)."""
    packed = [
        bytes(part) if isinstance(part, bytes) else struct.pack(f"{endianness}{len(part)}Q", *part)
        for part in extended_offsets
    ]
    begin = len(data)
    middle = begin + len(packed[0])
    table = StoredTable(
        Boundaries.EXTENDED_OFFSET_TABLE, begin, (begin, middle), (middle, middle + len(packed[1]))
    )
    return b"".join([data, *packed]), table
