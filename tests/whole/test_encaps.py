"""mmindex.encaps returns what pydicom.encaps does for a value that follows the standard."""

from __future__ import annotations

import io
import struct
import warnings

import pydicom
import pytest
from dicom_bytes import EXPLICIT_VR_LITTLE_ENDIAN, HEVC, JPEG_BASELINE, RLE_LOSSLESS, item
from pydicom import encaps as oracle
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO

import mmindex
from mmindex import encaps
from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    FrameIndexError,
    NoPixelDataError,
    NotAddressableError,
    TruncatedFrameError,
)

FRAMES = [b"\xff\xd8" + bytes([i]) * (10 + 2 * i) + b"\xff\xd9" for i in range(5)]
SYNTAX = JPEG_BASELINE


def split(frames: list[bytes]) -> list[bytes]:
    return [piece for frame in frames for piece in (frame[:6], frame[6:])]


def make_value(frames: list[bytes], pieces: int = 1, *, table: bool = True) -> bytes:
    return oracle.encapsulate(frames, fragments_per_frame=pieces, has_bot=table)


VALUES = {
    "one frame": (make_value(FRAMES[:1]), 1),
    "one frame without table": (make_value(FRAMES[:1], table=False), 1),
    "one frame in two fragments": (make_value(FRAMES[:1], 2, table=False), 1),
    "a fragment a frame": (make_value(FRAMES), 5),
    "a fragment a frame without table": (make_value(FRAMES, table=False), 5),
    "two fragments a frame": (make_value(FRAMES, 2), 5),
    "two fragments a frame without table": (make_value(FRAMES, 2, table=False), 5),
    "with a delimiter": (make_value(FRAMES) + b"\xfe\xff\xdd\xe0\0\0\0\0", 5),
}


@pytest.mark.parametrize("name", VALUES)
def test_frames_are_those_of_pydicom(name):
    """Whole frames, their fragments, one frame by index, from bytes and from a file object."""
    value, count = VALUES[name]
    expected = list(oracle.generate_frames(value, number_of_frames=count))
    pieces = list(oracle.generate_fragmented_frames(value, number_of_frames=count))
    assert len(expected) == count
    for buffer in (value, bytearray(value), memoryview(value), io.BytesIO(value)):
        assert list(encaps.generate_frames(buffer, number_of_frames=count)) == expected
    assert list(encaps.generate_fragmented_frames(value, number_of_frames=count)) == pieces
    file = io.BytesIO(b"before" + value)
    file.seek(6)
    for index, frame in enumerate(expected):
        assert encaps.get_frame(value, index, number_of_frames=count) == frame
        assert encaps.get_frame(file, index, number_of_frames=count) == frame
        assert file.tell() == 6


@pytest.mark.parametrize("name", VALUES)
def test_tables_and_items_are_those_of_pydicom(name):
    """The Basic Offset Table's entries, the items' offsets and values, and the file's position."""
    value, _ = VALUES[name]
    assert encaps.parse_basic_offsets(value) == oracle.parse_basic_offsets(value)
    mine, theirs = io.BytesIO(value), io.BytesIO(value)
    assert encaps.parse_basic_offsets(mine) == oracle.parse_basic_offsets(theirs)
    assert mine.tell() == theirs.tell()
    assert encaps.parse_fragments(mine) == oracle.parse_fragments(theirs)
    assert mine.tell() == theirs.tell()
    assert list(encaps.generate_fragments(mine)) == list(oracle.generate_fragments(theirs))


@pytest.mark.parametrize("name", VALUES)
def test_the_old_names_return_what_pydicom_2_did(name):
    """Names of articles: those that pydicom 3 still has, deprecated."""
    value, count = VALUES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = {
            name: getattr(oracle, name)
            for name in (
                *("decode_data_sequence", "defragment_data", "generate_pixel_data"),
                *("generate_pixel_data_frame", "get_frame_offsets", "get_nr_fragments"),
                "generate_pixel_data_fragment",
            )
        }
    assert encaps.decode_data_sequence(value) == old["decode_data_sequence"](value)
    assert encaps.defragment_data(value) == old["defragment_data"](value)
    for each in ("generate_pixel_data", "generate_pixel_data_frame"):
        assert list(getattr(encaps, each)(value, count)) == list(old[each](value, count))
    mine, theirs = DicomBytesIO(value), DicomBytesIO(value)
    theirs.is_little_endian = True
    assert encaps.get_frame_offsets(mine) == old["get_frame_offsets"](theirs)
    assert encaps.get_nr_fragments(mine) == old["get_nr_fragments"](theirs)
    fragments = list(encaps.generate_pixel_data_fragment(mine))
    assert fragments == list(old["generate_pixel_data_fragment"](theirs))


