"""Place: each way in which a frame may lie, with bytes and truths written by hand."""

from __future__ import annotations

import struct

import pytest

from mmindex.errors import FormatError, FrameIndexError, TruncatedFrameError
from mmindex.frame_table import FrameTable, Layout
from mmindex.model import Boundaries, ImagePixel, InstanceRecord, Status
from mmindex.read.place import BitRun, Place, find_place
from mmindex.sources.memory import MemorySource

A, X = b"\xff\xd8", b"\xff\xd8."  # fragments that begin a frame
SWAPPED = {"pixel_vr": "OW", "rows": 1, "samples_per_pixel": 1}


def record_of(table: FrameTable, *, big_endian: bool = False, **image: object) -> InstanceRecord:
    return InstanceRecord(
        Status.INDEXED,
        transfer_syntax_uid="1.2.840.10008.1.2.4.50",
        big_endian=big_endian,
        boundaries=Boundaries.BASIC_OFFSET_TABLE,
        image_pixel=ImagePixel(**image),  # type: ignore[arg-type]
        frames=table,
    )


def read(
    record: InstanceRecord, frame_index: int, data: bytes, *, in_order: bool = False
) -> tuple[Place, bytes]:
    assert record.frames is not None
    place = find_place(record, record.frames, frame_index, in_order=in_order)
    return place, place.read(MemorySource(data))


def test_a_frame_of_whole_bytes_is_one_range() -> None:
    """Frame 1 of three bytes, padded to four, lies four bytes after frame 0."""
    table = FrameTable(Layout.NATIVE, 2, 2, 0, 10, frame_bits=24, stride_bits=32)
    place, frame = read(record_of(table), 1, b"..........abc.def.")
    assert (place.offset, place.length, place.ranges) == (14, 3, ((14, 3),))
    assert (place.bits, place.parse) == (None, None)
    assert frame == b"def"


def test_a_frame_of_several_fragments_is_what_lies_between_their_headers() -> None:
    """Two fragments of 2 and 3 bytes, with eight bytes of header before each."""
    entries = struct.pack("<2I", 0, 2) + struct.pack("<3I", 0, 10, 21)
    table = FrameTable(Layout.FRAGMENTS, 1, 1, 2, 4, entries=entries)
    place, frame = read(record_of(table), 0, b"....HEADER..abHEADER..cde")
    assert place.ranges == ((12, 2), (22, 3))
    assert (place.offset, place.length) == (12, 13)
    assert frame == place.join(b"abHEADER..cde") == b"abcde"


@pytest.mark.parametrize(
    ("frame_index", "covering", "frame"),
    [
        (0, (10, 2), b"\xff\x01"),  # bits 0 to 8
        (1, (11, 2), b"\x01\x00"),  # bits 9 to 17: only the first is set
        (2, (12, 2), b"\x00\x01"),  # bits 18 to 26: only the last is set
    ],
)
def test_R31_bits_are_moved_to_begin_at_bit_0(
    frame_index: int, covering: tuple[int, int], frame: bytes
) -> None:
    """Three frames of nine bits: all set, the first, the last."""
    table = FrameTable(Layout.NATIVE, 3, 3, 0, 10, frame_bits=9)
    data = bytes(10) + bytes([0b11111111, 0b00000011, 0b00000000, 0b00000100])
    place, found = read(record_of(table), frame_index, data)
    assert (place.offset, place.length) == covering
    assert place.bits == BitRun(False, (0, 1, 2)[frame_index], 9)
    assert found == frame
    assert place.find_contiguous(MemorySource(data)) is None


def test_R33_swapped_pairs_stay_as_stored_unless_pixels_are_wanted() -> None:
    """Frames of three bytes in words: pixels 1 to 6 are stored as 2 1 4 3 6 5."""
    table = FrameTable(Layout.NATIVE, 2, 2, 0, 4, frame_bits=24)
    record = record_of(table, big_endian=True, bits_allocated=8, columns=3, **SWAPPED)
    data = b"...." + bytes([2, 1, 4, 3, 6, 5])
    assert [read(record, index, data)[1] for index in (0, 1)] == [b"\2\1\4", b"\3\6\5"]
    in_order = [read(record, index, data, in_order=True) for index in (0, 1)]
    assert [frame for _, frame in in_order] == [b"\1\2\3", b"\4\5\6"]
    assert [(place.offset, place.length) for place, _ in in_order] == [(4, 4), (6, 4)]


