"""Archive.frame of a file that is not open: read by one range, without its whole record."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import (
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    extended_offset_table,
    identified,
    image_attributes,
    written,
)

import mmindex
from mmindex.errors import (
    FrameIndexError,
    IndexFormatError,
    MissingFileError,
    MMIndexError,
    StaleIndexError,
    TruncatedFrameError,
)
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.frame_location import FrameLocation, find_location
from mmindex.index.record import pack_record
from mmindex.index.record_split import split_record
from mmindex.model import Fingerprint, InstanceRecord, Status, VersionKind
from mmindex.sources.file import read_range

UID = "1.2.3"
FRAMES = [b"aaaa", b"bbbb", b"cccc"]


def four_byte_frames(frames: list[bytes]) -> bytes:
    """Return a file of native frames of four bytes with the UID."""
    data_set = image_attributes(number_of_frames=len(frames))
    return identified(data_set + element(PIXEL_DATA, "OW", b"".join(frames)), UID)


def test_a_file_is_kept_open_from_its_second_read_on(
    tmp_path: Path, opened: list[InstanceRecord]
) -> None:
    """The first read of a file leaves no descriptor and unpacks no record."""
    written(tmp_path, four_byte_frames(FRAMES))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.frame(UID, 1) == b"bbbb"
        assert not opened
        assert [archive.frame(UID, at) for at in (1, 0, 2)] == [b"bbbb", b"aaaa", b"cccc"]
        assert len(opened) == 1


ENCAPSULATED: dict[str, tuple[bytes, list[bytes]]] = {
    "a fragment a frame": (encapsulate([b"one!", b"two."]), [b"one!", b"two."]),
    "fragments of a frame": (
        encapsulate([b"one!", b"two.", b"end?"], bot=[0, 24]),
        [b"one!two.", b"end?"],
    ),
    "an odd frame": (
        extended_offset_table([0, 12], [3, 4]) + encapsulate([b"odd\0", b"even"]),
        [b"odd", b"even"],
    ),
}


@pytest.mark.parametrize("name", ENCAPSULATED)
def test_an_encapsulated_frame_is_the_same_at_the_first_read_and_at_later_ones(
    tmp_path: Path, name: str
) -> None:
    """One range, several, and one without its padding byte."""
    value, frames = ENCAPSULATED[name]
    data_set = element(0x00080018, "UI", UID) + image_attributes(number_of_frames=2)
    written(tmp_path, dicom_file(data_set + value, "1.2.840.10008.1.2.4.80"))
    mmindex.build(tmp_path, workers=1)
    for index, frame in enumerate(frames):
        with mmindex.open(tmp_path) as archive:
            assert archive.frame(UID, index) == frame
            assert archive.frame(UID, index) == frame


def replace(path: Path) -> None:
    status = path.stat()
    path.rename(path.with_suffix(".old"))
    path.write_bytes(path.with_suffix(".old").read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def shorten(path: Path) -> None:
    status = path.stat()
    os.truncate(path, status.st_size - 2)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[str, tuple[Callable[[Path], object], type[MMIndexError]]] = {
    "replaced": (replace, StaleIndexError),
    "touched": (touch, StaleIndexError),
    "cut": (shorten, StaleIndexError),
    "a pipe": (make_fifo, StaleIndexError),
    "removed": (Path.unlink, MissingFileError),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_changed_gives_no_frame_at_its_first_read(tmp_path: Path, name: str) -> None:
    """The file is looked at after the read, whose bytes are thus those of the indexed file."""
    change, error = CHANGES[name]
    path = written(tmp_path, four_byte_frames(FRAMES))
    mmindex.build(tmp_path, workers=1)
    change(path)
    with mmindex.open(tmp_path) as archive, pytest.raises(error) as raised:
        archive.frame(UID, 0)
    assert raised.value.path == str(path)


def test_a_change_between_open_and_read_gives_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that overwrites the file in place is noticed by the look after the read."""
    path = written(tmp_path, four_byte_frames(FRAMES))
    mmindex.build(tmp_path, workers=1)
    real_pread = os.pread

    def overwrite_and_read(number: int, length: int, offset: int) -> bytes:
        path.write_bytes(four_byte_frames([b"XXXX"] * 3))
        os.utime(path, ns=(1, 1))
        return real_pread(number, length, offset)

    with mmindex.open(tmp_path) as archive:
        monkeypatch.setattr(os, "pread", overwrite_and_read)
        with pytest.raises(StaleIndexError):
            archive.frame(UID, 0)


@pytest.mark.parametrize("frame_index", [-1, 3, 2**70])
def test_a_frame_that_is_not_there_is_an_index_error_at_the_first_read(
    tmp_path: Path, frame_index: int
) -> None:
    """The whole record says what is wrong."""
    written(tmp_path, four_byte_frames(FRAMES))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, pytest.raises(FrameIndexError):
        archive.frame(UID, frame_index)


def test_of_two_files_with_one_uid_the_newer_one_is_read_at_once(tmp_path: Path) -> None:
    """As by later reads."""
    for name, frame, time in (("a.dcm", b"new!", 2), ("b.dcm", b"old!", 1)):
        os.utime(written(tmp_path, four_byte_frames([frame]), name), (time, time))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.frame(UID, 0) == archive.frame(UID, 0) == b"new!"


