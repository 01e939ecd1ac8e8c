"""The packed record, held to the table in index/record.py by bytes written by hand."""

from __future__ import annotations

import struct
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmindex.errors import IndexFormatError, MMIndexError
from mmindex.frame_table import FrameTable, Layout
from mmindex.image_numbers import NO_NUMBERS, ImageNumbers
from mmindex.index.databases import CHUNK_LENGTH, LONG_RECORD
from mmindex.index.record import (
    FORMAT_VERSION,
    pack_record,
    unpack_count,
    unpack_keys,
    unpack_record,
)
from mmindex.index.record_parts import check_path
from mmindex.index.record_split import entries_offset, join_record, length_apart, split_record
from mmindex.model import (
    Anomaly,
    Boundaries,
    Fingerprint,
    ImagePixel,
    InstanceRecord,
    Member,
    Status,
    VersionKind,
)

NO_IMAGE_PIXEL = bytes(16) + b"\x00" + b"\x00" + b"\x00\x00"  # u2[8], which, element, VR
FINGERPRINT = Fingerprint(0x1234, -2, 0xFFEEDDCCBBAA9988)
NO_TIME = bytes(6)  # and no image numbers
EMPTY_TEXT = b"\x00\x00"
PACKED_FINGERPRINT = bytes.fromhex("00 3412000000000000 feffffffffffffff 8899aabbccddeeff")


