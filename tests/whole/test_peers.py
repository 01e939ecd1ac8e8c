"""Where a peer returns something else for the same bytes: the table, and what shows it.

A row of DIFFERENCES holds hand-written bytes, the frames that are right, what a peer makes
of them and why it is the peer that errs. What mmindex returns is always tested. What a
peer returns is tested with the version in TRIED alone: a peer that was mended costs a skip
that names its version, and a row. A witness is another peer that reads the bytes as
mmindex does.
"""

from __future__ import annotations

import importlib.metadata
import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pydicom
import pytest
from dicom_bytes import (
    JPEG_BASELINE,
    SEQUENCE_DELIMITER,
    dicom_file,
    element,
    encapsulate,
    encapsulated_file,
    extended_offset_table,
    image_attributes,
    native_file,
)
from pydicom.encaps import generate_frames, get_frame
from pydicom.filebase import DicomBytesIO
from pydicom.pixels import get_decoder, pixel_array

import mmindex
from mmindex.errors import TruncatedFrameError

TRIED = {"highdicom": "0.28.2", "pydicom": "3.0.2", "wsidicom": "0.36.1"}

Frames = list[bytes | type]  # the class of an error stands in its frame's place

# Whole frames, whose items begin at 0, 14 and 30.
A, B, C = b"\xff\xd8AA\xff\xd9", b"\xff\xd8BBBB\xff\xd9", b"\xff\xd8CCCCCC\xff\xd9"
ALL_ZERO_TABLE = encapsulated_file([A, B, C], 3, bot=[0, 0, 0])
SHORT_TABLE = encapsulated_file([A, B, C], 3, bot=[0, 14])
TABLE_OF_ONE = encapsulated_file([A, B, C], 3, bot=[0])
BOTH_TABLES = encapsulated_file(
    [A, B, C], 3, bot=[0, 14, 30], before=extended_offset_table([0, 14, 30], [6, 8, 10])
)

# The file ends four bytes before the third fragment does.
CUT = encapsulated_file([A, B, C], 3, delimiter=b"")[:-4]
CUT_WITH_TABLE = encapsulated_file([A, B, C], 3, bot=[0, 14, 30], delimiter=b"")[:-4]
# The third fragment is to have 5000 bytes; ten and a delimiter are there.
LENGTH_PAST_THE_END = encapsulated_file(
    [A, B], 3, delimiter=b"\xfe\xff\0\xe0" + struct.pack("<I", 5000) + C + SEQUENCE_DELIMITER
)

# Two fragments a frame; FFD9 near the end of each first one too.
THUMBNAILS = [b"\xff\xd8AA\xff\xd9aa", b"aaaa\xff\xd9", b"\xff\xd8BB\xff\xd9bb", b"bbbb\xff\xd9"]
INNER_END_OF_IMAGE = encapsulated_file(THUMBNAILS, 2)
WHOLE_THUMBNAILS = [b"\xff\xd8AA\xff\xd9aaaaaa\xff\xd9", b"\xff\xd8BB\xff\xd9bbbbbb\xff\xd9"]

