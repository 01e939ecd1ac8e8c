"""Records read as columns are the records that are read one by one."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from new_store import create_store

from mmindex.errors import IndexFormatError
from mmindex.frame_table import FrameTable, Layout
from mmindex.index import frame_rows
from mmindex.index.frame_rows import FrameRows, walk_rows
from mmindex.index.record import pack_record
from mmindex.index.record_columns import HEADER_DTYPE, RecordColumns, walk_columns
from mmindex.index.record_parts import HEADER, Header
from mmindex.index.store import Store
from mmindex.model import Fingerprint, ImagePixel, InstanceRecord, Member, Status, VersionKind

_Row = tuple[int, int, int, int, int]


def rows_by_hand(table: FrameTable) -> list[_Row]:
    """Return (frame, fragment, offset, length, first bit) of every fragment, frame by frame."""
    rows = []
    for frame in range(table.frames_located):
        for fragment, (offset, length) in enumerate(table.fragment_ranges(frame)):
            rows.append((frame, fragment, offset, length, frame * table.stride_bits % 8))
    return rows


def list_rows(rows: FrameRows) -> list[_Row]:
    return list(zip(*(column.tolist() for column in rows[1:]), strict=True))


def make_fragments(
    counts: list[int], lengths: list[int], size: int, layout: Layout, trimmed: bytes = b""
) -> FrameTable:
    """Return a table of frames with so many fragments each, of these lengths."""
    letter = "I" if size == 4 else "Q"
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + 8 + length)
    entries = struct.pack(f"<{len(starts)}{letter}", *starts)
    if layout is Layout.FRAGMENTS:
        firsts = [sum(counts[:at]) for at in range(len(counts) + 1)]
        entries = struct.pack(f"<{len(firsts)}{letter}", *firsts) + entries
    return FrameTable(
        layout,
        *(len(counts), len(counts), len(lengths), 1000),
        entry_size=size,
        trimmed=bool(trimmed),
        entries=entries + trimmed,
    )


@st.composite
def tables(draw: st.DrawFn) -> FrameTable:
    """Tables of every layout that is listed from the index alone."""
    count = draw(st.integers(0, 40))
    size = draw(st.sampled_from([4, 8]))
    layout = draw(st.sampled_from([Layout.NATIVE, Layout.FRAGMENT_A_FRAME, Layout.FRAGMENTS]))
    if layout is Layout.NATIVE:
        bits = draw(st.integers(1, 100))
        stride = bits + draw(st.sampled_from([0, 0, 3, 8]))
        located = draw(st.integers(0, count))
        return FrameTable(layout, count, located, 0, 500, frame_bits=bits, stride_bits=stride)
    counts = [1] * count
    if layout is Layout.FRAGMENTS:
        counts = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    total = sum(counts)
    lengths = draw(st.lists(st.integers(2, 90), min_size=total, max_size=total))
    trimmed = b""
    if count and draw(st.booleans()):
        trimmed = draw(st.binary(min_size=(count + 7) // 8, max_size=(count + 7) // 8))
    return make_fragments(counts, lengths, size, layout, trimmed)


@given(tables())
@settings(max_examples=200, deadline=None)
def test_the_rows_of_a_table_are_the_ranges_of_its_frames(table):
    """Every layout, entry size, padding and stride; in one piece and in pieces of 8 frames."""
    expected = rows_by_hand(table)
    with pytest.MonkeyPatch.context() as patch:
        for most in (1 << 16, 8):
            patch.setattr(frame_rows, "_MOST_FRAMES", most)
            assert [row for rows in walk_rows(table) for row in list_rows(rows)] == expected


def test_a_table_of_a_billion_frames_is_listed_piece_by_piece():
    """The first rows come without those after them."""
    table = FrameTable(Layout.NATIVE, 10**9, 10**9, 0, 1000, frame_bits=3)
    first, second = next(pairwise(walk_rows(table)))
    assert len(first.frame) == len(second.frame) == 1 << 16
    assert list_rows(second)[1] == (65537, 0, 1000 + 3 * 65537 // 8, 1, 3 * 65537 % 8)


@pytest.mark.parametrize(
    "entries", [(0, 100, 50, 200), (0, 7, 100, 200)], ids=["backwards", "shorter than a header"]
)
def test_entries_that_are_no_ranges_are_damage(entries):
    """Not rows of other bytes."""
    table = FrameTable(Layout.FRAGMENT_A_FRAME, 3, 3, 3, 1000, entries=struct.pack("<4I", *entries))
    with pytest.raises(IndexFormatError, match="entries of frame index"):
        list(walk_rows(table))


@pytest.mark.parametrize("firsts", [(0, 2, 1), (0, 9, 3), (2, 2, 3)])
def test_numbers_of_fragments_that_are_none_are_damage(firsts):
    """First fragments that go back, beyond the last, or leave a frame without any."""
    items = struct.pack("<4I", 0, 20, 40, 60)
    table = FrameTable(Layout.FRAGMENTS, 2, 2, 3, 1000, entries=struct.pack("<3I", *firsts) + items)
    with pytest.raises(IndexFormatError, match="entries of frame index"):
        list(walk_rows(table))


def test_the_fixed_part_has_the_fields_of_the_format():
    """numpy reads what struct packs: every byte another value."""
    packed = bytes(range(1, HEADER.size + 1))
    assert HEADER_DTYPE.itemsize == HEADER.size
    read = np.frombuffer(packed, HEADER_DTYPE)[0]
    assert tuple(read.item()) == tuple(Header._make(HEADER.unpack(packed)))


IMAGE = ImagePixel(4, 5, 1, 16, 12, 11, 0, None, "MONOCHROME2", pixel_vr="OW")
NATIVE = FrameTable(Layout.NATIVE, 1, 1, 0, 1000, frame_bits=320)


def make_record(number: int, **changes: object) -> InstanceRecord:
    record = InstanceRecord(
        Status.INDEXED,
        path=b"folder/%d.dcm" % number,
        fingerprint=Fingerprint(5000 + number, 7, number),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sop_instance_uid=f"1.2.{number}",
        series_instance_uid=f"1.3.{number // 10}",
        number_of_frames=1,
        image_pixel=IMAGE,
        frames=NATIVE,
    )
    return record._replace(**changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(create_store(str(tmp_path / ".mmindex"), os.fsencode(tmp_path))) as opened:
        yield opened


def collect(columns: list[RecordColumns]) -> dict[tuple[str, str], tuple[object, list[_Row]]]:
    """Return what the columns say of each file, by path and UID."""
    found: dict[tuple[str, str], tuple[object, list[_Row]]] = {}
    for each in columns:
        rows: list[list[_Row]] = [[] for _ in each.path]
        for table, row in zip(each.rows.table.tolist(), list_rows(each.rows), strict=True):
            rows[table].append(row)
        for at, record in each.others:
            assert not rows[at]
            assert record.frames is not None
            rows[at] = [row for part in walk_rows(record.frames) for row in list_rows(part)]
        for at, path in enumerate(each.path):
            header = Header._make(each.header[at].item())
            meaning = (
                *(header.version, header.number_of_frames, header.rows, header.pixel_vr),
                *(each.transfer_syntax_uid[at], each.series_instance_uid[at]),
                each.photometric_interpretation[at],
            )
            found[path, each.sop_instance_uid[at]] = meaning, rows[at]
    return found


def test_columns_are_the_records(store):
    """Of every layout and status, members, names that are no UTF-8, texts with zero bytes."""
    many = make_fragments([1] * 300, [10] * 300, 4, Layout.FRAGMENT_A_FRAME)
    long = make_fragments([1] * 20000, [10] * 20000, 4, Layout.FRAGMENT_A_FRAME)
    several = make_fragments([3, 1], [10, 12, 14, 16], 8, Layout.FRAGMENTS)
    padded = make_fragments([1, 1], [10, 12], 4, Layout.FRAGMENT_A_FRAME, b"\2")
    owned = make_fragments([2, 1], [10, 12, 14], 4, Layout.FRAGMENTS, b"\1")
    frames = [NATIVE, many, long, several, padded, owned]
    records = [make_record(at, frames=frames[at % 6]) for at in range(60)]
    remote = Fingerprint(9000, -3, 0xABC, VersionKind.REMOTE)
    member = Member(b"in/it.dcm", 600, 2000, 0, 0, 0)
    records += [
        make_record(60, path=b"\xff\xfe\n/a.dcm", fingerprint=remote),
        make_record(61, sop_instance_uid="1\x002", path=b"a..b/c.dcm"),
        make_record(62, path=b"study.zip", member=member),
        make_record(63, status=Status.STREAM),
        make_record(64, status=Status.NO_PIXEL_DATA, frames=None, number_of_frames=0),
        make_record(65, status=Status.NOT_DICOM, frames=None, number_of_frames=0),
        make_record(66, frames=None, number_of_frames=0),
    ]
    store.replace(map(pack_record, records))
    found = collect(list(walk_columns(store)))
    expected = {}
    for record in records[:64]:
        assert record.frames is not None
        meaning = (
            *(record.fingerprint, record.number_of_frames, 4, b"OW"),
            *(record.transfer_syntax_uid, record.series_instance_uid, "MONOCHROME2"),
        )
        rows = rows_by_hand(record.frames) if record.status is Status.INDEXED else []
        expected[os.fsdecode(record.path), record.sop_instance_uid] = meaning, rows
    assert found == expected


@pytest.mark.parametrize("path", [b"/etc/passwd", b"a/../../b", b"..", b"a\0b"])
def test_a_path_that_leads_out_of_the_archive_is_damage(store, path):
    """As where the whole record is read."""
    store.replace([pack_record(make_record(1)), pack_record(make_record(2, path=path))])
    with pytest.raises(IndexFormatError, match="leads out of the archive"):
        list(walk_columns(store))


def damage(packed: bytes, at: int, value: bytes) -> bytes:
    return packed[:at] + value + packed[at + len(value) :]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (2, b"\x09"),  # no layout
        (4, b"\xff\xff\xff\x7f"),  # entries beyond the record
        (33, b"\xff" * 8),  # Number of Frames
        (41, b"\xff" * 8),  # frames in the table
        (49, b"\x09"),  # more frames located than there are
        (57, b"\xff" * 8),  # fragments
        (65, b"\xff" * 8),  # value offset
        (73, b"\xff" * 8),  # bits a frame
        (81, b"\xff" * 8),  # bits from frame to frame
        (117, b"\xff\xff"),  # a path beyond the record
    ],
)
def test_a_record_that_contradicts_itself_is_damage(store, at, value):
    """One among others, named with the index."""
    table = make_fragments([1], [10], 4, Layout.FRAGMENT_A_FRAME)
    records = [make_record(0), make_record(1, frames=table), make_record(2)]
    packed = [pack_record(record) for record in records]
    assert collect_written(store, packed) == 3
    keys = pack_record(records[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mmindex.index.record_columns.unseal",
            lambda key, sealed: (
                damage(keys, at, value) if bytes(sealed[:-4]) == keys else sealed[:-4]
            ),
        )
        with pytest.raises(IndexFormatError, match="rebuild"):
            collect(list(walk_columns(store)))


def collect_written(store: Store, packed: list[bytes]) -> int:
    store.replace(packed)
    return len(collect(list(walk_columns(store))))


def test_a_record_without_its_fixed_part_is_damage(store):
    """A value of a few bytes."""
    store.replace([pack_record(make_record(1))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmindex.index.record_columns.unseal", lambda key, sealed: b"\1\1\1\4")
        with pytest.raises(IndexFormatError, match="no fixed part"):
            list(walk_columns(store))


def test_a_changed_byte_is_damage(store, tmp_path):
    """By its checksum, whatever it is."""
    store.replace([pack_record(make_record(1))])
    store.close()
    index = tmp_path / ".mmindex"
    data = index.read_bytes()
    at = data.index(b"folder/1.dcm")
    index.write_bytes(damage(data, at - 10, b"\x55"))
    with closing(Store(str(index))) as reopened, pytest.raises(IndexFormatError, match="checksum"):
        list(walk_columns(reopened))