GOLDEN = {
    "native": (
        b"\x01\x01\x01\x04"  # indexed, native, native layout, fingerprint
        + b"\xc6\x00\x00\x00"  # 117 + 81 bytes of texts = 198
        + PACKED_FINGERPRINT
        + bytes.fromhex("0300000000000000")  # Number of Frames
        + bytes.fromhex("0300000000000000")  # in the table
        + bytes.fromhex("0200000000000000")  # located
        + bytes.fromhex("0000000000000000")  # fragments
        + bytes.fromhex("f0debc9a78563412")  # value offset
        + bytes.fromhex("0800100000000000")  # bits a frame: 512 * 256 * 8 + 8
        + bytes.fromhex("2000100000000000")  # from one frame to the next
        + bytes.fromhex("0002 0001 0100 0800 0000 0700 0000 0000")
        + b"\x6f"  # all but Bits Stored and Planar Configuration
        + b"\x00"  # Pixel Data
        + b"OW"
        + b"\x00\x00"  # anomalies
        + b"\x04\x03\x02\x01"  # microseconds
        + b"\x00\x00"  # no image numbers
        + b"\x0a\x00ward/\xe4.dcm"
        + b"\x13\x001.2.840.10008.1.2.1"
        + b"\x05\x001.2.3"
        + b"\x07\x001.2.3.4"
        + b"\x07\x001.2.3.5"
        + b"\x00\x00"
        + b"\x02\x00\xc9T"
        + b"\x0b\x00MONOCHROME2"
        + EMPTY_TEXT * 2,
        InstanceRecord(
            Status.INDEXED,
            path=b"ward/\xe4.dcm",
            fingerprint=FINGERPRINT,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            sop_class_uid="1.2.3",
            sop_instance_uid="1.2.3.4",
            study_instance_uid="1.2.3.5",
            modality="\xc9T",
            number_of_frames=3,
            boundaries=Boundaries.NATIVE,
            image_pixel=ImagePixel(
                rows=512,
                columns=256,
                samples_per_pixel=1,
                bits_allocated=8,
                high_bit=7,
                pixel_representation=0,
                photometric_interpretation="MONOCHROME2",
                pixel_vr="OW",
            ),
            frames=FrameTable(
                Layout.NATIVE,
                3,
                2,
                0,
                0x123456789ABCDEF0,
                frame_bits=0x100008,
                stride_bits=0x100020,
            ),
            scan_microseconds=0x01020304,
        ),
    ),
    "fragment-a-frame-4": (
        b"\x01\x04\x02\x00"  # indexed, one fragment a frame, 4 bytes, no fingerprint
        + b"\xbf\x00\x00\x00"  # 117 + 21 + 32 + 21
        + bytes(25)
        + struct.pack("<QQQQQQQ", 3, 3, 2, 3, 1000, 0, 0)
        + NO_IMAGE_PIXEL
        + b"\x02\x00"
        + NO_TIME
        + b"\x01\x00b"
        + EMPTY_TEXT * 9
        + b"\x40\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x13odd-fragment-length"
        + b"\xe8\x03\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x08bot-\xe9tat"
        + bytes.fromhex("00000000 10000000 30000000 36000000"),
        InstanceRecord(
            Status.INDEXED,
            path=b"b",
            number_of_frames=3,
            boundaries=Boundaries.ONE_FRAGMENT_A_FRAME,
            frames=FrameTable(
                Layout.FRAGMENT_A_FRAME,
                3,
                2,
                3,
                1000,
                entries=b"\0\0\0\0\x10\0\0\0\x30\0\0\0\x36\0\0\0",
            ),
            anomalies=(
                Anomaly("odd-fragment-length", 0x100000040, 2),
                Anomaly("bot-\xe9tat", 1000),
            ),
        ),
    ),
    "positions": (
        b"\x01\x04\x02\x40"  # indexed, one fragment a frame, positions of tiles
        + b"\x92\x00\x00\x00"  # 117 + 21 + 8
        + bytes(25)
        + struct.pack("<QQQQQQQ", 1, 1, 1, 1, 1000, 0, 0)
        + NO_IMAGE_PIXEL
        + b"\x00\x00"
        + NO_TIME
        + b"\x01\x00b"
        + EMPTY_TEXT * 9
        + b"\x05\x00\x00\x00\x00\x00\x00\x00"
        + bytes.fromhex("00000000 10000000")
        + b"where",
        InstanceRecord(
            Status.INDEXED,
            path=b"b",
            number_of_frames=1,
            boundaries=Boundaries.ONE_FRAGMENT_A_FRAME,
            frames=FrameTable(
                Layout.FRAGMENT_A_FRAME, 1, 1, 1, 1000, entries=b"\0\0\0\0\x10\0\0\0"
            ),
            positions=b"where",
        ),
    ),
    "fragment-a-frame-8": (
        b"\x02\x03\x02\x05"  # deflated, extended offset table, 8 bytes, fingerprint
        + b"\x89\x00\x00\x00"  # 117 + 20
        + PACKED_FINGERPRINT
        + struct.pack("<QQQQQQQ", 2, 2, 2, 2, 9, 0, 0)
        + bytes(16)
        + b"\x00\x02OD"  # Double Float Pixel Data
        + b"\x00\x00"
        + NO_TIME
        + EMPTY_TEXT * 10
        + bytes.fromhex("0000000000000000 0800000001000000 2000000001000000"),
        InstanceRecord(
            Status.DEFLATED,
            fingerprint=FINGERPRINT,
            number_of_frames=2,
            boundaries=Boundaries.EXTENDED_OFFSET_TABLE,
            image_pixel=ImagePixel(pixel_keyword="DoubleFloatPixelData", pixel_vr="OD"),
            frames=FrameTable(
                Layout.FRAGMENT_A_FRAME,
                2,
                2,
                2,
                9,
                entry_size=8,
                entries=struct.pack("<QQQ", 0, 0x100000008, 0x100000020),
            ),
        ),
    ),
    "fragments-trimmed": (
        b"\x03\x06\x03\x02"  # stream, start markers, fragments, trimmed
        + b"\x89\x00\x00\x00"
        + bytes(25)
        + struct.pack("<QQQQQQQ", 7, 2, 2, 3, 100, 0, 0)
        + NO_IMAGE_PIXEL
        + b"\x00\x00"
        + NO_TIME
        + EMPTY_TEXT * 10
        + bytes.fromhex("00000000 02000000 03000000")  # first fragments, and their number
        + bytes.fromhex("00000000 0c000000 18000000 22000000")  # items, and where the last ends
        + b"\x02",  # frame 1 is trimmed, frame 0 is not
        InstanceRecord(
            Status.STREAM,
            number_of_frames=7,
            boundaries=Boundaries.START_MARKERS,
            frames=FrameTable(
                Layout.FRAGMENTS,
                2,
                2,
                3,
                100,
                trimmed=True,
                entries=struct.pack("<7IB", 0, 2, 3, 0, 12, 24, 34, 2),
            ),
        ),
    ),
    "trusted": (
        b"\x01\x02\x04\x00"  # indexed, basic offset table, trusted
        + b"\x89\x00\x00\x00"
        + bytes(25)
        + struct.pack("<QQQQQQQ", 2, 2, 2, 0, 100, 0, 0)
        + NO_IMAGE_PIXEL
        + b"\x00\x00"
        + NO_TIME
        + EMPTY_TEXT * 10
        + bytes.fromhex("00000000 10000000 30000000"),  # frames, and where the last ends
        InstanceRecord(
            Status.INDEXED,
            number_of_frames=2,
            boundaries=Boundaries.BASIC_OFFSET_TABLE,
            frames=FrameTable(Layout.TRUSTED, 2, 2, 0, 100, entries=struct.pack("<3I", 0, 16, 48)),
        ),
    ),
    "member-with-numbers": (
        b"\x02\x01\x01\x24"  # deflated, native, native layout, version, member
        + b"\x7c\x01\x00\x00"  # 117 + 38 + 34 + 168 + 23 = 380
        + bytes.fromhex("02 3412000000000000 feffffffffffffff 8899aabbccddeeff")  # remote
        + struct.pack("<QQQQQQQ", 1, 1, 1, 0, 700, 64, 64)
        + NO_IMAGE_PIXEL
        + b"\x00\x00"
        + bytes(4)
        + b"\xff\x7f"  # all image numbers
        + b"\x05\x00a.zip"
        + EMPTY_TEXT * 5
        + b"\x02\x00MR"
        + b"\x0b\x00MONOCHROME1"
        + EMPTY_TEXT * 2
        + bytes.fromhex("8000000000000000 0010000000000000 0008000000000000 efbeadde 08")
        + b"\x03\x00b/c"
        + bytes.fromhex("f9ffffffffffffff")  # Instance Number -7
        + struct.pack("<4d", 2.5, -1024, 40, 400)
        + struct.pack("<2d", 0.5, 0.25)
        + struct.pack("<3d", 1, 2, 3)
        + struct.pack("<6d", 1, 0, 0, 0, 1, 0)
        + struct.pack("<4q", 1000, 2000, 30, 4)
        + struct.pack("<d", 33.3)
        + b"\x0a\x00TILED_FULL"
        + b"\x09\x001.2.3.4.5",
        InstanceRecord(
            Status.DEFLATED,
            path=b"a.zip",
            fingerprint=Fingerprint(0x1234, -2, 0xFFEEDDCCBBAA9988, VersionKind.REMOTE),
            modality="MR",
            number_of_frames=1,
            boundaries=Boundaries.NATIVE,
            image_pixel=ImagePixel(photometric_interpretation="MONOCHROME1"),
            image_numbers=ImageNumbers(
                instance_number=-7,
                rescale_slope=2.5,
                rescale_intercept=-1024.0,
                window_center=40.0,
                window_width=400.0,
                pixel_spacing=(0.5, 0.25),
                image_position_patient=(1.0, 2.0, 3.0),
                image_orientation_patient=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                total_pixel_matrix_columns=1000,
                total_pixel_matrix_rows=2000,
                dimension_organization_type="TILED_FULL",
                concatenation_uid="1.2.3.4.5",
                concatenation_frame_offset_number=30,
                in_concatenation_number=4,
                frame_time=33.3,
            ),
            frames=FrameTable(Layout.NATIVE, 1, 1, 0, 700, frame_bits=64),
            member=Member(b"b/c", 128, 4096, 2048, 8, 0xDEADBEEF),
        ),
    ),
    "unreadable": (
        b"\x06\x00\x00\x04"
        + b"\xa3\x00\x00\x00"  # 117 + 46
        + PACKED_FINGERPRINT
        + bytes(56)
        + NO_IMAGE_PIXEL
        + b"\x00\x00"
        + NO_TIME
        + b"\x05\x00x/y\xff\n"
        + EMPTY_TEXT * 7
        + b"\x0b\x00FormatError"
        + b"\x0a\x00zw\xc3\xb6lf \xe2\x82\xac",
        InstanceRecord(
            Status.UNREADABLE,
            path=b"x/y\xff\n",
            fingerprint=FINGERPRINT,
            reason="zwölf €",
            error="FormatError",
        ),
    ),
}


