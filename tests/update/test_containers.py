"""Containers in an archive: their files are files of the archive, whatever happens to them."""

from __future__ import annotations

import io
import os
import random
import signal
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import pytest
from child_process import exit_code, forks, little_memory
from container_bytes import WRITERS, encapsulated, native, write_deflated, write_tar, write_zip
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    image_attributes,
)

import mmindex
from mmindex.errors import (
    FormatError,
    IndexFormatError,
    IndexWriteError,
    MissingFileError,
    NotDicomError,
    StaleIndexError,
)
from mmindex.model import InstanceRecord
from mmindex.update import containers as containers_module
from mmindex.update.archive_root import FolderRoot
from mmindex.update.containers import Containers
from mmindex.update.scan_buffer import ScanOptions
from mmindex.update.scan_file import Target
from mmindex.update.scan_members import MemberTarget

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*fork.*:DeprecationWarning", "ignore:Duplicate name"
)

FILES = [
    ("a.dcm", native("1.1", [b"abcd", b"efgh"])),
    ("deep/b.dcm", encapsulated("1.2", [b"\xff\xd8one\xff\xd9", b"\xff\xd8two2\xff\xd9"])),
    ("notes.txt", b"no DICOM file " * 40),
    ("empty", b""),
    ("cut.dcm", native("1.3")[:-60]),
    ("inner.zip", write_zip([("a.dcm", native("1.4"))])),
    ("größe.dcm", native("1.5", [b"wxyz"])),
]
STATUSES = {"indexed": 3, "not-dicom": 3, "unreadable": 1}


def records_of(root: Path) -> dict[bytes, InstanceRecord]:
    with mmindex.open(root) as archive:
        archive.check_index()
        return {record.location: record for record in archive.records()}