def test_R33_single_bits_in_swapped_pairs() -> None:
    """Frame 1 is bits 9 to 17, which lie in bytes 1 and 2: those of words 0 and 1, swapped."""
    table = FrameTable(Layout.NATIVE, 3, 3, 0, 4, frame_bits=9)
    record = record_of(table, big_endian=True, bits_allocated=1, columns=9, **SWAPPED)
    data = b"...." + bytes([0b00000011, 0b11111111, 0b00000100, 0b00000000])
    assert [read(record, index, data)[1] for index in range(3)] == [b"\xff\1", b"\1\0", b"\0\1"]


@pytest.mark.parametrize(
    ("bits", "columns", "frame_bits", "swaps"),
    [(8, 3, 24, True), (12, 2, 24, True), (12, 2, 32, False), (16, 2, 32, False), (1, 8, 8, True)],
)
def test_R41_words_are_not_swapped_and_packed_samples_are(
    bits: int, columns: int, frame_bits: int, swaps: bool
) -> None:
    """What is stored decides: two samples of 12 bits take 24 bits packed, or two words."""
    table = FrameTable(Layout.NATIVE, 1, 1, 0, 0, frame_bits=frame_bits)
    image = {"bits_allocated": bits, "columns": columns, **SWAPPED}
    assert record_of(table, big_endian=True, **image).swaps_pairs is swaps
    assert not record_of(table, big_endian=False, **image).swaps_pairs
    assert not record_of(table, big_endian=True, **{**image, "pixel_vr": "OB"}).swaps_pairs


def trusted(trimmed: bool = False) -> FrameTable:
    entries = struct.pack("<3I", 0, 22, 33) + b"\x02" * trimmed
    return FrameTable(Layout.TRUSTED, 2, 2, 0, 4, trimmed=trimmed, entries=entries)


def items(*fragments: bytes) -> bytes:
    return b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(each)) + each for each in fragments)


def test_the_items_of_a_trusted_table_are_parsed_when_they_are_read() -> None:
    """Nothing but the headers says that frame 0 has two fragments and frame 1 one.

    The next frame is read with the first, to see that a frame begins there.
    """
    data = b"...." + items(A, b"cdef") + items(X)
    record = record_of(trusted())
    place, frame = read(record, 0, data)
    assert (place.offset, place.length, place.ranges) == (4, 33, ())
    assert frame == A + b"cdef"
    source = MemorySource(data)
    assert place.find_ranges(source) == ((12, 2), (22, 4))
    assert place.find_contiguous(source) is None
    last, frame = read(record, 1, data)
    assert frame == X
    assert last.find_contiguous(source) == (34, 3)
    assert read(record_of(trusted(trimmed=True)), 1, data)[1] == X[:2]


def test_a_wrong_entry_of_a_trusted_table_is_an_error() -> None:
    """Bytes that are no chain of items make no frame, nor does what the next one goes on with."""
    with pytest.raises(FormatError, match="entry of frame index 1 is wrong"):
        read(record_of(trusted()), 1, b"...." + items(A, b"cdef") + bytes(11))
    with pytest.raises(FormatError, match="entry of frame index 0 is wrong"):
        read(record_of(trusted()), 0, b"...." + items(A, b"cdef") + items(b"end"))


def test_there_is_no_place_of_a_frame_that_is_not_there() -> None:
    """An index out of range and a frame that was cut off raise what every reader raises."""
    table = FrameTable(Layout.NATIVE, 3, 2, 0, 0, frame_bits=8)
    with pytest.raises(FrameIndexError):
        find_place(record_of(table), table, 3)
    with pytest.raises(TruncatedFrameError):
        find_place(record_of(table), table, 2)
