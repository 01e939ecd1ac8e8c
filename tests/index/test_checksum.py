"""An index whose bytes changed on the disk: what was not written is never served."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from new_store import create_store

import mmindex
from mmindex.errors import IndexFormatError
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.checksum import DamageError, seal, unseal
from mmindex.index.record import pack_record
from mmindex.model import Fingerprint, InstanceRecord, Status

LONG_FRAMES = 20_000  # whose entries are kept apart, in several chunks


def make_record(number: int, frames: int = 3) -> InstanceRecord:
    entries = struct.pack(f"<{frames + 1}I", *range(0, 20 * frames + 1, 20))
    return InstanceRecord(
        Status.INDEXED,
        path=b"%d.dcm" % number,
        fingerprint=Fingerprint(1, 2, 3),
        sop_instance_uid=f"1.2.840.{number}",
        study_instance_uid=f"1.2.841.{number}",
        series_instance_uid="1.2.842",
        number_of_frames=frames,
        frames=FrameTable(Layout.FRAGMENT_A_FRAME, frames, frames, frames, 500, entries=entries),
    )


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of three short records and a long one, with the file ids 1 to 4."""
    path = tmp_path / "index"
    store = create_store(str(path), b"/archive")
    frames = (3, 3, 3, LONG_FRAMES)
    store.replace([pack_record(make_record(number, count)) for number, count in enumerate(frames)])
    store.close()
    return path


def change(index: Path, database: str, key: bytes, value: bytes | None) -> None:
    """Put a pair into a database, or delete it, as a program would that knows nothing of it."""
    with lmdb.open(str(index), subdir=False, max_dbs=16) as env, env.begin(write=True) as txn:
        opened = env.open_db(database.encode(), txn=txn, create=False)
        if value is None:
            assert txn.delete(key, db=opened)
        else:
            txn.put(key, value, db=opened)


def stored(index: Path, database: str, key: bytes) -> bytes:
    with lmdb.open(str(index), subdir=False, max_dbs=16) as env, env.begin() as txn:
        value: bytes = txn.get(key, db=env.open_db(database.encode(), txn=txn, create=False))
        return value


def file_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def chunk_key(number: int, chunk: int) -> bytes:
    return file_id(number) + chunk.to_bytes(4, "big")


def test_a_checksum_is_the_crc_32_of_key_and_value() -> None:
    """Four bytes at the end, little-endian, so that other programs can check them, too."""
    assert seal(b"12345", b"6789") == b"6789" + bytes.fromhex("2639f4cb")  # of "123456789"
    assert unseal(b"12345", b"6789" + bytes.fromhex("2639f4cb")) == b"6789"
    assert unseal(b"", seal(b"", b"")) == b""


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_value_shorter_than_a_checksum_is_damage(length: int) -> None:
    """Even where the key ends with the rest of its own checksum."""
    own = struct.pack("<I", zlib.crc32(b"key"))
    with pytest.raises(DamageError, match="the checksum of 0 bytes is wrong"):
        unseal(b"key" + own[: 4 - length], own[4 - length :])


@pytest.mark.parametrize(
    "sealed", [b"", b"\0", b"abc", b"6789\x26\x39\xf4\xca", b"6788\x26\x39\xf4\xcb"]
)
def test_what_has_another_checksum_is_damaged(sealed: bytes) -> None:
    """Also where it is too short to have any."""
    with pytest.raises(DamageError, match=r"checksum of \d bytes is wrong"):
        unseal(b"12345", sealed)


def test_what_is_stored_ends_with_its_checksum(index: Path) -> None:
    """Records by their file id, chunks of entries by file id and number."""
    for database, key, length in (
        ("files", file_id(1), len(pack_record(make_record(0)))),
        ("entries", chunk_key(4, 0), 16_360),
        ("entries", chunk_key(4, 4), 4 * (LONG_FRAMES + 1) - 4 * 16_360),
    ):
        value = stored(index, database, key)
        assert len(value) == length + 4
        assert value[-4:] == zlib.crc32(key + value[:-4]).to_bytes(4, "little")


def test_no_bit_of_a_record_can_flip_unnoticed(index: Path) -> None:
    """Each byte of a record in the file: by UID, by path and in a listing it is damaged."""
    data = bytearray(index.read_bytes())
    packed = pack_record(make_record(1))
    start = bytes(data).index(packed)
    for at in range(start, start + len(packed) + 4):
        data[at] ^= 1 << at % 8
        index.write_bytes(data)
        data[at] ^= 1 << at % 8
        with mmindex.open(index) as archive:
            for read in (
                lambda archive: archive["1.2.840.1"],
                lambda archive: archive.frame("1.2.840.1", 0),
                lambda archive: archive.file("1.dcm"),
                lambda archive: list(archive.records()),
                lambda archive: archive.check_index(),
            ):
                with pytest.raises(IndexFormatError, match=r"damaged index: the checksum of \d+"):
                    read(archive)
            assert [record.path for record in archive.instances(study_instance_uid="1.2.841.0")]