def many(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    return [
        (f"{number:05}.dcm", native(f"2.{number}", [struct.pack("<I", number)]))
        for number in range(first, first + count)
    ]


def put(path: Path, data: bytes, seconds: int) -> None:
    path.write_bytes(data)
    os.utime(path, (seconds, seconds))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_file_of_a_container_has_a_record(tmp_path: Path, kind: str, workers: int) -> None:
    """Each with its status and reason; the container has one that says what it is."""
    (tmp_path / "s.any").write_bytes(WRITERS[kind](FILES))
    report = mmindex.build(tmp_path, workers=workers)
    records = records_of(tmp_path)
    assert set(records) == {b"s.any", *(b"s.any!/" + os.fsencode(name) for name, _ in FILES)}
    statuses = Counter(record.status.value for record in records.values())
    if kind == "deflated":
        statuses["indexed"] += statuses.pop("deflated")
    assert statuses == {**STATUSES, "container": 1}
    assert (report.found, report.scanned, report.unchanged) == (8, 8, 0)
    assert records[b"s.any"].reason.startswith("a container of 7 files")
    assert "in a container, which is not opened" in records[b"s.any!/inner.zip"].reason
    again = mmindex.build(tmp_path, workers=workers)
    assert (again.found, again.scanned, again.unchanged, again.removed) == (8, 0, 8, 0)
    assert records_of(tmp_path) == records


@pytest.mark.parametrize("kind", WRITERS)
def test_frames_of_members_are_those_of_the_extracted_file(tmp_path: Path, kind: str) -> None:
    """By UID and by path, as frames, views, arrays and lists of frames."""
    root, plain = tmp_path / "archive", tmp_path / "plain"
    root.mkdir()
    (root / "s").write_bytes(WRITERS[kind](FILES))
    with (tarfile.open if kind == "tar" else zipfile.ZipFile)(root / "s") as container:
        if isinstance(container, tarfile.TarFile):
            container.extractall(plain, filter="data")
        else:
            container.extractall(plain)
    mmindex.build(root, workers=1)
    mmindex.build(plain, workers=1, containers=False)
    with mmindex.open(root) as archive, mmindex.open(plain) as expected:
        assert list(archive) == list(expected) == ["1.1", "1.2", "1.5"]
        for uid in expected:
            frames = list(expected[uid])
            assert list(archive[uid]) == archive[uid].frames() == frames
            assert [archive.frame(uid, at) for at in range(len(frames))] == frames
            assert [bytes(archive[uid].view(at)) for at in range(len(frames))] == frames
            name = os.fsdecode(expected.record(uid).path)
            assert list(archive.file(f"s!/{name}")) == frames
            assert archive[uid].dataset() == expected[uid].dataset()


def test_a_changed_container_is_walked_again_and_an_unchanged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New files come, old ones go; the other container is not opened."""
    put(tmp_path / "a.zip", write_zip(many(5)), 1000)
    put(tmp_path / "b.tar", write_tar(many(5, 10)), 1000)
    mmindex.build(tmp_path, workers=1)
    put(tmp_path / "a.zip", write_zip(many(5, 3)), 2000)
    walked = []
    monkeypatch.setattr(
        containers_module,
        "walk_members",
        lambda source, walk=containers_module.walk_members, **options: (
            walked.append(1),
            walk(source, **options),
        )[1],
    )
    report = mmindex.build(tmp_path, workers=1)
    assert len(walked) == 1
    assert (report.scanned, report.removed, report.unchanged) == (6, 3, 6)
    with mmindex.open(tmp_path) as archive:
        archive.check_index()
        assert set(archive) == {f"2.{n}" for n in (3, 4, 5, 6, 7, 10, 11, 12, 13, 14)}
        assert archive.frame("2.7", 0) == struct.pack("<I", 7)


@pytest.mark.parametrize("then", ["gone", "text", "dicom", "damaged"])
@pytest.mark.parametrize("by", ["build", "update"])
def test_what_took_the_place_of_a_container(tmp_path: Path, then: str, by: str) -> None:
    """Its files go with it, and nothing is left."""
    put(tmp_path / "s", write_tar(many(5)), 1000)
    put(tmp_path / "other.dcm", native("1.1"), 1000)
    mmindex.build(tmp_path, workers=1)
    if then == "gone":
        (tmp_path / "s").unlink()
    else:
        damaged = bytearray(write_tar(many(5)))
        damaged[1024 * 2 + 20] ^= 1
        contents = {"text": b"x" * 2000, "dicom": native("1.9"), "damaged": bytes(damaged)}
        put(tmp_path / "s", contents[then], 2000)
    if by == "build":
        report = mmindex.build(tmp_path, workers=1)
    else:
        report = mmindex.update(tmp_path, [tmp_path / "s"])
    kept = {"gone": 0, "text": 1, "dicom": 1, "damaged": 3}[then]
    records = records_of(tmp_path)
    assert len(records) == 1 + kept
    assert report.removed == (3 if then == "damaged" else 6 if then == "gone" else 5)
    if then == "damaged":
        assert "damaged one: its checksum is wrong" in records[b"s"].reason
        assert records[b"s"].status.value == "unreadable"
    assert mmindex.build(tmp_path, workers=1).unchanged == 1 + kept
    assert len(records_of(tmp_path)) == 1 + kept


def test_without_containers_their_files_go_and_come_back(tmp_path: Path) -> None:
    """A build with the other option looks at the containers again, and at nothing else."""
    (tmp_path / "s.zip").write_bytes(write_zip(many(150)))
    (tmp_path / "a.dcm").write_bytes(native("1.1"))
    assert mmindex.build(tmp_path, workers=1, containers=False).scanned == 2
    assert records_of(tmp_path)[b"s.zip"].status.value == "container"
    assert mmindex.build(tmp_path, workers=1, containers=False).unchanged == 2
    opened = mmindex.build(tmp_path, workers=1)
    assert (opened.scanned, opened.unchanged) == (151, 1)
    assert mmindex.build(tmp_path, workers=1).unchanged == 152
    shut = mmindex.build(tmp_path, workers=1, containers=False)
    assert (shut.scanned, shut.unchanged, shut.removed) == (1, 1, 150)
    assert len(records_of(tmp_path)) == 2


@pytest.mark.parametrize("content", [write_zip([]), write_zip([("folder/", b"")])])
def test_an_empty_container_is_scanned_once(tmp_path: Path, content: bytes) -> None:
    """It is known by its version, as others are."""
    (tmp_path / "s.zip").write_bytes(content)
    assert mmindex.build(tmp_path, workers=1, containers=False).scanned == 1
    assert mmindex.build(tmp_path, workers=1).scanned == 1
    assert mmindex.build(tmp_path, workers=1).unchanged == 1
    assert records_of(tmp_path)[b"s.zip"].reason.startswith("a container of 0 files")


def test_a_container_that_goes_before_its_walk_is_not_there_and_one_that_changes_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build goes on, and the next one looks at it again."""
    put(tmp_path / "a.zip", write_zip(many(3)), 1000)
    put(tmp_path / "b.zip", write_zip(many(3, 10)), 1000)
    real = Containers.take

    def take(self: Containers, packed_records: list[bytes]) -> None:
        real(self, packed_records)
        (tmp_path / "a.zip").unlink(missing_ok=True)
        put(tmp_path / "b.zip", write_zip(many(4, 20)), 2000)

    monkeypatch.setattr(Containers, "take", take)
    mmindex.build(tmp_path, workers=1)
    monkeypatch.undo()
    records = records_of(tmp_path)
    assert list(records) == [b"b.zip"]
    assert records[b"b.zip"].reason.startswith("the file changed")
    report = mmindex.build(tmp_path, workers=1, max_removed="100%")
    assert (report.scanned, report.removed) == (5, 0)


def test_a_container_that_goes_before_its_files_are_scanned_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a build nor by an update; the files that were known of it are dropped."""
    put(tmp_path / "stays.zip", write_zip(many(2, 50)), 1000)
    put(tmp_path / "a.zip", write_zip(many(3)), 1000)
    mmindex.build(tmp_path, workers=1)
    real = FolderRoot.scan

    def scan(self: FolderRoot, targets: list[Target], options: ScanOptions) -> list[bytes]:
        if any(isinstance(target, MemberTarget) for target in targets):
            (tmp_path / "a.zip").unlink(missing_ok=True)
        return real(self, targets, options)

    monkeypatch.setattr(FolderRoot, "scan", scan)
    for number, work in enumerate(
        (
            lambda: mmindex.build(tmp_path, workers=1),
            lambda: mmindex.update(tmp_path, [tmp_path / "a.zip"]),
        )
    ):
        put(tmp_path / "a.zip", write_zip(many(4, 20)), 2000 + number)
        report = work()
        assert (report.problems, report.removed) == ([], 0 if number else 4)
        assert b"a.zip" not in records_of(tmp_path)


def test_full_and_force_look_into_unchanged_containers(tmp_path: Path) -> None:
    """`full` scans all files anew; `force` those that were taken for something else."""
    bare = native("1.6")[132:]
    bare = bare[bare.index(b"\x08\0\x18\0UI") :]
    (tmp_path / "s.zip").write_bytes(write_deflated([*many(3), ("bare", bare)]))
    mmindex.build(tmp_path, workers=1)
    forced = mmindex.build(tmp_path, workers=1, force=True)
    assert (forced.scanned, forced.unchanged) == (2, 3)
    assert forced.statuses == {"deflated": 1, "container": 1}
    assert mmindex.build(tmp_path, workers=1, full=True).scanned == 5
    with mmindex.open(tmp_path) as archive:
        archive.check_index()


def test_the_loss_of_many_members_is_guarded(tmp_path: Path) -> None:
    """A container that is gone takes its files with it: they count as gone files do."""
    (tmp_path / "s.zip").write_bytes(write_zip(many(150)))
    (tmp_path / "a.dcm").write_bytes(native("1.1"))
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "s.zip").rename(tmp_path.parent / "moved.zip")
    with pytest.raises(IndexWriteError, match="over half of the files are gone, found 151 of 152"):
        mmindex.build(tmp_path, workers=1)
    with pytest.raises(IndexWriteError, match="over half"):
        mmindex.update(tmp_path, [tmp_path / "s.zip"])
    assert len(records_of(tmp_path)) == 152
    assert mmindex.build(tmp_path, workers=1, max_removed="100%").removed == 151


def test_a_rewritten_container_is_not_guarded(tmp_path: Path) -> None:
    """Its file is there: no disk was lost."""
    put(tmp_path / "s.zip", write_zip(many(150)), 1000)
    mmindex.build(tmp_path, workers=1)
    put(tmp_path / "s.zip", write_zip(many(150, 500)), 2000)
    assert mmindex.build(tmp_path, workers=1).removed == 150


def test_files_in_a_folder_that_cannot_be_read_stay(tmp_path: Path) -> None:
    """Members of containers in it, too."""
    if not os.geteuid():
        pytest.skip("root reads every folder")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "s.zip").write_bytes(write_zip(many(3)))
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "f").chmod(0)
    try:
        assert mmindex.build(tmp_path, workers=1).removed == 0
    finally:
        (tmp_path / "f").chmod(0o755)
    assert len(records_of(tmp_path)) == 4


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_of_members_with_one_name_the_last_counts(tmp_path: Path, kind: str, workers: int) -> None:
    """As tarfile and zipfile read them, however many lie between them and whoever scans first."""
    files = [*many(600), ("00007.dcm", native("3.7", [b"last"])), *many(600, 1000)]
    files = [("00007.dcm", native("3.8", [b"frst"])), *files]
    (tmp_path / "s").write_bytes(WRITERS[kind](files))
    mmindex.build(tmp_path, workers=workers)
    if kind == "tar":
        with tarfile.open(tmp_path / "s") as tar:
            file = tar.extractfile("00007.dcm")
            assert file is not None
            expected = file.read()
    else:
        with zipfile.ZipFile(tmp_path / "s") as container:
            expected = container.read("00007.dcm")
    with mmindex.open(tmp_path) as archive:
        archive.check_index()
        assert len(archive) == 1200
        assert archive.file("s!/00007.dcm").frame(0) == expected[-4:] == b"last"
        assert "2.7" not in archive
    assert mmindex.build(tmp_path, workers=workers).scanned == 0


def test_a_file_whose_name_looks_like_that_of_a_member(tmp_path: Path) -> None:
    """`a!/b.dcm` in a folder `a!` is a file of its own, beside `b.dcm` in the container `a`."""
    (tmp_path / "a!").mkdir()
    (tmp_path / "a!" / "b.dcm").write_bytes(native("1.1", [b"real"]))
    (tmp_path / "a").write_bytes(write_zip([("b.dcm", native("1.2", [b"memb"]))]))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        archive.check_index()
        assert archive.file("a!/b.dcm").frame(0) == b"real"
        assert (archive.frame("1.1", 0), archive.frame("1.2", 0)) == (b"real", b"memb")
        keys = {record.key for record in archive.records()}
        assert [archive.file(key).frame(0) for key in sorted(keys)[1:]] == [b"memb", b"real"]
        pairs = {
            (uid, frame)
            for frame, uid, _ in mmindex.FrameDataset(
                archive, decoded=False, with_ids=True, duplicates="all"
            )
        }
        assert pairs == {("1.1", b"real"), ("1.2", b"memb")}
    assert mmindex.update(tmp_path, [tmp_path / "a!" / "b.dcm"]).unchanged == 1


def test_a_container_in_a_folder_whose_name_has_the_separator(tmp_path: Path) -> None:
    """Every place where the path can be divided is tried."""
    (tmp_path / "x!").mkdir()
    (tmp_path / "x!" / "s.zip").write_bytes(write_zip([("y!/b.dcm", native("1.2"))]))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.file("x!/s.zip!/y!/b.dcm").frame(0) == b"abcd"
        assert archive.has_file("x!/s.zip!/y!/b.dcm")
        assert not archive.has_file("x!/s.zip!/b.dcm")
    report = mmindex.update(tmp_path, [tmp_path / "x!" / "s.zip!" / "y!" / "b.dcm"])
    assert report.unchanged == 1


def raw_tar(name: bytes, data: bytes = b"") -> bytes:
    """Return a tar member whose name is not looked at."""
    info = tarfile.TarInfo("x" * len(name))
    info.size = len(data)
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[: len(name)] = name
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


HOSTILE = {
    b"../up.dcm": "leads out",
    b"/absolute.dcm": "leads out",
    b"a/../../b.dcm": "leads out",
    b"": "has no name",
    b".": "has no name",
    b"\xff\xfe.dcm": "",
    b"-rf.dcm": "",
    b"two\nlines.dcm": "",
}


def test_hostile_names_are_accounted_for(tmp_path: Path) -> None:
    """Those that lead out have their reason; bytes that are no text are a name like others."""
    data = b"".join(raw_tar(name, native(f"1.{at}")) for at, name in enumerate(HOSTILE))
    (tmp_path / "s.tar").write_bytes(data + bytes(1024))
    mmindex.build(tmp_path, workers=1)
    records = records_of(tmp_path)
    assert len(records) == 8  # those without a name are one, which has none
    for name, reason in HOSTILE.items():
        record = records[b"s.tar!/" + (name or b".")]
        assert (reason in record.reason) is bool(reason) or not reason
        assert record.status.value == ("unreadable" if reason else "indexed")
    with mmindex.open(tmp_path) as archive:
        assert archive.file(b"s.tar!/\xff\xfe.dcm").frame(0) == b"abcd"
        assert archive.file(os.fsdecode(b"s.tar!/\xff\xfe.dcm")).frame(0) == b"abcd"
        problems = [problem for problem in archive.problems() if problem.kind == "unreadable"]
        assert len(problems) == 4


def test_names_with_a_zero_byte_or_of_great_length(tmp_path: Path) -> None:
    """Neither ends the build; each has its reason."""
    data = bytearray(write_zip([("xNULx.dcm", native("1.1")), ("y" * 60_000, native("1.2"))]))
    data = bytearray(bytes(data).replace(b"xNULx", b"x\0\0Lx"))
    (tmp_path / "s.zip").write_bytes(data)
    long_name = write_tar([("z" * 60_000, native("1.3")), ("ok.dcm", native("1.4"))])
    (tmp_path / "s.tar").write_bytes(long_name)
    report = mmindex.build(tmp_path, workers=1)
    records = records_of(tmp_path)
    assert records[b"s.zip!/x\0\0Lx.dcm"].reason.endswith("no name that a file may have")
    assert "has 60000 bytes, over 4096" in records[b"s.zip!/" + b"y" * 4096].reason
    assert "has 60000 bytes, over 4096" in records[b"s.tar!/" + b"z" * 4096].reason
    assert report.statuses == {"unreadable": 3, "indexed": 1, "container": 2}
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.4", 0) == b"abcd"


def test_members_that_cannot_be_read_have_their_reasons(tmp_path: Path) -> None:
    """Encrypted, of another method, overlapping, with lengths or methods beyond the format."""
    files = many(6)
    data = bytearray(write_zip(files))
    entries = [at for at in range(len(data)) if data[at : at + 4] == b"PK\1\2"]
    struct.pack_into("<H", data, entries[0] + 8, 1)  # encrypted
    struct.pack_into("<H", data, entries[1] + 10, 0xFFFE)  # a method of no program
    (offset,) = struct.unpack_from("<I", data, entries[3] + 42)
    struct.pack_into("<I", data, entries[2] + 42, offset)  # where another member is
    struct.pack_into("<I", data, entries[4] + 24, 7)  # another length
    (tmp_path / "s.zip").write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    reasons = {name: record.reason for name, record in records_of(tmp_path).items()}
    assert "is encrypted" in reasons[b"s.zip!/00000.dcm"]
    assert "method 65534" in reasons[b"s.zip!/00001.dcm"]
    assert "disagree" in reasons[b"s.zip!/00002.dcm"]
    assert "overlaps" in reasons[b"s.zip!/00003.dcm"]
    assert "disagree" in reasons[b"s.zip!/00004.dcm"]
    assert reasons[b"s.zip!/00005.dcm"] == ""
    with mmindex.open(tmp_path) as archive:
        assert list(archive) == ["2.5"]


@pytest.mark.parametrize("length", [b"\x80" + b"\xff" * 11, b"77777777777\0"])
def test_a_tar_member_longer_than_64_bits_or_than_the_container(
    tmp_path: Path, length: bytes
) -> None:
    """Its length is cut to what a record holds, and its reason says what is wrong."""
    header = bytearray(raw_tar(b"long.dcm"))
    header[124:136] = length
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "s.tar").write_bytes(raw_tar(b"ok.dcm", native("1.1")) + header + bytes(1024))
    mmindex.build(tmp_path, workers=1)
    records = records_of(tmp_path)
    assert "runs past the end" in records[b"s.tar!/long.dcm"].reason
    assert records[b"s.tar!/ok.dcm"].status.value == "indexed"


def test_a_bomb_costs_little_memory(tmp_path: Path) -> None:
    """What is no DICOM file is not inflated; what lies about its length is refused first."""
    (tmp_path / "s.zip").write_bytes(write_deflated([("zeros", bytes(64 << 20))]))
    lie = bytearray(write_deflated([("lie.dcm", native("1.1"))]))
    for at, place in ((lie.index(b"PK\3\4"), 22), (lie.index(b"PK\1\2"), 24)):
        struct.pack_into("<I", lie, at + place, 1 << 30)
    (tmp_path / "lie.zip").write_bytes(lie)
    with little_memory():
        mmindex.build(tmp_path, workers=1)
    records = records_of(tmp_path)
    assert records[b"s.zip!/zeros"].status.value == "not-dicom"
    assert "cannot be the 1073741824" in records[b"lie.zip!/lie.dcm"].reason


@pytest.mark.long
def test_a_large_container_costs_little_memory(tmp_path: Path) -> None:
    """Its files stream: what is held is a batch of records, and eight bytes a file."""
    (tmp_path / "s.tar").write_bytes(write_tar(many(6000)))
    tracemalloc.start()
    try:
        mmindex.build(tmp_path, workers=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20
    assert mmindex.build(tmp_path, workers=1).unchanged == 6001


def test_a_zip_of_over_4_gib(tmp_path: Path) -> None:
    """Members behind 4 GiB of nothing are found by zip64 numbers, read, and served."""
    path = tmp_path / "s.zip"
    with open(path, "wb") as file:
        file.truncate((4 << 30) + 1000)
        file.seek(0, os.SEEK_END)
        with zipfile.ZipFile(file, "a") as container:
            container.writestr("a.dcm", native("1.1", [b"far4"]))
            container.writestr("b.dcm", native("1.2", [b"farD"]), zipfile.ZIP_DEFLATED)
    first = io.BytesIO()
    with zipfile.ZipFile(first, "w") as container:
        container.writestr("head", b"")
    with open(path, "r+b") as file:
        file.write(first.getvalue()[:34])  # so that it begins as a zip file does
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.1", 0) == b"far4"
        assert archive.frame("1.2", 0) == b"farD"
        (place,) = archive["1.1"].byte_ranges(0)
        assert place.offset > 4 << 30
        with open(path, "rb") as file:
            file.seek(place.offset)
            assert file.read(place.length) == b"far4"


def test_a_container_is_followed_by_update(tmp_path: Path) -> None:
    """By its path or that of a file in it: all of its files are looked at if it changed."""
    put(tmp_path / "s.zip", write_zip(many(3)), 1000)
    assert mmindex.update(tmp_path, [tmp_path / "s.zip"]).scanned == 4
    assert mmindex.update(tmp_path, [tmp_path / "s.zip!" / "00001.dcm"]).unchanged == 1
    put(tmp_path / "s.zip", write_zip(many(3, 2)), 2000)
    report = mmindex.update(tmp_path, [tmp_path / "s.zip!" / "00001.dcm"])
    assert (report.scanned, report.removed) == (4, 2)
    (tmp_path / "s.zip").unlink()
    report = mmindex.update(tmp_path, [tmp_path / "s.zip!" / "00002.dcm"], max_removed="100%")
    assert report.removed == 4
    assert records_of(tmp_path) == {}


def test_an_update_of_a_folder_knows_the_containers_in_it(tmp_path: Path) -> None:
    """Unchanged ones stay with their files, gone ones go with theirs."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.zip").write_bytes(write_zip(many(3)))
    (tmp_path / "f" / "b.zip").write_bytes(write_zip(many(3, 10)))
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "f" / "b.zip").unlink()
    report = mmindex.update(tmp_path, [tmp_path / "f"])
    assert (report.unchanged, report.removed) == (1, 4)
    assert len(records_of(tmp_path)) == 4
    (tmp_path / "f" / "a.zip").unlink()
    (tmp_path / "f").rmdir()
    (tmp_path / "c.dcm").write_bytes(native("1.1"))
    assert mmindex.update(tmp_path, [tmp_path / "f"]).removed == 4