@pytest.mark.parametrize(("packed", "record"), GOLDEN.values(), ids=list(GOLDEN))
def test_record_is_packed_as_the_format_says(packed: bytes, record: InstanceRecord) -> None:
    """Every field stands where the table puts it, byte for byte, in both directions."""
    assert (FORMAT_VERSION, CHUNK_LENGTH, LONG_RECORD) == (4, 16_360, 65_536)
    assert pack_record(record).hex(" ") == packed.hex(" ")
    assert unpack_record(packed) == record
    assert unpack_record(packed).scan_microseconds == record.scan_microseconds
    assert unpack_record(memoryview(b"\xff" + packed)[1:]) == record


def test_entries_that_are_kept_apart_leave_their_length() -> None:
    """Bit 4 of the flags is set, a u8 stands for the entries, and both together are the record."""
    packed, record = GOLDEN["fragment-a-frame-4"]
    head, entries = split_record(packed)
    assert head == packed[:3] + b"\x10" + packed[4:-16] + bytes.fromhex("1000000000000000")
    assert entries == packed[-16:]
    assert length_apart(head) == 16
    assert length_apart(packed) is None
    assert unpack_record(head, entries) == record
    assert join_record(head, entries) == packed
    with pytest.raises(IndexFormatError, match="damaged record"):
        unpack_record(head)
    with pytest.raises(IndexFormatError, match="damaged record"):
        length_apart(head[:-1])