def test_no_bit_of_long_entries_can_flip_unnoticed(index: Path) -> None:
    """A chunk is looked at when a frame in it is read, and all chunks when the index is checked."""
    data = bytearray(index.read_bytes())
    entry = data.index(struct.pack("<3I", 20 * 9000, 20 * 9001, 20 * 9002))
    for bit in (0, 3, 7):
        data[entry] ^= 1 << bit
        index.write_bytes(data)
        data[entry] ^= 1 << bit
        with mmindex.open(index) as archive:
            (record,) = archive.instances(study_instance_uid="1.2.841.3")
            assert record.frames is not None
            assert record.frames.contiguous_range(0) == (508, 12)
            with pytest.raises(IndexFormatError, match="checksum of 16360 bytes is wrong"):
                record.frames.contiguous_range(9000)
            with pytest.raises(IndexFormatError, match="checksum of 16360 bytes is wrong"):
                archive.check_index()


def test_a_record_in_the_place_of_another_is_damaged(index: Path) -> None:
    """As where a page was overwritten with another: the checksum is also that of the key."""
    change(index, "files", file_id(1), stored(index, "files", file_id(2)))
    change(index, "entries", chunk_key(4, 1), stored(index, "entries", chunk_key(4, 0)))
    with mmindex.open(index) as archive:
        with pytest.raises(IndexFormatError, match="checksum"):
            archive.frame("1.2.840.0", 0)
        (record,) = archive.instances(study_instance_uid="1.2.841.3")
        assert record.frames is not None
        with pytest.raises(IndexFormatError, match="checksum"):
            record.frames.contiguous_range(5000)


@pytest.mark.parametrize(
    ("database", "uid", "read"),
    [
        ("instances", "1.2.840.0", lambda archive: archive.frame("1.2.840.0", 0)),
        ("instances", "1.2.840.0", lambda archive: list(archive.duplicates())),
        (
            "studies",
            "1.2.841.0",
            lambda archive: list(archive.instances(study_instance_uid="1.2.841.0")),
        ),
        (
            "series",
            "1.2.84",
            lambda archive: list(archive.instances(series_instance_uid="1.2.84")),
        ),
    ],
    ids=["frame", "duplicates", "study", "series"],
)
def test_a_uid_that_leads_to_another_record_is_damaged(
    index: Path,
    database: str,
    uid: str,
    read: Callable[[mmindex.Archive], object],
) -> None:
    """A frame of one patient is never served under the UID of another."""
    change(index, database, uid.encode(), file_id(2))
    said = f"{uid}' leads to a record of '1.2.84"
    with mmindex.open(index) as archive, pytest.raises(IndexFormatError, match=said):
        read(archive)


def test_entries_that_are_missing_are_damage(index: Path) -> None:
    """Their record is still there, so that no build took them away."""
    change(index, "entries", chunk_key(4, 2), None)
    with mmindex.open(index) as archive:
        (record,) = archive.instances(study_instance_uid="1.2.841.3")
        assert record.frames is not None
        with pytest.raises(IndexFormatError, match="entries of file 4 are missing"):
            record.frames.contiguous_range(9000)
        with pytest.raises(IndexFormatError, match="entries of file 4 are missing"):
            archive.check_index()


def test_a_whole_index_passes_its_check(index: Path) -> None:
    """Nothing is raised where nothing is wrong."""
    with mmindex.open(index) as archive:
        archive.check_index()


@pytest.mark.parametrize(
    ("database", "key", "value"),
    [
        ("files", file_id(1), b"x" * 300),
        (
            "paths",
            hashlib.blake2b(b"0.dcm", digest_size=16).digest(),
            struct.pack("<QQqQ", 2, 1, 2, 3),
        ),
        ("meta", b"next", file_id(2)),
    ],
    ids=["record", "path", "next"],
)
def test_a_build_changes_nothing_where_the_index_is_damaged(
    index: Path, database: str, key: bytes, value: bytes
) -> None:
    """What it would replace is not what was put in: that is told, and no other record goes."""
    change(index, database, key, value)
    before = stored(index, "files", file_id(2))
    store = create_store(str(index), b"/archive")
    try:
        with pytest.raises(IndexFormatError, match="damaged index"):
            store.replace([pack_record(make_record(0))])
    finally:
        store.close()
    assert stored(index, "files", file_id(2)) == before