def test_a_young_container_keeps_its_files(tmp_path: Path) -> None:
    """It is left for later, and so are they; frames of the old one are stale."""
    put(tmp_path / "s.zip", write_zip(many(3)), 1000)
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "s.zip").write_bytes(write_zip(many(3)))
    report = mmindex.build(tmp_path, workers=1, min_age=60)
    assert (report.postponed, report.removed) == (1, 0)
    assert len(records_of(tmp_path)) == 4
    with mmindex.open(tmp_path) as archive, pytest.raises(StaleIndexError):
        archive.frame("2.1", 0)


def test_containers_wait_for_their_records_in_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many containers are finished some at a time, so that memory has a bound."""
    monkeypatch.setattr(containers_module, "_MOST_WALKED", 3)
    for number in range(20):
        (tmp_path / f"{number}.zip").write_bytes(write_zip(many(2, 10 * number)))
    with ThreadPoolExecutor(2) as executor:
        report = mmindex.build(tmp_path, workers=2, executor=executor)
    assert (report.scanned, report.found) == (60, 60)
    assert mmindex.build(tmp_path, workers=1).unchanged == 60
    assert len(records_of(tmp_path)) == 60


def test_indexes_with_containers_are_merged(tmp_path: Path) -> None:
    """Members stay members, of containers whose paths begin with the other root."""
    for name, first in (("a", 0), ("b", 10)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.zip").write_bytes(write_zip(many(3, first)))
        mmindex.build(tmp_path / name, workers=1)
    mmindex.merge(tmp_path / ".mmindex", [tmp_path / "a", tmp_path / "b"])
    with mmindex.open(tmp_path) as archive:
        archive.check_index()
        assert len(archive) == 6
        assert archive.file("b/s.zip!/00011.dcm").frame(0) == struct.pack("<I", 11)
    assert mmindex.build(tmp_path, workers=1).unchanged == 8


@pytest.mark.parametrize("what", ["fewer", "more"])
def test_ways_from_containers_to_their_files_are_verified(tmp_path: Path, what: str) -> None:
    """One that is missing, or leads to a file in no container, is damage."""
    (tmp_path / "s.zip").write_bytes(write_zip(many(3)))
    mmindex.build(tmp_path, workers=1)
    with lmdb.open(str(tmp_path / ".mmindex"), subdir=False, max_dbs=16) as env:
        members = env.open_db(b"members", create=False)
        with env.begin(write=True) as txn, txn.cursor(members) as cursor:
            assert cursor.first()
            if what == "fewer":
                cursor.delete()
            else:
                cursor.put(cursor.key(), (1 << 40).to_bytes(8, "big"))
    with mmindex.open(tmp_path) as archive, pytest.raises(IndexFormatError, match="members"):
        archive.check_index()
    if what == "more":
        with pytest.raises(IndexFormatError, match="which is not there"):
            mmindex.build(tmp_path, workers=1)


def build_and_die(root: Path, after: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, after)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    mmindex.build(root, workers=1)


@forks
@pytest.mark.long
def test_kill_9_in_a_container_at_50_random_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is whole each time, and the next build completes it."""
    from mmindex.update import commits

    monkeypatch.setattr(commits, "_COMMIT_FILES", 40)
    chance = random.Random(5)
    put(tmp_path / "s", write_tar(many(400)), 1)
    started = time.monotonic()
    assert exit_code(lambda: build_and_die(tmp_path, 60)) == 0
    whole = time.monotonic() - started
    killed = 0
    for moment in range(50):
        number = moment % 3
        put(
            tmp_path / "s",
            WRITERS[("tar", "zip", "deflated")[number]](many(400, number)),
            moment + 2,
        )
        after = chance.uniform(0.001, whole)
        code = exit_code(lambda after=after: build_and_die(tmp_path, after))
        killed += code == -signal.SIGKILL
        whole *= 1 if code else 0.8  # until a build takes longer, on a machine of any speed
        if (tmp_path / ".mmindex").exists() and moment % 5:
            with mmindex.open(tmp_path) as archive:
                archive.check_index()
                for record in archive.records():
                    assert record.path == b"s"
        if moment % 5:
            continue
        mmindex.build(tmp_path, workers=1)
        with mmindex.open(tmp_path) as archive:
            archive.check_index()
            assert set(archive) == {f"2.{at}" for at in range(number, number + 400)}
            assert len(list(archive.records())) == 401
            for at in range(number, number + 400, 37):
                assert archive.frame(f"2.{at}", 0) == struct.pack("<I", at)
    assert killed > 10


