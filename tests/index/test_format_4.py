"""What format 4 has besides records: versions, members, counters, attributes, positions, notes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from dicom_bytes import dicom_file, element, image_attributes
from new_store import create_store

import mmindex
from mmindex.errors import IndexFormatError, StaleIndexError
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.attributes import KeptValues
from mmindex.index.build_notes import BuildNote
from mmindex.index.problem_notes import AcceptedProblem, Looked, SkippedPath
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Member, Status, VersionKind, locate

NATIVE = FrameTable(Layout.NATIVE, 3, 3, 0, 1000, frame_bits=800)


def make_record(path: bytes, sop: str, status: Status = Status.INDEXED) -> InstanceRecord:
    return InstanceRecord(
        status,
        path=path,
        fingerprint=Fingerprint(100, 2, 3),
        sop_instance_uid=sop,
        study_instance_uid="1.1",
        series_instance_uid="1.2",
        number_of_frames=3,
        frames=NATIVE,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = create_store(str(tmp_path / "index"), os.fsencode(tmp_path))
    yield store
    store.check()
    store.close()


def put(store: Store, *records: InstanceRecord) -> None:
    store.replace([pack_record(record) for record in records])


def find_id(store: Store, path: bytes) -> int:
    (known,) = store.find_paths([path])
    assert known is not None
    return known[0]


def write_file(path: Path, uid: str) -> None:
    data_set = element(0x00080018, "UI", uid) + image_attributes(number_of_frames=1)
    path.write_bytes(dicom_file(data_set + element(0x7FE00010, "OB", bytes(16))))


def drop_what_is_new(index: Path, version: int) -> None:
    """Make of an index one of format 3 or 2, which has neither new databases nor counters."""
    with lmdb.open(str(index), subdir=False, max_dbs=16) as env:
        databases = {
            name: env.open_db(name.encode(), create=False)
            for name in ("meta", "attributes", "positions", "problems")
        }
        with env.begin(write=True) as txn:
            for name in ("attributes", "positions", "problems"):
                txn.drop(databases[name], delete=True)
            meta = databases["meta"]
            txn.put(b"format", b"mmindex" + version.to_bytes(4, "little"), db=meta)
            for key in (b"counters", b"built"):
                txn.delete(key, db=meta)
            for key in (b"root", b"next") if version < 3 else ():
                txn.put(key, txn.get(key, db=meta)[:-4], db=meta)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_index_of_an_older_format_gets_all_that_is_new(tmp_path: Path, version: int) -> None:
    """A reader refuses it; the next build scans all files anew, and the index is whole."""
    write_file(tmp_path / "a.dcm", "1.2.3")
    mmindex.build(tmp_path, workers=1)
    drop_what_is_new(tmp_path / ".mmindex", version)
    with pytest.raises(IndexFormatError, match=f"expected index format 4, found {version}"):
        mmindex.open(tmp_path)
    report = mmindex.build(tmp_path, workers=1)
    assert (report.scanned, report.unchanged) == (1, 0)
    with mmindex.open(tmp_path) as archive:
        archive.check_index()
        assert list(archive) == ["1.2.3"]
        assert archive.root == str(tmp_path)


@pytest.mark.parametrize(
    "version",
    [
        Fingerprint(1, 2, 3),
        Fingerprint(2**64 - 1, -(2**63), 2**64 - 1),
        Fingerprint(1, 2, 3).without_inode(),
        Fingerprint(1, 2, 3, VersionKind.REMOTE),
    ],
)
def test_every_kind_of_version_is_kept(store: Store, version: Fingerprint) -> None:
    """By the record, and by what the path leads to."""
    put(store, make_record(b"a", "1.2")._replace(fingerprint=version))
    (known,) = store.find_paths([b"a"])
    assert known is not None
    assert known[1] == version
    record = store.read_path(b"a")
    assert record is not None
    assert record.fingerprint == version


@pytest.mark.parametrize("seconds", [13_600_000_000, -13_600_000_000])
def test_a_file_time_beyond_2262_or_before_1677_is_compared(tmp_path: Path, seconds: int) -> None:
    """A build indexes the file, the next one knows it, and a second later it has changed."""
    write_file(tmp_path / "a.dcm", "1.2.3")
    os.utime(tmp_path / "a.dcm", (seconds, seconds))
    if os.stat(tmp_path / "a.dcm").st_mtime != seconds:
        pytest.skip("the file system has no such times")
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert len(archive.frame("1.2.3", 0)) > 0
    assert mmindex.build(tmp_path, workers=1).unchanged == 1
    os.utime(tmp_path / "a.dcm", (seconds, seconds + 1))
    assert mmindex.build(tmp_path, workers=1).scanned == 1


class FarStatus:
    """The status of a file that was changed in the year 2500, as some file systems have it."""

    st_size, st_ino = 5, 7
    st_mtime_ns = 16_725_225_600 * 10**9


def test_a_time_that_64_bits_do_not_hold_comes_round() -> None:
    """Another time gives another fingerprint, and both can be packed."""
    first = Fingerprint.of(FarStatus())  # type: ignore[arg-type]
    FarStatus.st_mtime_ns += 1
    second = Fingerprint.of(FarStatus())  # type: ignore[arg-type]
    assert first != second
    assert first.mtime_ns == 16_725_225_600 * 10**9 - 2**64
    assert len(pack_record(make_record(b"a", "1")._replace(fingerprint=second))) > 0


def test_members_of_one_container_are_files_of_their_own(store: Store) -> None:
    """They share the container's path; each is found by path and name, and replaced alone."""
    members = [Member(b"x", 100, 50, 50), Member(b"y", 200, 60, 30, 8, 7)]
    records = [
        make_record(b"a.zip", f"1.{number}")._replace(member=member)
        for number, member in enumerate(members)
    ]
    put(store, *records, make_record(b"a.zip", "1.9"))
    assert [record.member for record in store.iterate_records()] == [*members, None]
    found = store.read_path(locate(b"a.zip", b"y"))
    assert found is not None
    assert found == records[1]
    put(store, records[0]._replace(sop_instance_uid="1.8"))
    assert {record.sop_instance_uid for record in store.iterate_records()} == {"1.8", "1.1", "1.9"}


