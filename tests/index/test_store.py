"""The index file: keys, batches, stores that share it, what is damaged and what moved."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import lmdb
import pytest
from child_process import exit_code, forks
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes
from hypothesis import given, settings
from hypothesis import strategies as st
from new_store import create_store

import mmindex
from mmindex.errors import IndexFormatError, MissingFileError, StaleIndexError
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status, VersionKind

ROOM = 1 << 17  # bytes after the last page
KINDS = ("instances", "others", "studies", "series")
DIGEST_OF_A = hashlib.blake2b(b"a", digest_size=16).digest()
NATIVE = FrameTable(Layout.NATIVE, 1, 1, 0, 1000, frame_bits=800)


def make_record(path: bytes, sop: str = "", study: str = "", **fields: object) -> InstanceRecord:
    known = {
        "status": Status.INDEXED,
        "fingerprint": Fingerprint(1, 2, 3),
        "frames": NATIVE,
        "number_of_frames": 1,
    }
    return InstanceRecord(
        path=path, sop_instance_uid=sop, study_instance_uid=study, **{**known, **fields}
    )


def put(store: Store, *records: InstanceRecord, removed: Iterable[int] = ()) -> None:
    store.replace([pack_record(record) for record in records], removed)


def find_path(store: Store, path: bytes) -> int | None:
    (known,) = store.find_paths([path])
    return None if known is None else known[0]


def all_file_ids(store: Store) -> list[int]:
    return store.find_unseen(bytearray(store.next_file_id()))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "index")


@pytest.fixture
def store(path: str, tmp_path: Path) -> Iterator[Store]:
    store = create_store(path, os.fsencode(tmp_path))
    yield store
    store.close()


# Keys


@pytest.mark.parametrize(
    "name",
    [b"a", b"/".join([b"d" * 249] * 12), b"\xff\xfe/\x80", b"a b\n\t'\"", "wärd/患者".encode()],
    ids=["short", "3000-bytes", "not-utf-8", "blanks", "utf-8"],
)
def test_record_is_found_by_any_path(store: Store, name: bytes) -> None:
    """A path is no LMDB key, so that it may be of any length and of any bytes."""
    record = make_record(name, "1.2.3")
    put(store, record, make_record(name + b"x"))
    file_id = find_path(store, name)
    assert file_id is not None
    assert store.read_record(file_id) == record
    assert find_path(store, name[:-1] + b"y") is None


def test_unknown_path_uid_and_id_find_nothing(store: Store) -> None:
    """What is not there is no error."""
    put(store, make_record(b"a", "1.2.3"))
    assert find_path(store, b"b") is None
    assert store.find_paths([b"b", b""]) == [None, None]
    assert store.read_record(99) is None
    for kind in KINDS:
        assert store.find_uid(kind, "1.2") == store.find_uid(kind, "") == []
        assert store.find_uid(kind, "\u0660") == []
    put(store, make_record(b"?", "1.2.?"))
    assert store.find_uid("instances", "1.2.\u0100") == []


@pytest.mark.parametrize("uid", ["1.2.3", "1" * 64, "1" * 500, "\xfc" * 300])
def test_uid_leads_to_its_file(store: Store, uid: str) -> None:
    """UIDs of up to 500 bytes are looked up, though the standard ends at 64 (PS3.5 9.1)."""
    put(store, make_record(b"a", uid, uid, series_instance_uid=uid), make_record(b"b", "1"))
    file_id = find_path(store, b"a")
    for kind in ("instances", "studies", "series"):
        assert store.find_uid(kind, uid) == [file_id]


@pytest.mark.parametrize("uid", ["1" * 501, "1" * 511, "1" * 512, "1" * 5000, "\xfc" * 600])
def test_uid_longer_than_a_key_leaves_the_path(store: Store, uid: str) -> None:
    """A UID that LMDB cannot take as a key leads nowhere, and to no other file's record."""
    record = make_record(b"a", uid, uid, series_instance_uid=uid)
    put(store, record, make_record(b"b", uid[:500], uid[:500], series_instance_uid=uid[:500]))
    for kind in ("instances", "studies", "series"):
        assert store.find_uid(kind, uid) == []
        assert list(store.iterate_uids(kind)) == [uid[:500]]
    file_id = find_path(store, b"a")
    assert file_id is not None
    assert store.read_record(file_id) == record
    put(store, removed=[file_id])
    assert [left.path for left in store.iterate_records()] == [b"b"]