def test_golden_fragments_are_where_the_bytes_say() -> None:
    """Two fragments of 4 bytes, then one of 2 whose last byte is padding, 8 bytes after items."""
    frames = unpack_record(GOLDEN["fragments-trimmed"][0]).frames
    assert frames is not None
    assert frames.fragment_ranges(0) == ((108, 4), (120, 4))
    assert frames.contiguous_range(0) is None
    assert frames.contiguous_range(1) == (132, 1)


def test_golden_8_byte_entries_reach_past_4_gib() -> None:
    """The first frame is as long as 4 GiB, the second begins after it."""
    frames = unpack_record(GOLDEN["fragment-a-frame-8"][0]).frames
    assert frames is not None
    assert frames.contiguous_range(0) == (17, 0x100000000)
    assert frames.contiguous_range(1) == (0x100000019, 16)


STATUSES = [
    *("indexed", "deflated", "stream", "no-pixel-data", "not-dicom", "unreadable", "container"),
]
BOUNDARIES = [
    *("none", "native", "basic-offset-table", "extended-offset-table"),
    *("one-fragment-a-frame", "all-fragments", "start-markers"),
]


@pytest.mark.parametrize("status", Status)
def test_statuses_have_the_numbers_of_the_table(status: Status) -> None:
    """The first byte is the status, counted from 1 in the order of the table."""
    assert pack_record(InstanceRecord(status))[0] == STATUSES.index(status.value) + 1


@pytest.mark.parametrize("boundaries", Boundaries)
def test_boundaries_have_the_numbers_of_the_table(boundaries: Boundaries) -> None:
    """The second byte is where the boundaries came from, counted from 0."""
    packed = pack_record(InstanceRecord(Status.INDEXED, boundaries=boundaries))
    assert packed[1] == BOUNDARIES.index(boundaries.value)