def test_counters_are_those_of_the_records(store: Store) -> None:
    """Whatever is put in, replaced and dropped: files by status, instances, frames, bytes."""
    put(store, make_record(b"a", "1"), make_record(b"b", "1"), make_record(b"c", "2"))
    put(store, make_record(b"d", "", Status.NOT_DICOM), make_record(b"e", "3", Status.STREAM))
    counters = store.read_counters()
    assert (counters.files, counters.instances, counters.frames) == (5, 2, 9)
    assert counters.file_bytes == 500
    assert counters.statuses[Status.STREAM] == 1
    put(store, make_record(b"a", "2"))
    assert store.read_counters().instances == 2
    store.replace([], removed=[find_id(store, b"b")])
    counters = store.read_counters()
    assert (counters.files, counters.instances, counters.frames) == (4, 1, 6)
    put(store, make_record(b"c", "2", Status.UNREADABLE))
    store.replace([], removed=[find_id(store, b"a")])
    assert (store.read_counters().instances, store.read_counters().frames) == (0, 0)
    assert (store.count_files(), store.count_duplicates("studies")) == (3, 1)


def test_wrong_counters_are_found_by_check(tmp_path: Path) -> None:
    """A build that was interrupted in another way than between commits would leave them."""
    store = create_store(str(tmp_path / "index"), os.fsencode(tmp_path))
    put(store, make_record(b"a", "1"))
    from mmindex.index.checksum import seal
    from mmindex.index.counters import Counters

    packed = Counters(instances=5).pack()
    store._write(lambda txn: txn.put("meta", b"counters", seal(b"counters", packed)))
    with pytest.raises(IndexFormatError, match="expected Counters"):
        store.check()
    store.close()


def test_attributes_are_kept_while_their_study_has_files(store: Store) -> None:
    """The last one wins; of a UID without files none are kept."""
    put(store, make_record(b"a", "1"))
    first, nobodys, long, of_series = (
        KeptValues(2, b"a", values)
        for values in (b"first", b"nobody's", b"x" * 5000, b"of the series")
    )
    store.write_attributes("studies", {"1.1": first, "9.9": nobodys})
    store.write_attributes("studies", {"1.1": long})
    store.write_attributes("series", {"1.2": of_series})
    assert store.read_attributes("studies", "1.1") == long
    assert store.read_attributes("series", "1.2") == of_series
    for kind in ("studies", "series"):
        assert store.read_attributes(kind, "9.9") is None
    put(store, make_record(b"a", "2"), make_record(b"b", "3"))
    assert store.read_attributes("series", "1.2") is None  # its last file was replaced