def test_same_uid_leads_to_all_its_files(store: Store) -> None:
    """Two files with one SOP Instance UID are both found, by path and by UID."""
    put(store, make_record(b"a", "1.2.3", "1.2"), make_record(b"b", "1.2.3", "1.2"))
    put(store, make_record(b"c", "1.2.3", status=Status.NO_PIXEL_DATA, frames=None))
    ids = [find_path(store, name) for name in (b"a", b"b", b"c")]
    assert store.find_uid("instances", "1.2.3") == ids[:2]
    assert store.find_uid("others", "1.2.3") == ids[2:]
    assert store.find_uid("studies", "1.2") == ids[:2]
    assert list(store.iterate_uids("instances")) == ["1.2.3"]
    assert store.count_uids("instances") == 1


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 512, 1000])
def test_every_record_and_uid_is_yielded_once(store: Store, count: int) -> None:
    """Iteration goes from batch to batch without a gap or a repetition, and ends."""
    records = [make_record(b"%d" % number, f"1.{number:04}") for number in range(count)]
    put(store, *records)
    assert list(islice(store.iterate_records(), count + 1)) == records
    uids = list(islice(store.iterate_uids("instances"), count + 1))
    assert uids == [f"1.{number:04}" for number in range(count)]


# Batches


def assert_in_step(store: Store, records: dict[bytes, InstanceRecord]) -> None:
    """Assert that the store holds these records and that every key leads to them, and only them."""
    found = {record.path: record for record in store.iterate_records()}
    assert found == records
    ids = {name: find_path(store, name) for name in records}
    assert sorted(ids.values()) == all_file_ids(store)
    assert store.find_paths(records) == [(ids[name], records[name].fingerprint) for name in records]
    for kind in KINDS:
        expected: dict[str, set[int]] = {}
        for name, record in records.items():
            has_frames = record.status in (Status.INDEXED, Status.DEFLATED)
            uid = {
                "instances": record.sop_instance_uid if has_frames else "",
                "others": "" if has_frames else record.sop_instance_uid,
                "studies": record.study_instance_uid,
                "series": record.series_instance_uid,
            }[kind]
            if uid:
                expected.setdefault(uid, set()).add(ids[name])
        assert list(store.iterate_uids(kind)) == sorted(expected)
        for uid, file_ids in expected.items():
            assert store.find_uid(kind, uid) == sorted(file_ids)