def test_the_container_itself_is_no_instance(tmp_path: Path) -> None:
    """To open it says what it is; a member that is gone says so."""
    (tmp_path / "s.zip").write_bytes(write_zip(many(2)))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        with pytest.raises(NotDicomError, match="a container of 2 files"):
            archive.file("s.zip")
        assert list(archive.instances()) == [archive.record("2.0"), archive.record("2.1")]
        (tmp_path / "s.zip").unlink()
        with pytest.raises(MissingFileError):
            archive.file("s.zip!/00000.dcm")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_R47_a_member_that_only_claims_a_deflated_data_set_is_read(
    tmp_path: Path, method: int
) -> None:
    """A data set that is not deflated is read as it is, however the container holds the file."""
    data_set = element(0x00080018, "UI", "1.1") + image_attributes()
    content = dicom_file(
        data_set + element(PIXEL_DATA, "OB", b"abcd"), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    )
    (tmp_path / "a.zip").write_bytes(write_zip([("a.dcm", content)], method))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.1", 0) == b"abcd"
        assert archive["1.1"].frames() == [b"abcd"]


def tar_entry(
    tar: tarfile.TarFile,
    name: str,
    kind: bytes = tarfile.REGTYPE,
    data: bytes = b"",
    link: str = "",
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    tar.addfile(info, io.BytesIO(data))


REPLACED = "the last member of this name is a link, a folder or a device, and no file"
TAKES_THE_PLACE: dict[str, tuple[bytes, str]] = {
    "symbolic link": (tarfile.SYMTYPE, "b.dcm"),
    "symbolic link to itself": (tarfile.SYMTYPE, "a.dcm"),
    "hard link": (tarfile.LNKTYPE, "b.dcm"),
    "folder": (tarfile.DIRTYPE, ""),
    "pipe": (tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [5, 300])
@pytest.mark.parametrize("kind", TAKES_THE_PLACE)
def test_what_takes_the_name_of_a_file_in_a_tar_takes_its_place(
    tmp_path: Path, kind: str, length: int, tar_format: int
) -> None:
    """As tarfile finds it: the file before is not served, and its path says why."""
    name = "n" * (length - 4) + ".dcm"
    of_kind, link = TAKES_THE_PLACE[kind]
    with tarfile.open(tmp_path / "s.tar", "w", format=tar_format) as tar:
        tar_entry(tar, name, data=native("1.1", [b"frst"]))
        tar_entry(tar, "b.dcm", data=native("1.2", [b"othr"]))
        tar_entry(tar, "./" + name, of_kind, link=name if link == "a.dcm" else link)
        tar_entry(tar, "alone", tarfile.SYMTYPE, link="b.dcm")
        tar_entry(tar, "alone", tarfile.SYMTYPE, link="b.dcm")
    with tarfile.open(tmp_path / "s.tar") as tar:
        assert not tar.getmember("./" + name).isreg()
    report = mmindex.build(tmp_path, workers=1)
    assert report.found == 3
    with mmindex.open(tmp_path) as archive:
        archive.check_index()
        assert "1.1" not in archive
        assert archive.frame("1.2", 0) == b"othr"
        records = {os.fsdecode(record.location): record for record in archive.records()}
        assert sorted(records) == ["s.tar", "s.tar!/b.dcm", f"s.tar!/{name}"]
        assert records[f"s.tar!/{name}"].reason == REPLACED
        assert "a container of 2 files" in records["s.tar"].reason
    with pytest.raises(FormatError, match=REPLACED):
        mmindex.open_file(tmp_path / f"s.tar!/{name}")
    with pytest.raises(MissingFileError):
        mmindex.open_file(tmp_path / "s.tar!/alone")
    again = mmindex.build(tmp_path, workers=1)
    assert (again.scanned, again.removed) == (0, 0)


@pytest.mark.parametrize("length", [5, 300])
def test_a_file_that_was_packed_twice_is_the_one_before(tmp_path: Path, length: int) -> None:
    """GNU tar packs it as a hard link to itself the second time; tarfile reads the file."""
    name = "n" * (length - 4) + ".dcm"
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "s.tar", "w", format=tar_format) as tar:
            tar_entry(tar, name, data=native("1.1", [b"frst"]))
            tar_entry(tar, name, tarfile.LNKTYPE, link="./" + name)
            tar_entry(tar, name, tarfile.LNKTYPE, link=name)
        with tarfile.open(tmp_path / "s.tar") as tar:
            file = tar.extractfile(name)
            assert file is not None
            assert file.read()[-4:] == b"frst"
        mmindex.build(tmp_path, workers=1)
        with mmindex.open(tmp_path) as archive:
            assert archive.frame("1.1", 0) == b"frst"
        with mmindex.open_file(tmp_path / f"s.tar!/{name}") as instance:
            assert instance.frame(0) == b"frst"


def test_a_file_after_the_link_of_its_name_counts(tmp_path: Path) -> None:
    """As the last of all members of a name does, whatever lies between."""
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar_entry(tar, "a.dcm", tarfile.SYMTYPE, link="b.dcm")
        tar_entry(tar, "a.dcm", data=native("1.1", [b"frst"]))
        tar_entry(tar, "a.dcm", tarfile.SYMTYPE, link="b.dcm")
        tar_entry(tar, "a.dcm", data=native("1.2", [b"last"]))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        archive.check_index()
        assert archive.file("s.tar!/a.dcm").frame(0) == b"last"
        assert "1.1" not in archive
    with mmindex.open_file(tmp_path / "s.tar!/a.dcm") as instance:
        assert instance.frame(0) == b"last"


@pytest.mark.parametrize("length", [4, 12, 21])
def test_an_end_record_of_zip_that_is_cut_costs_its_file_alone(tmp_path: Path, length: int) -> None:
    """A file that begins like the end record of an empty zip file, and is shorter than that."""
    (tmp_path / "a.zip").write_bytes(write_zip([])[:length])
    (tmp_path / "b.dcm").write_bytes(native("1.1"))
    report = mmindex.build(tmp_path)
    assert report.statuses == {"indexed": 1, "unreadable": 1}
    (problem,) = report.problems
    assert problem[0] == "a.zip"
    assert "its end record is not there" in problem[1]
    with pytest.raises(FormatError, match="end record"):
        mmindex.open_file(f"{tmp_path}/a.zip!/x")


def test_a_bug_of_a_walk_costs_its_container_alone(tmp_path: Path, monkeypatch) -> None:
    """As one of a scan costs its file alone, and is reported."""
    walk = containers_module.walk_members

    def fail(container, **options):
        yield from walk(container, **options)
        raise struct.error("no such number")

    (tmp_path / "a.tar").write_bytes(write_tar([("x.dcm", native("1.1"))]))
    (tmp_path / "b.dcm").write_bytes(native("1.2"))
    monkeypatch.setattr(containers_module, "walk_members", fail)
    report = mmindex.build(tmp_path, workers=1)
    assert report.statuses == {"indexed": 2, "unreadable": 1}
    assert report.problems == [("a.tar", "error: no such number")]


@pytest.mark.parametrize("workers", [1, 2])
def test_files_of_one_name_are_counted_once_each(tmp_path: Path, workers: int) -> None:
    """What is found is scanned or unchanged, also where the last of a name is written again."""
    (tmp_path / "s.zip").write_bytes(
        write_zip([("a", native("1.1")), ("b", b"text"), ("a", native("1.2")), ("b", b"more")])
    )
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar_entry(tar, "a", data=native("1.3"))
        tar_entry(tar, "a", tarfile.SYMTYPE, link="b")
        tar_entry(tar, "c", data=native("1.4"))
        tar_entry(tar, "c", data=native("1.5"))
    for full in (False, True):
        report = mmindex.build(tmp_path, workers=workers, full=full)
        assert (report.found, report.scanned) == (2 + 4 + 3, 2 + 4 + 3)
        assert report.statuses == {"indexed": 5, "not-dicom": 2, "container": 2}
        assert report.problems == [("s.tar!/a", REPLACED)]
        assert report.totals is not None
        assert report.totals.files == 2 + 2 + 2
    again = mmindex.build(tmp_path, workers=workers)
    assert (again.found, again.scanned, again.unchanged) == (6, 0, 6)
    names = [*(f"s.zip!/{name}" for name in "ab"), *(f"s.tar!/{name}" for name in "ac")]
    assert set(records_of(tmp_path)) == {b"s.zip", b"s.tar", *map(os.fsencode, names)}