def test_keys_are_those_of_the_record() -> None:
    """What the store needs to know is read without unpacking the rest."""
    keys = unpack_keys(GOLDEN["native"][0])
    assert keys.path == b"ward/\xe4.dcm"
    assert keys.fingerprint == FINGERPRINT
    assert keys.status is Status.INDEXED
    assert unpack_count(GOLDEN["native"][0]) == (Status.INDEXED, 3)
    uids = keys.sop_instance_uid, keys.study_instance_uid, keys.series_instance_uid
    assert uids == (b"1.2.3.4", b"1.2.3.5", b"")


@pytest.mark.parametrize(
    "path",
    [b"/etc/x", b"../x", b"a/../b", b"a/..", b"..", b"a\0b", b"/", b"//x", b"\0"],
)
def test_path_that_leads_out_is_refused(path: bytes) -> None:
    """No index makes a reader open a file outside of the archive."""
    with pytest.raises(ValueError, match="leads out of the archive"):
        check_path(path)
    packed = pack_record(InstanceRecord(Status.INDEXED, path=path))
    with pytest.raises(IndexFormatError, match="leads out of the archive"):
        unpack_record(packed)


@pytest.mark.parametrize("path", [b"...", b"a/..b", b"a../b", b".hidden", b"a b\n\xff"])
def test_odd_path_that_stays_inside_is_kept(path: bytes) -> None:
    """Only a component that is exactly `..` leads out."""
    assert unpack_record(pack_record(InstanceRecord(Status.INDEXED, path=path))).path == path


def test_long_reason_is_cut() -> None:
    """A reason longer than a text may be does not make a record unwritable."""
    record = unpack_record(pack_record(InstanceRecord(Status.UNREADABLE, reason="ä" * 100_000)))
    assert record.reason.startswith("ä" * 30_000)


def fragment_a_frame_table(count: int) -> FrameTable:
    starts = struct.pack(f"<{count + 1}I", *range(0, 20 * count + 1, 20))
    return FrameTable(Layout.FRAGMENT_A_FRAME, count, count, count, 1000, entries=starts)


def test_100_000_frames_take_less_than_5_bytes_each() -> None:
    """One fragment a frame costs four bytes, whatever the record has besides."""
    record = InstanceRecord(Status.INDEXED, frames=fragment_a_frame_table(100_000))
    assert len(pack_record(record)) < 5 * 100_000


def test_native_record_does_not_grow_with_its_frames() -> None:
    """Native frames have one offset and one stride, be they ten or ten million."""
    few, many = (
        pack_record(
            InstanceRecord(
                Status.INDEXED, frames=FrameTable(Layout.NATIVE, count, count, 0, 1000, 800)
            )
        )
        for count in (10, 10_000_000)
    )
    assert len(few) == len(many)