@pytest.mark.parametrize("entries", [0, 40_000])
@pytest.mark.parametrize("length", [1, 16_360, 16_361, 100_000])
def test_positions_of_tiles_are_kept_with_their_file(
    store: Store, length: int, entries: int
) -> None:
    """They are sliced like entries, beside short and long ones, and go with the record."""
    positions = bytes(number * 7 % 251 for number in range(length))
    record = make_record(b"a", "1")._replace(positions=positions)
    if entries:
        packed = b"".join(number.to_bytes(4, "little") for number in range(0, 9 * entries, 9))
        table = FrameTable(
            Layout.FRAGMENT_A_FRAME, entries - 1, entries - 1, entries - 1, 900, entries=packed
        )
        record = record._replace(frames=table)
    put(store, record._replace(positions=b"older"))
    put(store, record, make_record(b"b", "2"))
    store.check()
    file_id = find_id(store, b"a")
    assert store.read_positions(file_id, length // 2, length) == positions[length // 2 :]
    with pytest.raises(IndexFormatError, match=f"positions of file {file_id} are missing"):
        store.read_positions(file_id, 0, length + 1)
    found = store.read_record(file_id)
    assert found == record
    assert found.positions is not None
    assert not isinstance(found.positions, bytes)
    assert len(found.positions) == length
    assert sorted(store.iterate_packed()) == sorted(
        map(pack_record, (record, make_record(b"b", "2")))
    )
    put(store, make_record(b"a", "1"))
    store.check()
    with pytest.raises(StaleIndexError):
        store.read_positions(file_id, 0, 1)


def test_the_last_build_is_noted(store: Store) -> None:
    """When it ended, how long it took, what it could not look at."""
    assert store.read_build() is None
    skipped = [SkippedPath(b"x/\xff", "cannot read"), SkippedPath(b"a" * 5000, "gone")]
    root = Looked((), (b"",))
    store.write_build(BuildNote(1_700_000_000_000_000_000, 1500, True), root, skipped)
    assert store.read_build() == BuildNote(1_700_000_000_000_000_000, 1500, True)
    assert sorted(store.iterate_problem_notes()) == sorted(skipped)
    again = [SkippedPath(b"a" * 5000, "another reason")]
    store.write_build(BuildNote(-1, 0), root, again)
    assert store.read_build() == BuildNote(-1, 0)
    assert list(store.iterate_problem_notes()) == again
    store.check()


def test_skipped_paths_stay_until_they_are_looked_at_again(store: Store) -> None:
    """A path alone, what is below a folder, and nothing of a folder that could not be read."""
    names = (b"a", b"a/b", b"ab", b"f/x", b"f/g/y", b"f/h/z", b"f/h")
    notes = [SkippedPath(name, "gone") for name in names]
    store.write_build(None, Looked((), (b"",)), notes)

    def left() -> set[bytes]:
        return {note.path for note in store.iterate_problem_notes()}

    assert store.read_build() is None
    store.write_build(None, Looked({b"a"}), [])
    assert left() == {*names} - {b"a"}
    hidden = [SkippedPath(b"f/h", "cannot read the folder")]
    store.write_build(None, Looked({b"nowhere"}, (b"f",), (b"f/h",)), hidden)
    assert left() == {b"a/b", b"ab", b"f/h/z", b"f/h"}
    assert store.find_skipped(b"f/h") == "cannot read the folder"
    store.write_build(None, Looked((), (b"",), (b"",)), [])
    assert left() == {b"a/b", b"ab", b"f/h/z", b"f/h"}
    store.write_build(None, Looked((), (b"",)), [])
    assert left() == set()


def test_accepted_problems_are_noted_by_path_kind_and_detail(store: Store) -> None:
    """Beside skipped paths, which change without them; accepting anew replaces them."""
    problems = [
        AcceptedProblem(b"a\xff", "stale", "of \udcff\ud800\0x"),
        AcceptedProblem(b"a\xff", "missing", ""),
        AcceptedProblem(b"b", "unreadable", "gone"),
    ]
    store.accept(problems)
    store.write_build(None, Looked((), (b"",)), [SkippedPath(b"b", "gone")])
    found = set(store.iterate_problem_notes())
    assert found == {*problems, SkippedPath(b"b", "gone")}
    assert all(map(store.is_accepted, problems))
    assert not store.is_accepted(AcceptedProblem(b"b", "unreadable", "another reason"))
    assert set(store.read_notes_of(b"a\xff")) == set(problems[:2])
    store.forget(problems[:1])
    assert not store.is_accepted(problems[0])
    assert store.is_accepted(problems[1])
    store.accept(problems[2:])
    assert set(store.iterate_problem_notes()) == {problems[2], SkippedPath(b"b", "gone")}
    store.check()


def test_a_build_leaves_its_note(tmp_path: Path) -> None:
    """With the files that it could not read, and those that it could not look at."""
    write_file(tmp_path / "a.dcm", "1.2.3")
    (tmp_path / "gone").symlink_to("nowhere")
    mmindex.build(tmp_path, workers=1)
    store = Store(str(tmp_path / ".mmindex"))
    note, problems = store.read_build(), list(store.iterate_problem_notes())
    store.close()
    assert note is not None
    assert note.ended_ns > 1_600_000_000 * 10**9
    assert [problem.path for problem in problems] == [b"gone"]