# A whole slide image as wsidicom wants one, two fragments a frame, with a table.
FRAGMENTED_SLIDE = dicom_file(
    element(0x00080008, "CS", r"ORIGINAL\PRIMARY\VOLUME\NONE")
    + element(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.77.1.6")
    + element(0x00080018, "UI", "1.2.3")
    + element(0x0020000D, "UI", "1.2.4")
    + element(0x0020000E, "UI", "1.2.5")
    + image_attributes(number_of_frames=2)
    + element(0x00480006, "UL", struct.pack("<I", 4))
    + element(0x00480007, "UL", struct.pack("<I", 2))
    + encapsulate([b"\xff\xd8AA", b"aaaa\xff\xd9", b"\xff\xd8BB", b"bb\xff\xd9"], bot=[0, 26]),
    JPEG_BASELINE,
)

# Three frames of 15 bits: zeros; ones; zeros, and a one at the end.
ONE_BIT = native_file(
    b"\x00\x80\xff\x3f\x00\x10", vr="OB", rows=3, columns=5, bits=1, number_of_frames=3
)


def list_frames(read: Callable[[int], bytes], count: int) -> Frames:
    """Return `count` frames as `read` returns them, or the class of the error it raises."""
    frames: Frames = []
    for frame_index in range(count):
        try:
            frames.append(read(frame_index))
        except (AttributeError, EOFError, OSError, ValueError) as error:
            frames.append(type(error))
    return frames


def read_data_set(data: bytes) -> pydicom.FileDataset:
    """Return pydicom's data set, quiet where the file ends too early."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "End of file reached before delimiter", UserWarning)
        return pydicom.dcmread(io.BytesIO(data))


def read_offset_tables(data_set: pydicom.FileDataset) -> tuple[bytes, bytes] | None:
    """Return the Extended Offset Table and its lengths, as pydicom wants them."""
    if "ExtendedOffsetTable" not in data_set:
        return None
    return data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths


def pydicom_get_frame(data: bytes, count: int) -> Frames:
    """Return each frame from the value that dcmread has read."""
    data_set = read_data_set(data)
    tables = read_offset_tables(data_set)
    return list_frames(
        lambda at: get_frame(
            data_set.PixelData, at, number_of_frames=count, extended_offsets=tables
        ),
        count,
    )


def pydicom_get_frame_of_file(data: bytes, count: int) -> Frames:
    """Return each frame from the open file, as pixel_array does where it is given a path."""
    file = io.BytesIO(data)
    file.seek(data.index(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff") + 12)
    return list_frames(lambda at: get_frame(file, at, number_of_frames=count), count)


def pydicom_generate_frames(data: bytes, count: int) -> Frames:
    """Return all frames that pydicom finds, however many."""
    return list(generate_frames(read_data_set(data).PixelData, number_of_frames=count))


def pydicom_pixel_array(data: bytes, count: int) -> Frames:
    """Return the packed pixels of each frame, asked for by its index."""
    data_set = read_data_set(data)
    return list_frames(lambda at: pack_pixels(pixel_array(data_set, index=at)), count)


def pydicom_whole_pixel_array(data: bytes, count: int) -> Frames:
    """Return the packed pixels of each frame, of all frames decoded at once."""
    array = pixel_array(read_data_set(data))
    return list_frames(lambda at: pack_pixels(array[at]), count)


def pydicom_as_buffer(data: bytes, count: int) -> Frames:
    """Return each frame's bytes before they are unpacked."""
    data_set = read_data_set(data)
    decoder = get_decoder(data_set.file_meta.TransferSyntaxUID)
    return list_frames(lambda at: bytes(decoder.as_buffer(data_set, index=at)[0]), count)


def highdicom_read_frame_raw(data: bytes, count: int) -> Frames:
    """Return each frame of a file opened anew, for an error leaves the reader half done."""
    from highdicom.io import ImageFileReader

    def read(frame_index: int) -> bytes:
        reader = ImageFileReader(DicomBytesIO(data))
        reader.open()
        return reader.read_frame_raw(frame_index)

    return list_frames(read, count)


def highdicom_read_frame(data: bytes, count: int) -> Frames:
    """Return the packed pixels of each frame."""
    from highdicom.io import ImageFileReader

    reader = ImageFileReader(DicomBytesIO(data))
    reader.open()
    return list_frames(lambda at: pack_pixels(reader.read_frame(at)), count)


def wsidicom_read_frame(data: bytes, count: int) -> Frames:
    """Return each frame of the file that a slide's level would be read from."""
    from upath import UPath
    from wsidicom.file.io import WsiDicomReader, WsiDicomReadIO

    with WsiDicomReader(WsiDicomReadIO(io.BytesIO(data), UPath("slide.dcm"))) as reader:
        return list_frames(reader.read_frame, count)


def pack_pixels(array: np.ndarray) -> bytes:
    """Return pixels of 0 and 1 as a frame of one bit a pixel."""
    return np.packbits(array.ravel(), bitorder="little").tobytes()


READERS: dict[str, Callable[[bytes, int], Frames]] = {
    "highdicom.io.ImageFileReader.read_frame": highdicom_read_frame,
    "highdicom.io.ImageFileReader.read_frame_raw": highdicom_read_frame_raw,
    "pydicom.encaps.generate_frames": pydicom_generate_frames,
    "pydicom.encaps.get_frame": pydicom_get_frame,
    "pydicom.encaps.get_frame of a file": pydicom_get_frame_of_file,
    "pydicom.pixels.decoders.base.Decoder.as_buffer": pydicom_as_buffer,
    "pydicom.pixels.pixel_array": pydicom_whole_pixel_array,
    "pydicom.pixels.pixel_array of an index": pydicom_pixel_array,
    "wsidicom.file.io.WsiDicomReader.read_frame": wsidicom_read_frame,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A row: a peer's call, what it does and returns, and why `frames` are right."""

    call: str
    does: str
    why: str
    data: bytes
    frames: Frames
    theirs: Frames
    witness: str | None = None


BITS_RUN_ON = "PS3.5 8.2: bits run on across frames, so bits [15, 30) lie in three bytes"
ONE_BIT_FRAMES: Frames = [b"\x00\x00", b"\xff\x7f", b"\x00\x40"]
ITEMS_DECIDE = "PS3.5 A.4: an entry leads to its frame's item; of three items each is a frame"
NO_PART = "PS3.5 A.4: the item's length says how long the fragment was; a part is no frame"
LAST_LOST: Frames = [A, B, TruncatedFrameError]

DIFFERENCES = {
    "R31-bits-by-index-pydicom": Difference(
        call="pydicom.pixels.pixel_array of an index",
        does="raises for frames that begin inside a byte: it has cut off their last bits",
        why=BITS_RUN_ON,
        data=ONE_BIT,
        frames=ONE_BIT_FRAMES,
        theirs=[b"\x00\x00", ValueError, ValueError],
        witness="pydicom.pixels.pixel_array",
    ),
    "R31-bits-as-buffer-pydicom": Difference(
        call="pydicom.pixels.decoders.base.Decoder.as_buffer",
        does="returns two of the three bytes, and bits of the frame before, in silence",
        why=BITS_RUN_ON,
        data=ONE_BIT,
        frames=ONE_BIT_FRAMES,
        theirs=[b"\x00\x80", b"\x80\xff", b"\x3f\x00"],
    ),
    "R31-bits-highdicom": Difference(
        call="highdicom.io.ImageFileReader.read_frame",
        does="raises for frames that begin inside a byte: it has cut off their last bits",
        why=BITS_RUN_ON,
        data=ONE_BIT,
        frames=ONE_BIT_FRAMES,
        theirs=[b"\x00\x00", ValueError, ValueError],
    ),
    "R31-raw-bits-highdicom": Difference(
        call="highdicom.io.ImageFileReader.read_frame_raw",
        does="returns two of the three bytes, and bits of the frame before, in silence",
        why=BITS_RUN_ON,
        data=ONE_BIT,
        frames=ONE_BIT_FRAMES,
        theirs=[b"\x00\x80", b"\x80\xff", b"\x3f\x00"],
    ),
    "R15-zero-table-get-frame-pydicom": Difference(
        call="pydicom.encaps.get_frame",
        does="returns empty frames and then all of them as the last, in silence",
        why=ITEMS_DECIDE,
        data=ALL_ZERO_TABLE,
        frames=[A, B, C],
        theirs=[b"", b"", A + B + C],
    ),
    "R15-zero-table-generate-frames-pydicom": Difference(
        call="pydicom.encaps.generate_frames",
        does="yields an empty frame first, then the frames one late, in silence",
        why=ITEMS_DECIDE,
        data=ALL_ZERO_TABLE,
        frames=[A, B, C],
        theirs=[b"", A, B + C],
    ),
    "R15-zero-table-highdicom": Difference(
        call="highdicom.io.ImageFileReader.read_frame_raw",
        does="raises, but for the last frame, which is all of them, in silence",
        why=ITEMS_DECIDE,
        data=ALL_ZERO_TABLE,
        frames=[A, B, C],
        theirs=[OSError, OSError, A + B + C],
    ),
    "R15-short-table-get-frame-pydicom": Difference(
        call="pydicom.encaps.get_frame",
        does="returns two frames as the second, in silence, and raises for the third",
        why=ITEMS_DECIDE,
        data=SHORT_TABLE,
        frames=[A, B, C],
        theirs=[A, B + C, ValueError],
        witness="highdicom.io.ImageFileReader.read_frame_raw",
    ),
    "R15-short-table-generate-frames-pydicom": Difference(
        call="pydicom.encaps.generate_frames",
        does="yields two frames where three are asked for, in silence",
        why=ITEMS_DECIDE,
        data=SHORT_TABLE,
        frames=[A, B, C],
        theirs=[A, B + C],
        witness="highdicom.io.ImageFileReader.read_frame_raw",
    ),
    "R15-table-of-one-pydicom": Difference(
        call="pydicom.encaps.get_frame",
        does="returns all frames as the first, in silence, and raises for the others",
        why=ITEMS_DECIDE,
        data=TABLE_OF_ONE,
        frames=[A, B, C],
        theirs=[A + B + C, ValueError, ValueError],
        witness="highdicom.io.ImageFileReader.read_frame_raw",
    ),
    "R14-cut-file-pydicom": Difference(
        call="pydicom.encaps.get_frame of a file",
        does="returns the last frame short, in silence",
        why=NO_PART,
        data=CUT,
        frames=LAST_LOST,
        theirs=[A, B, b"\xff\xd8CCCC"],
    ),
    "R14-cut-file-with-table-pydicom": Difference(
        call="pydicom.encaps.get_frame of a file",
        does="returns the last frame short, in silence",
        why=NO_PART,
        data=CUT_WITH_TABLE,
        frames=LAST_LOST,
        theirs=[A, B, b"\xff\xd8CCCC"],
    ),
    "R14-cut-file-dcmread-pydicom": Difference(
        call="pydicom.encaps.get_frame",
        does="has no frames at all: dcmread leaves out Pixel Data, with a warning",
        why="the first two items are complete, and so are their frames",
        data=CUT,
        frames=LAST_LOST,
        theirs=[AttributeError, AttributeError, AttributeError],
    ),
    "R14-length-past-the-end-pydicom": Difference(
        call="pydicom.encaps.get_frame",
        does="returns the 10 bytes of 5000 that stand before a delimiter, in silence",
        why=NO_PART,
        data=LENGTH_PAST_THE_END,
        frames=LAST_LOST,
        theirs=[A, B, C],
    ),
    "R14-cut-file-highdicom": Difference(
        call="highdicom.io.ImageFileReader.read_frame_raw",
        does="reads no frame of a cut file without a table",
        why="the first two items are complete, and so are their frames",
        data=CUT,
        frames=LAST_LOST,
        theirs=[OSError, OSError, OSError],
    ),
    "R18-inner-end-of-image-get-frame-pydicom": Difference(
        call="pydicom.encaps.get_frame",
        does="ends a frame at each fragment with FFD9 in its last ten bytes, in silence",
        why="PS3.5 A.4: a fragment may hold any bytes; two of the four begin with FFD8",
        data=INNER_END_OF_IMAGE,
        frames=WHOLE_THUMBNAILS,
        theirs=THUMBNAILS[:2],
        witness="highdicom.io.ImageFileReader.read_frame_raw",
    ),
    "R18-inner-end-of-image-generate-frames-pydicom": Difference(
        call="pydicom.encaps.generate_frames",
        does="yields four frames where two are asked for, in silence",
        why="PS3.5 A.4: a fragment may hold any bytes; two of the four begin with FFD8",
        data=INNER_END_OF_IMAGE,
        frames=WHOLE_THUMBNAILS,
        theirs=THUMBNAILS,
        witness="highdicom.io.ImageFileReader.read_frame_raw",
    ),
    "R15-two-fragments-a-frame-wsidicom": Difference(
        call="wsidicom.file.io.WsiDicomReader.read_frame",
        does="returns the second item's header as data, the last frame without its second "
        "fragment, in silence",
        why="PS3.5 A.4: a frame is its fragments' values; an entry says where the first is",
        data=FRAGMENTED_SLIDE,
        frames=[b"\xff\xd8AAaaaa\xff\xd9", b"\xff\xd8BBbb\xff\xd9"],
        theirs=[b"\xff\xd8AA" + b"\xfe\xff\0\xe0\x06\0\0\0" + b"aaaa\xff\xd9", b"\xff\xd8BB"],
        witness="pydicom.encaps.get_frame",
    ),
    "R17-both-tables-highdicom": Difference(
        call="highdicom.io.ImageFileReader.read_frame_raw",
        does="raises: it takes the Basic Offset Table beside an extended one for empty",
        why="PS3.3 C.7.6.3.1.8: offsets count from the first item after the Basic Offset Table",
        data=BOTH_TABLES,
        frames=[A, B, C],
        theirs=[ValueError, ValueError, ValueError],
        witness="pydicom.encaps.get_frame",
    ),
}
WITNESSED = {name: row for name, row in DIFFERENCES.items() if row.witness is not None}


def read_with_peer(call: str, data: bytes, count: int) -> Frames:
    """Return what `call` returns; skip where its peer is absent or not the one tried."""
    peer = call.partition(".")[0]
    pytest.importorskip(peer)
    version = importlib.metadata.version(peer)
    if version != TRIED[peer]:
        pytest.skip(f"{peer} {TRIED[peer]} was tried, {version} is installed")
    return READERS[call](data, count)


@pytest.mark.parametrize("row", DIFFERENCES.values(), ids=DIFFERENCES)
def test_mmindex_returns_the_right_frames(row: Difference) -> None:
    """Each frame is what its rule says, with or without the peers installed."""
    with mmindex.open_file(io.BytesIO(row.data)) as instance:
        frames: Frames = []
        for frame_index in range(len(instance)):
            try:
                frames.append(instance.frame(frame_index))
            except TruncatedFrameError as error:
                frames.append(type(error))
    assert frames == row.frames, row.why


@pytest.mark.parametrize("row", DIFFERENCES.values(), ids=DIFFERENCES)
def test_the_peer_does_what_its_row_says(row: Difference) -> None:
    """The version that was tried returns what stands in the table, and warns of nothing else."""
    theirs = read_with_peer(row.call, row.data, len(row.frames))
    assert theirs == row.theirs, f"update the table: {row.call} is said to differ: it {row.does}"
    assert theirs != row.frames


@pytest.mark.parametrize("row", WITNESSED.values(), ids=WITNESSED)
def test_a_witness_reads_the_same_frames_as_mmindex(row: Difference) -> None:
    """Another peer, or another call of the same one, returns our frames for these bytes."""
    assert read_with_peer(row.witness, row.data, len(row.frames)) == row.frames, row.why


def test_R31_arrays_are_the_bits_that_pydicom_decodes_all_at_once() -> None:
    """Our array of each single frame has the pixels of pydicom's array of all of them."""
    theirs = pixel_array(read_data_set(ONE_BIT))
    with mmindex.open_file(io.BytesIO(ONE_BIT)) as instance:
        ours = [instance.array(frame_index) for frame_index in range(3)]
    assert np.array_equal(ours, theirs)
    assert [int(array.sum()) for array in ours] == [0, 15, 1]


def test_every_reader_stands_in_the_table() -> None:
    """No reader is left over from a row that was removed."""
    rows = DIFFERENCES.values()
    assert {call for row in rows for call in (row.call, row.witness) if call} == set(READERS)