class CountingEntries:
    """Entries of items of 20 bytes each, never held in memory, that note what is asked of them.

    `runs` is how many fragments a frame has, 0 for one fragment a frame.
    """

    def __init__(self, frames: int, runs: int) -> None:
        self.asked: list[int] = []
        self._firsts = frames + 1 if runs else 0
        self._runs = runs
        self._length = 4 * (self._firsts + frames * (runs or 1) + 1)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, where: slice) -> bytes:
        numbers = range(self._length // 4)[where.start // 4 : where.stop // 4]
        self.asked.append(4 * len(numbers))
        return b"".join(
            struct.pack("<I", at * self._runs if at < self._firsts else 20 * (at - self._firsts))
            for at in numbers
        )


@pytest.mark.parametrize("frame_index", [0, 1, 4_999_999, 9_999_999])
def test_frame_of_one_fragment_reads_two_entries(frame_index: int) -> None:
    """Frame N of ten million costs eight bytes of the index."""
    count = 10_000_000
    entries = CountingEntries(count, 0)
    table = FrameTable(Layout.FRAGMENT_A_FRAME, count, count, count, 1000, entries=entries)
    assert table.contiguous_range(frame_index) == (1008 + 20 * frame_index, 12)
    assert entries.asked == [8]


@pytest.mark.parametrize("frame_index", [0, 1, 4_999_999, 9_999_999])
def test_frame_of_several_fragments_reads_its_own_entries(frame_index: int) -> None:
    """Frame N of ten million with three fragments each costs two slices: 8 and 16 bytes."""
    count = 10_000_000
    entries = CountingEntries(count, 3)
    table = FrameTable(Layout.FRAGMENTS, count, count, 3 * count, 1000, entries=entries)
    first = 1008 + 60 * frame_index
    assert table.fragment_ranges(frame_index) == ((first, 12), (first + 20, 12), (first + 40, 12))
    assert entries.asked == [8, 16]


def test_unpacking_leaves_given_entries_alone() -> None:
    """With entries given, nothing of the packed ones is touched: they need not even be there."""
    count = 1000
    record = InstanceRecord(Status.INDEXED, path=b"a", frames=fragment_a_frame_table(count))
    packed = pack_record(record)
    entries = CountingEntries(count, 0)
    unpacked = unpack_record(packed[: entries_offset(packed)], entries)
    assert unpacked.path == b"a"
    assert entries.asked == []
    assert unpacked.frames is not None
    assert unpacked.frames.contiguous_range(999) == (1008 + 20 * 999, 12)


U2, U4, U8 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
MOST_FRAMES = 2**48  # that a record may have, by the format
VALUE_OFFSETS = st.integers(0, 2**61)
LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=80)
UTF_8 = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
COMPONENTS = st.binary(min_size=1, max_size=40).filter(
    lambda name: name != b".." and not set(name) & {0, 0x2F}
)
PATHS = st.lists(COMPONENTS, max_size=5).map(b"/".join)


@st.composite
def frame_tables(draw: st.DrawFn) -> FrameTable:
    layout = draw(st.sampled_from(Layout))
    if layout is Layout.NATIVE:
        number_of_frames = draw(st.integers(0, MOST_FRAMES))
        located = draw(st.integers(0, min(number_of_frames, 2**32)))
        return FrameTable(
            layout,
            number_of_frames,
            located,
            0,
            draw(VALUE_OFFSETS),
            frame_bits=(frame_bits := draw(st.integers(1, 2**30))),
            stride_bits=frame_bits + draw(st.integers(0, 32)),
        )
    fragments = draw(st.integers(0, 20))
    located = draw(st.integers(0, fragments if layout is Layout.FRAGMENT_A_FRAME else 20))
    size, trimmed = draw(st.sampled_from([4, 8])), draw(st.booleans())
    count = {
        Layout.FRAGMENT_A_FRAME: fragments + 1,
        Layout.FRAGMENTS: fragments + 1 + located + 1,
        Layout.TRUSTED: located + 1,
    }[layout]
    length = count * size + (located + 7) // 8 * trimmed
    return FrameTable(
        layout,
        draw(st.integers(located, MOST_FRAMES)),
        located,
        fragments,
        draw(VALUE_OFFSETS),
        entry_size=size,
        trimmed=trimmed,
        entries=draw(st.binary(min_size=length, max_size=length)),
    )


