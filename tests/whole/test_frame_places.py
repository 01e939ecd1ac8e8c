"""The five ways to a frame's bytes lead to the same ones: of files whole and damaged.

`Instance.frame` and `byte_ranges`, a `Place`, the location that an index has of a frame, the rows
that an export writes, and the frames of a batch.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest
from dicom_bytes import element
from frame_model import FEW, MANY, make_case
from native_model import make_native_case

import mmindex
from mmindex.errors import MMIndexError, NotContiguousError
from mmindex.export.rows import walk_files
from mmindex.index.store import Store
from mmindex.read.place import find_place

CASES = [
    *(make_case(seed, FEW).data for seed in range(250)),
    *(make_case(seed, MANY).data for seed in range(50)),
    *(make_native_case(seed).data for seed in range(200)),
]
MOST = 300  # frames of a file that are looked at

Pieces = dict[tuple[str, int], list[tuple[int, int, int]]]


def identify(data: bytes, uid: str) -> bytes:
    """Return a file with a SOP Instance UID before its first element."""
    end = 144 + struct.unpack_from("<I", data, 140)[0]  # of File Meta Information
    return data[:end] + element(0x00080018, "UI", uid) + data[end:]


@pytest.fixture(scope="module", params=[True, False], ids=["proved", "not-proved"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of all cases in Explicit VR Little Endian."""
    folder = tmp_path_factory.mktemp("cases")
    for number, data in enumerate(CASES):
        path = folder / f"{number:04d}.dcm"
        path.write_bytes(identify(data, f"1.2.{number}"))
    mmindex.build(folder, workers=1, prove=request.param)
    return folder


def read_rows(archive: mmindex.Archive) -> Pieces:
    """Return where the rows of an export say that each frame is: offset, length, first bit."""
    pieces: Pieces = defaultdict(list)
    for files, stretches in walk_files(archive):
        for rows in stretches:
            columns = (rows.table, rows.frame, rows.fragment, rows.offset, rows.length)
            listed = zip(*(column.tolist() for column in columns), rows.first_bit, strict=True)
            for table, frame, fragment, offset, length, first_bit in listed:
                found = pieces[files.location[table], frame]
                assert len(found) == fragment
                found.append((offset, length, int(first_bit)))
    return pieces


def test_all_ways_to_a_frame_lead_to_the_same_bytes(root: Path) -> None:
    """Whatever one of them reads, the others read, or say that there is more than one range."""
    checked = located = 0
    expected: dict[tuple[str, int], list[tuple[int, int]]] = {}
    damaged: set[str] = set()  # files with a frame that raises only when it is read
    with mmindex.open(root) as archive, closing(Store(archive.path)) as store:
        for record in archive.instances():
            path = str(record.path.decode())
            data = (root / path).read_bytes()
            with archive.file(path) as instance:
                for index in range(min(len(instance), MOST)):
                    table, uid = instance.record.frames, record.sop_instance_uid
                    assert table is not None
                    location = store.locate_frame(uid, index)
                    try:
                        frame = instance.frame(index)
                    except MMIndexError as error:
                        assert location is None
                        damaged.add(path)
                        with pytest.raises(type(error)):
                            find_place(record, table, index).read(instance.source)
                        with pytest.raises(type(error)):
                            archive.frame(uid, index)
                        continue
                    checked += 1
                    assert find_place(record, table, index).read(instance.source) == frame
                    assert instance.frames([index]) == [frame]
                    assert archive.frame(uid, index) == frame
                    ranges = instance.byte_ranges(index)
                    whole = b"".join(data[start : start + length] for start, length in ranges)
                    if table.frame_bits % 8 == 0 and table.stride_bits % 8 == 0:
                        assert whole == frame
                        assert b"".join(instance.fragments(index)) == frame
                    if location is not None:
                        located += 1
                        offset, length = location.offset, location.length
                        assert data[offset : offset + length] == frame
                    expected[path, index] = [tuple(piece) for piece in ranges]
                    try:
                        assert instance.view(index) == frame
                    except NotContiguousError:
                        assert len(ranges) > 1 or table.stride_bits % 8 or table.frame_bits % 8
    assert checked > 1500
    assert located > checked // 4
    assert 0 < len(damaged) < len(CASES) // 3
    for path in damaged:
        (root / path).unlink()
    mmindex.build(root, workers=1, max_removed="100%")
    with mmindex.open(root) as archive:
        rows = read_rows(archive)
    for (path, index), ranges in expected.items():
        if path not in damaged:
            assert [piece[:2] for piece in rows[path, index]] == ranges