@pytest.mark.parametrize("name", VALUES)
def test_file_objects_are_read_as_by_pydicom(name):
    """From where they are placed; functions of the value, of its table and of its items."""
    value, count = VALUES[name]

    def place(kind: type, at: int = 6) -> io.BytesIO:
        file = kind(b"before" + value)
        file.seek(at)
        return file

    for function in ("generate_frames", "generate_fragmented_frames"):
        mine = list(getattr(encaps, function)(place(io.BytesIO), number_of_frames=count))
        theirs = list(getattr(oracle, function)(place(io.BytesIO), number_of_frames=count))
        assert mine == theirs
    assert encaps.parse_basic_offsets(place(io.BytesIO)) == oracle.parse_basic_offsets(
        place(io.BytesIO)
    )
    after_table = 6 + 8 + 4 * len(oracle.parse_basic_offsets(value))
    for function in ("parse_fragments", "generate_fragments"):
        mine = getattr(encaps, function)(place(io.BytesIO, after_table))
        theirs = getattr(oracle, function)(place(io.BytesIO, after_table))
        assert list(mine) == list(theirs)
    # pydicom's deprecated functions of a value take bytes alone; a file object gives the same here.
    assert encaps.decode_data_sequence(place(io.BytesIO)) == encaps.decode_data_sequence(value)
    assert encaps.defragment_data(place(io.BytesIO)) == encaps.defragment_data(value)
    for each in (encaps.generate_pixel_data, encaps.generate_pixel_data_frame):
        assert list(each(place(io.BytesIO), count)) == list(each(value, count))


@pytest.mark.parametrize(
    "name",
    [
        *("SC_rgb_rle_2frame.dcm", "rtdose_rle.dcm", "JPEG2000.dcm", "examples_ybr_color.dcm"),
        *("MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm"),
    ],
)
def test_scan_value_takes_a_dataset(name):
    """Its Pixel Data, Number of Frames and transfer syntax; frames are pydicom's."""
    data_set = pydicom.dcmread(get_testdata_file(name))
    table = mmindex.scan_value(data_set)
    count = int(data_set.get("NumberOfFrames", 1))
    expected = list(oracle.generate_frames(data_set.PixelData, number_of_frames=count))
    assert table.number_of_frames == count
    for frame_index, frame in enumerate(expected):
        ranges = table.fragment_ranges(frame_index)
        assert b"".join(data_set.PixelData[at : at + length] for at, length in ranges) == frame


def test_scan_value_takes_the_tables_of_a_dataset():
    """The Extended Offset Table; a Dataset without Pixel Data, or with native pixels, raises."""
    odd = [frame + b"\1" for frame in FRAMES]
    data_set = pydicom.Dataset()
    data_set.NumberOfFrames = len(odd)
    data_set.PixelData, data_set.ExtendedOffsetTable, _ = oracle.encapsulate_extended(odd)
    data_set.ExtendedOffsetTableLengths = struct.pack(f"<{len(odd)}Q", *map(len, odd))
    table = mmindex.scan_value(data_set)
    for frame_index, frame in enumerate(odd):
        ((offset, length),) = table.fragment_ranges(frame_index)
        assert data_set.PixelData[offset : offset + length] == frame
    with pytest.raises(NoPixelDataError):
        mmindex.scan_value(pydicom.dcmread(get_testdata_file("rtplan.dcm")))
    with pytest.raises(FormatError):
        mmindex.scan_value(pydicom.dcmread(get_testdata_file("CT_small.dcm")))


@pytest.mark.parametrize("packed", [True, False])
def test_an_extended_offset_table_is_used_as_by_pydicom(packed):
    """As bytes or as numbers; the padding byte that its lengths leave out is no part of a frame."""
    odd = [frame + b"\1" for frame in FRAMES]
    value, offsets, _ = oracle.encapsulate_extended(odd)
    table = (offsets, struct.pack(f"<{len(odd)}Q", *map(len, odd)))
    if not packed:
        table = tuple(list(struct.unpack(f"<{len(odd)}Q", each)) for each in table)
    assert list(oracle.generate_frames(value, extended_offsets=table)) == odd
    assert list(encaps.generate_frames(value, extended_offsets=table)) == odd
    assert encaps.get_frame(value, 3, extended_offsets=table) == odd[3]


def test_big_endian_items_are_read_as_by_pydicom():
    """`endianness` turns tags, lengths and entries."""
    value = item(struct.pack(">2I", 0, 8 + len(FRAMES[0])), order=">")
    value += b"".join(item(frame, order=">") for frame in FRAMES[:2])
    assert list(oracle.generate_frames(value, endianness=">")) == FRAMES[:2]
    assert list(encaps.generate_frames(value, endianness=">")) == FRAMES[:2]
    assert encaps.parse_basic_offsets(value, endianness=">") == [0, 8 + len(FRAMES[0])]