NUMBERS = (
    *("rows", "columns", "samples_per_pixel", "bits_allocated", "bits_stored", "high_bit"),
    *("pixel_representation", "planar_configuration"),
)
IMAGE_PIXELS = st.builds(
    ImagePixel,
    **{name: st.none() | U2 for name in NUMBERS},
    photometric_interpretation=LATIN_1,
    pixel_keyword=st.sampled_from(["PixelData", "FloatPixelData", "DoubleFloatPixelData"]),
    pixel_vr=st.sampled_from(["", "OB", "OW", "OF", "OD", "UN"]),
)
FLOATS = st.floats(allow_nan=False)
WHOLE = st.integers(-(2**63), 2**63 - 1)
IMAGE_NUMBERS = st.builds(
    ImageNumbers,
    **{
        name: st.none() | WHOLE
        for name in (
            *("instance_number", "total_pixel_matrix_columns", "total_pixel_matrix_rows"),
            *("concatenation_frame_offset_number", "in_concatenation_number"),
        )
    },
    **{
        name: st.none() | FLOATS
        for name in (
            *("rescale_slope", "rescale_intercept", "window_center", "window_width"),
            "frame_time",
        )
    },
    pixel_spacing=st.none() | st.tuples(*[FLOATS] * 2),
    image_position_patient=st.none() | st.tuples(*[FLOATS] * 3),
    image_orientation_patient=st.none() | st.tuples(*[FLOATS] * 6),
    dimension_organization_type=LATIN_1,
    concatenation_uid=LATIN_1,
)
MEMBERS = st.builds(Member, st.binary(min_size=1, max_size=80), U8, U8, U8, st.integers(0, 255), U4)
RECORDS = st.builds(
    partial(InstanceRecord),  # else hypothesis fills in fields that have a default, too
    status=st.sampled_from(Status),
    path=PATHS,
    fingerprint=st.none()
    | st.builds(
        Fingerprint, U8, st.integers(-(2**63), 2**63 - 1), U8, st.sampled_from(VersionKind)
    ),
    reason=UTF_8,
    error=LATIN_1,
    transfer_syntax_uid=LATIN_1,
    sop_class_uid=LATIN_1,
    sop_instance_uid=LATIN_1,
    study_instance_uid=LATIN_1,
    series_instance_uid=LATIN_1,
    modality=LATIN_1,
    number_of_frames=st.integers(0, MOST_FRAMES),
    boundaries=st.sampled_from(Boundaries),
    image_pixel=IMAGE_PIXELS,
    image_numbers=st.just(NO_NUMBERS) | IMAGE_NUMBERS,
    member=st.none() | MEMBERS,
    frames=st.none() | frame_tables(),
    anomalies=st.lists(st.builds(Anomaly, LATIN_1, U8, U4), max_size=5).map(tuple),
)


@settings(deadline=None)
@given(RECORDS)
@example(GOLDEN["fragments-trimmed"][1])
def test_unpacking_gives_back_what_was_packed(record: InstanceRecord) -> None:
    """No field of any record is lost or changed."""
    packed = pack_record(record)
    assert unpack_record(packed) == record
    keys = unpack_keys(packed)
    assert keys.path == record.path
    assert keys.member == (record.member.name if record.member else b"")
    assert unpack_count(packed) == (record.status, record.number_of_frames)


@st.composite
def damaged_records(draw: st.DrawFn) -> bytes:
    packed = bytearray(pack_record(draw(RECORDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(packed) - 1))
        packed[at] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        packed += draw(st.binary(max_size=40))
    else:
        del packed[draw(st.integers(0, len(packed))) :]
    return bytes(packed)


@settings(max_examples=300, deadline=None)
@given(damaged_records() | st.binary(max_size=400))
def test_damaged_record_gives_a_record_or_index_format_error(packed: bytes) -> None:
    """No damage gives another exception, nor a path that leads out."""
    try:
        record = unpack_record(packed)
    except IndexFormatError:
        return
    check_path(record.path)


@settings(max_examples=200, deadline=None)
@given(damaged_records())
def test_damaged_entries_never_give_a_range_that_cannot_be_read(packed: bytes) -> None:
    """A frame of a damaged record is refused by an error of mmindex, or has a place in a file."""
    try:
        frames = unpack_record(packed).frames
    except IndexFormatError:
        return
    if frames is None:
        return
    for frame_index in range(min(frames.number_of_frames, 5)):
        try:
            if frames.layout is Layout.TRUSTED:
                ranges = [frames.span(frame_index)]
            else:
                ranges = [*frames.fragment_ranges(frame_index)]
                ranges.append(frames.contiguous_range(frame_index) or ranges[0])
        except MMIndexError:
            continue
        assert min(min(place) for place in ranges) >= 0