UIDS = st.sampled_from(["", "1", "1.2", "1.2.3"])
BATCH_RECORDS = st.builds(
    make_record,
    st.sampled_from([b"a", b"b", b"c/d", b"c/\xff"]),
    UIDS,
    UIDS,
    series_instance_uid=UIDS,
    status=st.sampled_from(Status),
    fingerprint=st.builds(Fingerprint, *[st.integers(0, 3)] * 3, st.sampled_from(VersionKind)),
)
BATCHES = st.lists(
    st.tuples(
        st.lists(BATCH_RECORDS, max_size=4, unique_by=lambda record: record.path),
        st.sets(st.integers(1, 12), max_size=3),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(BATCHES)
def test_replacing_and_removing_keep_every_key_in_step(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[tuple[list[InstanceRecord], set[int]]],
) -> None:
    """After any batches, paths and UIDs lead to the records that are there and to nothing else."""
    folder = tmp_path_factory.mktemp("step")
    store = create_store(str(folder / "index"), os.fsencode(folder))
    expected: dict[bytes, InstanceRecord] = {}
    used: set[int] = set()
    for records, removed in batches:
        first_new = store.next_file_id()
        expected = {
            name: record
            for name, record in expected.items()
            if find_path(store, name) not in removed
        }
        put(store, *records, removed=removed)
        expected.update((record.path, record) for record in records)
        new = {find_path(store, record.path) for record in records}
        assert new == set(range(first_new, first_new + len(records)))
        assert new.isdisjoint(used)
        used |= new
        assert_in_step(store, expected)
    store.close()
    store = Store(str(folder / "index"))
    assert_in_step(store, expected)
    store.close()


def test_file_ids_are_never_used_twice(store: Store, path: str, tmp_path: Path) -> None:
    """Not after removal, replacement or reopening: what a reader holds is right, or gone."""
    put(store, make_record(b"a"), make_record(b"b"))
    first = all_file_ids(store)
    put(store, make_record(b"a"), removed=first)
    second = all_file_ids(store)
    store.close()
    again = create_store(path, os.fsencode(tmp_path))
    put(again, removed=second)
    assert all_file_ids(again) == []
    put(again, make_record(b"a"))
    assert len({*first, *second, *all_file_ids(again)}) == 4
    again.close()


def test_failed_batch_changes_nothing(store: Store) -> None:
    """A batch is written whole or not at all."""
    put(store, make_record(b"a", "1.2"))

    def interrupted() -> Iterator[bytes]:
        yield pack_record(make_record(b"b", "1.3"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.replace(interrupted(), all_file_ids(store))
    assert_in_step(store, {b"a": make_record(b"a", "1.2")})


@pytest.mark.parametrize("seed", range(4))
def test_index_opens_after_many_files_were_removed(path: str, tmp_path: Path, seed: int) -> None:
    """Pages that a removal leaves behind at the end of the file are no damage."""
    chance = random.Random(seed)
    store = create_store(path, os.fsencode(tmp_path))
    for _ in range(6):
        names = {b"%d" % chance.randrange(5000) for _ in range(chance.choice([50, 2000]))}
        records = [make_record(name, f"1.{chance.random()}") for name in names]
        ids = all_file_ids(store)
        put(store, *records, removed=chance.sample(ids, len(ids) * 9 // 10))
        put(store, removed=all_file_ids(store)[: chance.randrange(2000)])
        count = len(all_file_ids(store))
        store.close()
        store = create_store(path, os.fsencode(tmp_path))
        assert len(list(store.iterate_records())) == count
    store.close()


# Several stores, several processes


def test_two_stores_of_one_file_share_it(store: Store, path: str) -> None:
    """A process may open an index twice; to close one leaves the other at work."""
    put(store, make_record(b"a", "1.2"))
    reader, other = Store(path), Store(os.path.join(os.path.dirname(path), ".", "index"))
    put(store, make_record(b"b", "1.3"))
    assert list(reader.iterate_uids("instances")) == ["1.2", "1.3"]
    reader.close()
    reader.close()
    assert list(other.iterate_uids("instances")) == ["1.2", "1.3"]
    with pytest.raises(ValueError, match="closed"):
        find_path(reader, b"a")
    put(store, make_record(b"c"))
    store.close()
    assert find_path(other, b"c") is not None
    other.close()


def test_store_is_written_after_its_reader_opened_it_first(
    store: Store, path: str, tmp_path: Path
) -> None:
    """A build in the process of a reader shares the reader's environment."""
    store.close()
    reader = Store(path)
    writer = create_store(path, os.fsencode(tmp_path))
    put(writer, make_record(b"a", "1.2"))
    assert list(reader.iterate_uids("instances")) == ["1.2"]
    writer.close()
    reader.close()


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forks
def test_store_is_read_in_a_forked_child_and_afterwards_in_its_parent(store: Store) -> None:
    """A child opens an environment of its own; closing it takes nothing from the parent."""
    records = {b"%d" % number: make_record(b"%d" % number) for number in range(300)}
    put(store, *records.values())
    iterator = store.iterate_records()
    next(iterator)

    def read_and_close() -> bool:
        found = {record.path: record for record in store.iterate_records()}
        grandchild = exit_code(lambda: find_path(store, b"7") is not None)
        store.close()
        return found == records and grandchild == 0

    for _ in range(3):
        assert exit_code(read_and_close) == 0
        assert find_path(store, b"7") is not None
    assert len(list(iterator)) == 299
    put(store, make_record(b"new"))
    assert find_path(store, b"new") is not None


@forks
def test_what_a_child_writes_its_parent_reads(store: Store) -> None:
    """Two processes may write in turn."""

    def write() -> bool:
        put(store, make_record(b"child"))
        return True

    put(store, make_record(b"parent"))
    assert exit_code(write) == 0
    put(store, make_record(b"later"))
    assert {record.path for record in store.iterate_records()} == {b"parent", b"child", b"later"}


@forks
@pytest.mark.parametrize("with_lock_file", [False, True])
def test_index_is_read_from_a_read_only_folder(
    store: Store, path: str, tmp_path: Path, with_lock_file: bool
) -> None:
    """A copy on a read-only disk needs no lock file, and gets none."""
    put(store, make_record(b"a", "1.2"))
    store.close()
    folder = tmp_path / "disk"
    folder.mkdir()
    shutil.copyfile(path, folder / "index")
    if with_lock_file:
        shutil.copyfile(f"{path}-lock", folder / "index-lock")
    before = sorted(os.listdir(folder))
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    tmp_path.chmod(0o755)
    as_root = os.geteuid() == 0

    def read() -> bool:
        copy = str(folder / "index")
        if as_root:  # whom permissions do not bind
            try:
                os.chroot(tmp_path)
                os.setgid(65534)
                os.setuid(65534)
            except OSError:
                os._exit(77)
            copy = "/disk/index"
        reader = Store(copy)
        found = list(reader.iterate_records()) == [make_record(b"a", "1.2")]
        reader.close()
        return found

    code = exit_code(read)
    folder.chmod(0o755)
    if code == 77:
        pytest.skip("root cannot give up its rights here")
    assert code == 0
    assert sorted(os.listdir(folder)) == before


# What is no index


def write_index(path: str, tmp_path: Path) -> None:
    store = create_store(path, os.fsencode(tmp_path))
    put(store, *(make_record(b"%d" % number, f"1.{number}") for number in range(500)))
    store.close()
    os.remove(f"{path}-lock")


def assert_refused(path: str, tmp_path: Path, match: str) -> None:
    """Assert that neither reader nor build takes the file, and that it stays as it is."""
    before = Path(path).read_bytes()
    for write in (False, True):
        with pytest.raises(IndexFormatError, match=match) as caught:
            Store(path, write=write)
        assert caught.value.path == path
    with pytest.raises(IndexFormatError, match=match):
        mmindex.open(path)
    assert Path(path).read_bytes() == before


FOREIGN = {
    "empty": b"",
    "zeros": bytes(100),
    "pages-of-zeros": bytes(65536),
    "random": random.Random(7).randbytes(20_000),
    "text": b"patient,study\n" * 1000,
    "dicom": bytes(128) + b"DICM" + bytes(1000),
    "magic-only": bytes(16) + struct.pack("=I", 0xBEEFC0DE) + bytes(8172),
    "magic-and-junk": bytes(16) + struct.pack("=II", 0xBEEFC0DE, 1) + b"\xff" * 8168,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=list(FOREIGN))
def test_foreign_file_is_refused_and_left_alone(path: str, tmp_path: Path, content: bytes) -> None:
    """A file that somebody else made is no index, and a build does not overwrite it."""
    Path(path).write_bytes(content)
    assert_refused(path, tmp_path, "index")


@pytest.mark.parametrize("kept", [1, 16, 20, 100, 152, 4095, 4096, 5000, 8192, 12288, -4096, -1])
def test_truncated_index_is_refused_and_left_alone(path: str, tmp_path: Path, kept: int) -> None:
    """An index that was cut off anywhere is damaged; a negative number is cut from its pages."""
    write_index(path, tmp_path)
    pages = os.path.getsize(path) - ROOM
    os.truncate(path, kept if kept > 0 else pages + kept)
    assert_refused(path, tmp_path, "index")


@pytest.mark.parametrize("named", [False, True])
def test_lmdb_file_of_another_program_is_refused_and_left_alone(
    path: str, tmp_path: Path, named: bool
) -> None:
    """An LMDB file is an index only if it says so."""
    with lmdb.open(path, subdir=False, max_dbs=4) as env, env.begin(write=True) as txn:
        database = env.open_db(b"meta", txn=txn) if named else None
        txn.put(b"format", b"something else", db=database)
    assert_refused(path, tmp_path, "not an mmindex index")


@pytest.mark.parametrize(
    ("stored", "match"),
    [
        (b"mmindex" + struct.pack("<I", 5), "expected index format 4, found 5: update mmindex"),
        (b"mmindex" + struct.pack("<I", 3), "expected index format 4, found 3: .*rebuilds it"),
        (b"mmindex", "not an mmindex index"),
        (b"another" + struct.pack("<I", 1), "not an mmindex index"),
    ],
)
def test_index_of_another_format_is_refused_with_what_to_do(
    path: str, tmp_path: Path, stored: bytes, match: str
) -> None:
    """The format is looked at before anything else is read."""
    write_index(path, tmp_path)
    with lmdb.open(path, subdir=False, max_dbs=16) as env, env.begin(write=True) as txn:
        txn.put(b"format", stored, db=env.open_db(b"meta", txn=txn))
    assert_refused(path, tmp_path, match)


def test_missing_index_and_missing_folder_are_told(path: str, tmp_path: Path) -> None:
    """A reader makes no index."""
    with pytest.raises(MissingFileError, match="mmindex build"):
        Store(path)
    with pytest.raises(MissingFileError, match="mmindex build"):
        mmindex.open(tmp_path)
    assert os.listdir(tmp_path) == []


def test_damaged_record_names_the_index(store: Store, path: str) -> None:
    """A record that is no record is refused when it is read, not when the index is opened."""
    packed = pack_record(make_record(b"a"))
    store.replace([packed[:1] + b"\x99" + packed[2:]])
    (file_id,) = all_file_ids(store)
    with pytest.raises(IndexFormatError, match="damaged record") as caught:
        store.read_record(file_id)
    assert caught.value.path == path
    with pytest.raises(IndexFormatError, match="damaged record"):
        list(store.iterate_records())


@pytest.mark.parametrize(
    ("database", "key", "value", "read"),
    [
        ("files", b"short", b"", lambda store: store.check()),
        ("paths", b"short", b"", lambda store: list(store.iterate_records())),
        ("files", bytes(7) + b"\x01", b"", lambda store: store.read_record(1)),
        ("paths", DIGEST_OF_A, b"short", lambda store: find_path(store, b"a")),
        ("paths", DIGEST_OF_A, b"short", lambda store: store.find_paths([b"a"])),
        ("files", b"short", b"", lambda store: store.find_unseen(bytearray(10))),
        ("meta", b"next", b"short", lambda store: store.next_file_id()),
    ],
    ids=["file-id", "path-key", "record", "path", "paths", "unseen", "next"],
)
def test_damaged_database_is_told(
    path: str,
    tmp_path: Path,
    database: str,
    key: bytes,
    value: bytes,
    read: Callable[[Store], object],
) -> None:
    """Keys and values of a wrong length end in an error of mmindex, not of struct."""
    write_index(path, tmp_path)
    with lmdb.open(path, subdir=False, max_dbs=16) as env, env.begin(write=True) as txn:
        txn.put(key, value, db=env.open_db(database.encode(), txn=txn))
    store = Store(path)
    try:
        with pytest.raises(IndexFormatError, match="damaged"):
            read(store)
    finally:
        store.close()


# Entries that stay in the index


def long_record(name: bytes = b"long") -> InstanceRecord:
    count = 300_000
    starts = struct.pack(f"<{count + 1}I", *range(0, 20 * count + 1, 20))
    frames = FrameTable(Layout.FRAGMENT_A_FRAME, count, count, count, 1000, entries=starts)
    return make_record(name, "1.2", frames=frames, number_of_frames=count)


def test_long_entries_are_read_in_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300,000 frames, the record holds no entry; frame N reads a chunk, unless it was read."""
    put(store, long_record())
    (file_id,) = all_file_ids(store)
    record = store.read_record(file_id)
    assert record is not None
    assert record.frames is not None
    assert not isinstance(record.frames.entries, bytes)
    asked = []
    read_entries = store.read_entries

    def note(file_id: int, start: int, stop: int, identity: bytes) -> bytes:
        asked.append(stop - start)
        return read_entries(file_id, start, stop, identity)

    monkeypatch.setattr(store, "read_entries", note)
    for frame_index in (0, 150_000, 299_999, 1, 150_001):
        assert record.frames.contiguous_range(frame_index) == (1008 + 20 * frame_index, 12)
    assert asked == [16_360, 16_360, 300_001 * 4 % 16_360]
    assert [type(record.frames.entries) for record in store.iterate_records()] != [bytes]


def test_long_entries_are_whole_across_the_bounds_of_their_chunks(store: Store) -> None:
    """Whatever is sliced is what was put in, within a chunk, across, at the end and beyond it."""
    put(store, long_record())
    record = store.read_record(all_file_ids(store)[0])
    whole = long_record().frames
    assert record is not None
    assert record.frames is not None
    assert whole is not None
    bounds = (0, 1, 16_359, 16_360, 16_361, 32_720, 1_200_000, 1_200_004, 2_000_000)
    for start in bounds:
        for stop in bounds:
            assert record.frames.entries[start:stop] == whole.entries[start:stop], (start, stop)


def test_long_entries_are_gone_with_their_record(store: Store) -> None:
    """Nothing of them stays in the index when the file is removed."""
    put(store, long_record())
    put(store, removed=all_file_ids(store))
    shared = store._environment()
    with shared.lock, shared.begin() as txn:
        assert txn.stat(shared.opened.databases["entries"])["entries"] == 0


def test_long_records_come_back_packed_whole(store: Store) -> None:
    """As a merge needs them."""
    put(store, long_record())
    assert list(store.iterate_packed()) == [pack_record(long_record())]


def test_long_entries_pickle_as_bytes(store: Store) -> None:
    """A record that is sent to another process does not need the index there."""
    put(store, long_record())
    record = store.read_record(all_file_ids(store)[0])
    assert pickle.loads(pickle.dumps(record)) == long_record()


@pytest.mark.parametrize("replaced", [True, False])
def test_long_entries_are_stale_once_their_record_is_gone(store: Store, replaced: bool) -> None:
    """Entries of another record are never read in place of those that were there."""
    put(store, long_record())
    (file_id,) = all_file_ids(store)
    record = store.read_record(file_id)
    assert record is not None
    assert record.frames is not None
    put(store, *[long_record()] * replaced, removed=[] if replaced else [file_id])
    with pytest.raises(StaleIndexError, match="rebuilt"):
        record.frames.contiguous_range(0)


# Where the archive is


def write_archive(root: Path, index: Path | None = None) -> None:
    (root / "ward").mkdir(parents=True)
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes()
    data_set += element(PIXEL_DATA, "OW", b"abcd")
    (root / "ward" / "a.dcm").write_bytes(dicom_file(data_set))
    mmindex.build(root, index, workers=1)


@pytest.mark.parametrize("place", [".mmindex", "ward/index"])
def test_index_inside_the_archive_moves_with_it(tmp_path: Path, place: str) -> None:
    """The root is stored relative to an index that lies inside."""
    write_archive(tmp_path / "old", tmp_path / "old" / place)
    (tmp_path / "old").rename(tmp_path / "new")
    with mmindex.open(tmp_path / "new" / place) as archive:
        assert archive.root == str(tmp_path / "new")
        assert archive.frame("1.2.3", 0) == b"abcd"
    assert mmindex.build(tmp_path / "new", tmp_path / "new" / place).unchanged == 1


def test_index_elsewhere_moves_without_its_archive(tmp_path: Path) -> None:
    """The root is stored absolute in an index that lies outside."""
    write_archive(tmp_path / "archive", tmp_path / "index")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "index").rename(tmp_path / "elsewhere" / "index")
    with mmindex.open(tmp_path / "elsewhere" / "index") as archive:
        assert archive.root == str(tmp_path / "archive")
        assert archive.frame("1.2.3", 0) == b"abcd"


def test_archive_root_serves_an_archive_that_moved_away(tmp_path: Path) -> None:
    """Without it, the files are missed where they were."""
    write_archive(tmp_path / "old", tmp_path / "index")
    (tmp_path / "old").rename(tmp_path / "new")
    with (
        mmindex.open(tmp_path / "index") as archive,
        pytest.raises(MissingFileError, match="gone"),
    ):
        archive.frame("1.2.3", 0)
    with mmindex.open(tmp_path / "index", archive_root=tmp_path / "new") as archive:
        assert archive.root == str(tmp_path / "new")
        assert archive.frame("1.2.3", 0) == b"abcd"
        assert archive.file("ward/a.dcm")[0] == b"abcd"


@pytest.mark.parametrize("link", ["folder", "file"])
def test_root_is_found_through_a_link_to_the_index(tmp_path: Path, link: str) -> None:
    """A link that leads to the index, or to its folder, changes nothing about the root."""
    write_archive(tmp_path / "archive", tmp_path / "archive" / "ward" / "index")
    (tmp_path / "links").mkdir()
    target = tmp_path / "archive" / "ward"
    (tmp_path / "links" / "link").symlink_to(target if link == "folder" else target / "index")
    via = tmp_path / "links" / "link"
    with mmindex.open(via / "index" if link == "folder" else via) as archive:
        assert archive.frame("1.2.3", 0) == b"abcd"


@pytest.mark.parametrize("url", [b"s3://bucket/a b/c", b"gs://bucket", b"memory://x"])
def test_root_that_is_a_url_stays_what_it_is(tmp_path: Path, url: bytes) -> None:
    """Neither the index's folder nor the working directory has a part in the URL of a bucket."""
    path = str(tmp_path / "index")
    with closing(create_store(path, url)) as store:
        assert store.root == url
    with closing(Store(path)) as store:
        assert store.root == store.stored_root == url