@pytest.mark.parametrize(
    "name",
    [
        *("SC_rgb_rle_2frame.dcm", "rtdose_rle.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm"),
        *("JPEG2000-embedded-sequence-delimiter.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    ],
)
def test_real_values_are_those_of_pydicom(name):
    """`ds.PixelData` of pydicom's own files, with their transfer syntax and without."""
    data_set = pydicom.dcmread(get_testdata_file(name))
    count, syntax = (
        int(data_set.get("NumberOfFrames", 1)),
        str(data_set.file_meta.TransferSyntaxUID),
    )
    expected = list(oracle.generate_frames(data_set.PixelData, number_of_frames=count))
    for uid in (syntax, ""):
        found = encaps.generate_frames(
            data_set.PixelData, number_of_frames=count, transfer_syntax_uid=uid
        )
        assert list(found) == expected


def test_a_scanned_value_says_where_each_frame_is():
    """Offsets of the table count from the value's first byte."""
    value, count = VALUES["two fragments a frame"]
    table = mmindex.scan_value(value, count, SYNTAX)
    assert table.number_of_frames == count
    for index, frame in enumerate(FRAMES):
        pieces = [value[start : start + length] for start, length in table.fragment_ranges(index)]
        assert len(pieces) == 2
        assert b"".join(pieces) == frame


def test_R18_several_frames_without_table_or_markers_raise():
    """pydicom returns what stands between end markers; a wrong frame is worse than none."""
    value = make_value([b"no marker here", b"nor is one here!"], 2, table=False)
    with pytest.raises(AmbiguousFramesError):
        list(encaps.generate_frames(value, number_of_frames=2))
    with pytest.raises(AmbiguousFramesError, match="number_of_frames"):
        list(encaps.generate_frames(make_value(FRAMES, table=False)))


def test_R15_a_table_that_leads_off_the_items_is_not_followed():
    """pydicom returns bytes of two frames; the items and start markers decide here."""
    value = bytearray(make_value(FRAMES))
    struct.pack_into("<I", value, 12, 10)
    assert list(encaps.generate_frames(value, number_of_frames=5)) == FRAMES


def test_R14_a_cut_frame_raises():
    """pydicom returns the last frame short."""
    value = make_value(FRAMES)[:-4]
    assert encaps.get_frame(value, 3, number_of_frames=5) == FRAMES[3]
    with pytest.raises(TruncatedFrameError):
        encaps.get_frame(value, 4, number_of_frames=5)
    with pytest.raises(TruncatedFrameError):
        encaps.decode_data_sequence(value)
    with pytest.raises(TruncatedFrameError):
        encaps.parse_fragments(value + b"\xfe\xff")


def test_what_is_no_encapsulated_value_raises():
    """Native bytes, a native transfer syntax, an index that no frame has, a video stream."""
    value = make_value(FRAMES)
    with pytest.raises(FormatError, match="expected an item tag"):
        mmindex.scan_value(bytes(64), 1, JPEG_BASELINE)
    with pytest.raises(FormatError, match="encapsulates no frames"):
        mmindex.scan_value(value, 5, EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(FrameIndexError):
        encaps.get_frame(value, 5)
    with pytest.raises(FormatError, match="Basic Offset Table"):
        encaps.parse_basic_offsets(b"")
    with pytest.raises(FormatError, match="whole 4-byte entries"):
        encaps.parse_basic_offsets(item(b"abc"))
    with pytest.raises(FormatError, match="expected an item tag"):
        list(encaps.generate_fragments(bytes(16)))
    with pytest.raises(NotAddressableError, match="video"):
        encaps.get_frame(item() + item(b"\0\0\1\xb3stream"), 0, transfer_syntax_uid=HEVC)
    with pytest.raises(ValueError, match="endianness"):
        mmindex.scan_value(value, 5, SYNTAX, endianness="=")


def test_R19_rle_of_several_fragments_a_frame_is_ambiguous():
    """The transfer syntax counts where it is given."""
    value = item() + b"".join(item(piece) for piece in split(FRAMES[:2]))
    with pytest.raises(AmbiguousFramesError):
        list(encaps.generate_frames(value, number_of_frames=2, transfer_syntax_uid=RLE_LOSSLESS))


def test_a_dataset_is_taken_wherever_a_value_is():
    """With its own Number of Frames, transfer syntax and tables."""
    data_set = pydicom.dcmread(get_testdata_file("SC_rgb_rle_2frame.dcm"))
    expected = list(pydicom.encaps.generate_frames(data_set.PixelData, number_of_frames=2))
    assert list(encaps.generate_frames(data_set)) == expected
    assert [b"".join(each) for each in encaps.generate_fragmented_frames(data_set)] == expected
    assert [encaps.get_frame(data_set, at) for at in range(2)] == expected
    with pytest.raises(FrameIndexError):
        encaps.get_frame(data_set, 2)