def test_a_lost_frame_raises_at_the_first_read(tmp_path: Path) -> None:
    """A file that ends before its last frame."""
    data = four_byte_frames(FRAMES)
    written(tmp_path, data[:-4])
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        with pytest.raises(TruncatedFrameError):
            archive.frame(UID, 2)
        assert archive.frame(UID, 1) == b"bbbb"


VERSION = Fingerprint(1 << 20, 5, 7)
NATIVE = FrameTable(Layout.NATIVE, 3, 3, 0, 1000, 32)
SCANNED = InstanceRecord(
    Status.INDEXED, sop_instance_uid=UID, number_of_frames=3, frames=NATIVE, path=b"a/b.dcm"
)


def locate(frames: FrameTable, frame_index: int, version: Fingerprint = VERSION) -> object:
    """Return what a packed record with this table says of a frame."""
    record = SCANNED._replace(frames=frames)
    return find_location(pack_record(record, fingerprint=version), UID.encode(), frame_index)


def test_a_location_is_that_of_the_frame_table() -> None:
    """Native frames on bytes, and items with narrow and wide entries."""
    assert locate(NATIVE, 2) == FrameLocation(b"a/b.dcm", VERSION, 1008, 4)
    for size, code in ((4, "<u4"), (8, "<u8")):
        entries = np.array([0, 18, 46, 60], code).tobytes()
        table = FrameTable(Layout.FRAGMENT_A_FRAME, 3, 3, 3, 500, entry_size=size, entries=entries)
        for at, expected in enumerate([(508, 10), (526, 20), (554, 6)]):
            found = locate(table, at)
            assert isinstance(found, FrameLocation)
            assert found[2:] == expected == table.contiguous_range(at)


@pytest.mark.parametrize(
    "table",
    [
        FrameTable(Layout.NATIVE, 3, 3, 0, 1000, 12),  # frames that begin within a byte
        FrameTable(Layout.NATIVE, 3, 1, 0, 1000, 32),  # lost
        FrameTable(Layout.NATIVE, 3, 3, 0, 1 << 21, 32),  # beyond the file
        FrameTable(Layout.TRUSTED, 3, 3, 0, 1000, entries=bytes(16)),
        FrameTable(Layout.FRAGMENTS, 3, 3, 3, 1000, entries=bytes(32)),
        FrameTable(Layout.FRAGMENT_A_FRAME, 3, 3, 3, 1000, entries=bytes(16)),  # no ranges
        FrameTable(Layout.FRAGMENT_A_FRAME, 3, 3, 3, 1000, trimmed=True, entries=bytes(17)),
    ],
)
def test_what_takes_more_than_a_range_is_left_to_the_whole_record(table: FrameTable) -> None:
    """No guess is made from the fixed part alone."""
    assert locate(table, 1) is None


def test_entries_that_are_kept_apart_are_left_to_the_whole_record() -> None:
    """A record without its entries says of no frame where it is."""
    entries = b"".join(at.to_bytes(4, "little") for at in (0, 18, 46, 60))
    table = FrameTable(Layout.FRAGMENT_A_FRAME, 3, 3, 3, 500, entries=entries)
    record = SCANNED._replace(frames=table)
    head, _ = split_record(pack_record(record, fingerprint=VERSION))
    assert find_location(head, UID.encode(), 1) is None


def test_a_record_of_another_uid_is_a_damaged_index() -> None:
    """A UID that leads to another instance's record gives no frame of it."""
    packed = pack_record(SCANNED, fingerprint=VERSION)
    with pytest.raises(IndexFormatError, match="expected SOP Instance UID"):
        find_location(packed, b"1.2.4", 0)


@pytest.mark.parametrize("path", [b"../a", b"/a", b"a/../../b"])
def test_a_path_that_leads_out_of_the_archive_is_a_damaged_index(path: bytes) -> None:
    """The light way holds paths within the root, as the whole record does."""
    packed = pack_record(SCANNED, path, VERSION)
    with pytest.raises(IndexFormatError, match="leads out"):
        find_location(packed, UID.encode(), 0)


@pytest.mark.parametrize("length", range(0, 200, 3))
def test_a_record_that_is_cut_gives_no_place(length: int) -> None:
    """Every read of the packed bytes is within them."""
    packed = pack_record(SCANNED, fingerprint=VERSION)[:length]
    try:
        found = find_location(packed, UID.encode(), 0)
    except IndexFormatError:
        return
    assert found == FrameLocation(b"a/b.dcm", VERSION, 1000, 4)


def test_an_index_without_inodes_serves_a_file_of_another_inode(tmp_path: Path) -> None:
    """Size and time are then what is compared."""
    path = written(tmp_path, four_byte_frames(FRAMES))
    version = Fingerprint.of(path.stat())
    offset = path.stat().st_size - 12
    wanted = version.without_inode()
    assert wanted.kind == VersionKind.LOCAL_WITHOUT_INODE
    replace(path)
    assert read_range(os.fsencode(path), wanted, offset, 4) == b"aaaa"
    assert read_range(os.fsencode(path), version, offset, 4) is None
    touch(path)
    assert read_range(os.fsencode(path), wanted, offset, 4) is None
