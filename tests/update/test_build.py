"""The build of an archive: every file accounted for, whatever stops it and whoever scans.

The scanned files are tiny; what they hold and how many there are is known from what is written.
"""

from __future__ import annotations

import errno
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb
import pytest
from child_process import forks
from dicom_bytes import (
    HEVC,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    deflated_file,
    dicom_file,
    element,
    encapsulated_file,
    image_attributes,
    small_image,
)

import mmindex
from mmindex import BuildReport
from mmindex.errors import (
    FormatError,
    IndexFormatError,
    IndexWriteError,
    MissingFileError,
    NoPixelDataError,
)
from mmindex.index.merge import merge_indexes
from mmindex.index.store import Store
from mmindex.model import InstanceRecord, Status
from mmindex.sources.folder import walk_archive
from mmindex.update import met as met_module
from mmindex.update import scan_file as scan_module
from mmindex.update import workers as workers_module

ROOT = Path(__file__).resolve().parents[2]
SOP_INSTANCE_UID, STUDY_INSTANCE_UID = 0x00080018, 0x0020000D

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the work of small archives into several chunks, too."""
    monkeypatch.setattr(met_module, "_CHUNK_FILES", 64)


image = partial(small_image, study="1.2")


def write_images(root: Path, count: int) -> Path:
    """Write `count` images in ten folders; number 7 is 0007.dcm with UID 1.7 and pixels 0007."""
    for folder in range(10):
        (root / f"{folder}").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = root / f"{number % 10}" / f"{number:04}.dcm"
        file.write_bytes(image(f"1.{number}", b"%04d" % number))
    return root


def read_records(index: Path) -> dict[bytes, InstanceRecord]:
    with mmindex.open(index) as archive:
        records = list(islice(archive.records(), 10_000))
    assert len({record.path for record in records}) == len(records)
    return {record.path: record for record in records}


def counts(report: BuildReport) -> tuple[int, int, int, int]:
    return report.found, report.scanned, report.unchanged, report.removed


@pytest.fixture
def forking_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make build's processes by fork, so that they inherit what a test replaced."""
    forked = functools.partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("fork"))
    monkeypatch.setattr(workers_module, "ProcessPoolExecutor", forked)


# What a build finds


def test_first_and_later_builds_count_what_changed(tmp_path: Path) -> None:
    """A file is scanned when it is new, or when size, time or inode are others than before."""
    write_images(tmp_path, 20)
    assert counts(mmindex.build(tmp_path, workers=1)) == (20, 20, 0, 0)
    assert counts(mmindex.build(tmp_path, workers=1)) == (20, 0, 20, 0)
    longer, later, replaced, gone, moved = (tmp_path / f"{n}" / f"{n:04}.dcm" for n in range(5))
    longer.write_bytes(image("1.0", b"longer.."))
    os.utime(later, ns=(0, later.stat().st_mtime_ns + 1))
    status = replaced.stat()
    (tmp_path / "new").write_bytes(image("1.2", b"new."))
    (tmp_path / "new").replace(replaced)
    os.utime(replaced, ns=(0, status.st_mtime_ns))
    gone.unlink()
    moved.rename(tmp_path / "moved.dcm")
    (tmp_path / "added.dcm").write_bytes(image("1.100"))
    assert counts(mmindex.build(tmp_path, workers=1)) == (20, 5, 15, 2)
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.0", 1) == b"er.."
        assert archive.frame("1.2", 0) == b"new."
        assert archive.file("moved.dcm")[0] == b"0004"
        assert len(archive) == 20
        assert "1.3" not in archive
    assert counts(mmindex.build(tmp_path, workers=1)) == (20, 0, 20, 0)


def test_full_build_scans_unchanged_files_too(tmp_path: Path) -> None:
    """Nothing is taken on trust, and nothing changes."""
    write_images(tmp_path, 20)
    mmindex.build(tmp_path, workers=1)
    before = read_records(tmp_path)
    (tmp_path / "3" / "0003.dcm").unlink()
    assert counts(mmindex.build(tmp_path, workers=1, full=True)) == (19, 19, 0, 1)
    del before[b"3/0003.dcm"]
    assert read_records(tmp_path) == before


FILES = {
    "indexed": image("1.1", b"one.two."),
    "encapsulated": encapsulated_file([b"\xff\xd8A\xff\xd9\0", b"\xff\xd8B\xff\xd9\0"], 2),
    "deflated": deflated_file(image_attributes() + element(PIXEL_DATA, "OW", b"abcd")),
    "stream": encapsulated_file([b"\0\0\0\1"], 25, HEVC),
    "report": dicom_file(element(SOP_INSTANCE_UID, "UI", "1.2")),
    "text": b"patient,study\n" * 100,
    "empty": b"",
    "one-byte": b"\0",
    "cut": image("1.3")[:200],
    "no-rows": dicom_file(
        element(SOP_INSTANCE_UID, "UI", "1.4")
        + image_attributes(rows=None)
        + element(PIXEL_DATA, "OW", b"abcd")
    ),
    "ambiguous": encapsulated_file([b"\xff\xd8A\xff\xd9\0"] * 3, 2),
}
STATUSES = {
    "indexed": ["indexed", "encapsulated"],
    "deflated": ["deflated"],
    "stream": ["stream"],
    "no-pixel-data": ["report"],
    "not-dicom": ["text", "empty", "one-byte"],
    "unreadable": ["cut", "no-rows", "ambiguous"],
}


def test_every_file_has_a_record_with_its_status(tmp_path: Path) -> None:
    """No file is passed over: what cannot be served says why."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    report = mmindex.build(tmp_path, workers=1)
    records = read_records(tmp_path)
    for status, names in STATUSES.items():
        assert [records[name.encode()].status.value for name in names] == [status] * len(names)
    assert len(records) == report.found == report.scanned == len(FILES)
    assert report.statuses == {status: len(names) for status, names in STATUSES.items()}
    reasons = dict(report.problems)
    assert set(reasons) == set(STATUSES["unreadable"])
    assert report.problem_count == 3
    assert "@0x" in reasons["cut"]
    assert "Rows is absent" in reasons["no-rows"]
    assert records[b"ambiguous"].error == "AmbiguousFramesError"
    assert records[b"no-rows"].sop_instance_uid == "1.4"
    assert "DICM" in records[b"text"].reason
    for record in records.values():
        assert record.fingerprint is not None
        assert record.fingerprint.size == len(FILES[record.path.decode()])


def test_statuses_are_served_or_raise_as_recorded(tmp_path: Path) -> None:
    """The index answers as the files themselves would."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert list(archive.file("indexed")) == [b"one.", b"two."]
        assert archive.file("deflated")[0] == b"abcd"
        assert list(archive.file("stream").stream()) == [b"\0\0\0\1"]
        with pytest.raises(NoPixelDataError, match="no pixel data"):
            archive.frame("1.2", 0)
        with pytest.raises(FormatError, match="Rows is absent"):
            archive.frame("1.4", 0)


def test_same_uid_twice_gives_the_newer_file(tmp_path: Path) -> None:
    """Both files are there by path; the UID leads to the one with the later time."""
    for name, seconds in (("a", 1000), ("b", 3000), ("c", 2000)):
        (tmp_path / name).write_bytes(image("1.5", name.encode() * 4))
        os.utime(tmp_path / name, (seconds, seconds))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        assert archive.frame("1.5", 0) == b"bbbb"
        assert [archive.file(name)[0] for name in "abc"] == [b"aaaa", b"bbbb", b"cccc"]
        assert len(archive) == len(list(archive)) == 1
        (tmp_path / "b").unlink()
        mmindex.build(tmp_path, workers=1)
        assert archive.frame("1.5", 0) == b"cccc"


def test_force_reads_files_without_file_meta(tmp_path: Path) -> None:
    """A bare data set is no DICOM file, unless one insists."""
    content = image("1.6")
    (tmp_path / "bare").write_bytes(content[content.index(b"\x08\0\x18\0UI") :])
    assert mmindex.build(tmp_path, workers=1).statuses == {"not-dicom": 1}
    assert mmindex.build(tmp_path, workers=1, full=True, force=True).statuses == {"indexed": 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_file_whose_record_cannot_be_packed_costs_only_itself(tmp_path: Path, workers: int) -> None:
    """A UID of 70,000 bytes, longer than a text of the format, does not end the build."""
    write_images(tmp_path, 150)
    uid = element(SOP_INSTANCE_UID, "UI", b"1" * 70_000, implicit=True)
    attributes = image_attributes(implicit=True)
    pixels = element(PIXEL_DATA, "OW", b"abcd", implicit=True)
    file = dicom_file(uid + attributes + pixels, IMPLICIT_VR_LITTLE_ENDIAN)
    (tmp_path / "hostile").write_bytes(file)
    report = mmindex.build(tmp_path, workers=workers)
    assert report.scanned == len(read_records(tmp_path)) == 151
    assert report.statuses["indexed"] >= 150


def test_first_thousand_problems_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    """A report of a broken archive stays small."""
    for number in range(1005):
        (tmp_path / f"{number}").write_bytes(FILES["cut"])
    report = mmindex.build(tmp_path, workers=1)
    assert (len(report.problems), report.problem_count) == (1000, 1005)


def test_progress_sees_growing_counts(tmp_path: Path) -> None:
    """What it is called with never goes back, and ends as what is returned."""
    write_images(tmp_path, 700)
    seen = []
    report = mmindex.build(tmp_path, workers=1, progress=lambda so_far: seen.append(counts(so_far)))
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    assert all(scanned <= found for found, scanned, _, _ in seen)
    assert seen[-1] == counts(report) == (700, 700, 0, 0)


# Who scans


def forked_pool() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))


@pytest.mark.parametrize(
    "make",
    [forked_pool, lambda: ThreadPoolExecutor(2), None],
    ids=["processes", "threads", "own-pool"],
)
def test_every_executor_gives_the_same_records(
    tmp_path: Path, make: Callable[[], Executor] | None
) -> None:
    """Records do not depend on who scanned, nor on the order in which they came back."""
    root = write_images(tmp_path / "archive", 300)
    for name, content in FILES.items():
        (root / name).write_bytes(content)
    mmindex.build(root, tmp_path / "serial", workers=1)
    if make is None:
        report = mmindex.build(root, tmp_path / "other", workers=2)
    else:
        with make() as executor:
            report = mmindex.build(root, tmp_path / "other", workers=2, executor=executor)
            assert executor.submit(os.getpid).result()
    assert report.scanned == 311
    assert read_records(tmp_path / "other") == read_records(tmp_path / "serial")


def poison(monkeypatch: pytest.MonkeyPatch, victims: set[bytes], die: Callable[[], None]) -> None:
    """Make the scan of some files kill the process that scans, unless that is this one."""
    scan_file, test_process = scan_module.scan_file, os.getpid()

    def scan_or_die(root: bytes, path: bytes, *options: object) -> InstanceRecord:
        if path in victims:
            assert os.getpid() != test_process
            die()
        return scan_file(root, path, *options)

    monkeypatch.setattr(scan_module, "scan_file", scan_or_die)


def exit_at_once() -> None:
    os._exit(1)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@forks
@pytest.mark.parametrize("die", [exit_at_once, kill_itself])
@pytest.mark.parametrize("own_executor", [False, True])
def test_worker_that_dies_costs_only_its_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forking_pools: None,
    die: Callable[[], None],
    own_executor: bool,
) -> None:
    """Files of the same chunk, and of the chunks after it, are scanned by other processes."""
    root, index = write_images(tmp_path / "archive", 700), tmp_path / "index"
    files = list(walk_archive(os.fsencode(root), b""))
    victims = {files[0].path, files[300].path}
    with monkeypatch.context() as patch:
        poison(patch, victims, die)
        executor = forked_pool() if own_executor else None
        report = mmindex.build(root, index, workers=2, executor=executor)
        if executor is not None:
            executor.shutdown()
    records = read_records(index)
    assert {path for path, record in records.items() if record.status is Status.UNREADABLE} == (
        victims
    )
    assert len(records) == report.scanned == 700
    assert report.statuses == {"indexed": 698, "unreadable": 2}
    assert "died" in records[files[0].path].reason
    assert counts(mmindex.build(root, index, workers=1)) == (700, 2, 698, 0)


@forks
def test_executor_that_breaks_drops_no_known_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forking_pools: None
) -> None:
    """Files that a build never came to, since its executor broke, stay in the index."""
    root, index = write_images(tmp_path / "archive", 1200), tmp_path / "index"
    mmindex.build(root, index, workers=1)
    first = next(iter(walk_archive(os.fsencode(root), b"")))
    poison(monkeypatch, {first.path}, exit_at_once)
    with forked_pool() as executor:
        report = mmindex.build(root, index, workers=1, executor=executor, full=True)
    assert len(read_records(index)) == 1200
    assert report.removed == 0


# Where it cannot look


def refuse(path: bytes) -> Iterator[os.DirEntry[bytes]]:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("folder", ["", "3", "4/deep"])
def test_files_under_an_unreadable_folder_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """What could not be looked at is not gone; what was looked at and is not there, is."""
    write_images(tmp_path, 50)
    (tmp_path / "4" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "4" / "deep" / "er" / "a").write_bytes(image("1.1000"))
    (tmp_path / "4" / "deepest").write_bytes(image("1.1001"))
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "4" / "deepest").unlink()
    closed, scandir = os.fsencode(tmp_path / folder), os.scandir
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda path: (refuse if path == closed else scandir)(path))
        report = mmindex.build(tmp_path, workers=1)
    hidden = {"": 52, "3": 5, "4/deep": 1}[folder]
    assert counts(report) == (51 - hidden if folder else 0, 0, report.found, 1 if folder else 0)
    assert report.problems == [(folder, "cannot read the folder: Permission denied")]
    assert len(read_records(tmp_path)) == 51 + (not folder)
    assert counts(mmindex.build(tmp_path, workers=1)) == (51, 0, 51, 0 if folder else 1)


class ClosedEntry:
    """An entry of a folder that may be listed but not entered (mode r--)."""

    def __init__(self, entry: os.DirEntry[bytes]) -> None:
        self.path, self.name, self.is_dir = entry.path, entry.name, entry.is_dir

    def stat(self) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied")


def test_files_that_may_not_be_looked_at_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is listed but may not be entered hides its files, it does not remove them."""
    write_images(tmp_path, 50)
    mmindex.build(tmp_path, workers=1)
    closed, scandir = os.fsencode(tmp_path / "3"), os.scandir

    class ClosedFolder:
        def __init__(self) -> None:
            self._entries = map(ClosedEntry, list(scandir(closed)))

        def __enter__(self) -> Iterator[ClosedEntry]:
            return self._entries

        def __iter__(self) -> Iterator[ClosedEntry]:
            return self._entries

        def __next__(self) -> ClosedEntry:
            return next(self._entries)

        def __exit__(self, *exception: object) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(
            os, "scandir", lambda path: ClosedFolder() if path == closed else scandir(path)
        )
        report = mmindex.build(tmp_path, workers=1)
    assert counts(report) == (45, 0, 45, 0)
    assert report.problem_count == 5
    assert len(read_records(tmp_path)) == 50


# Which index


def test_index_may_be_elsewhere(tmp_path: Path) -> None:
    """The archive itself is not written to."""
    root = write_images(tmp_path / "archive", 10)
    before = sorted(os.listdir(root))
    report = mmindex.build(root, tmp_path / "index", workers=1)
    assert (report.root, report.index) == (str(root), str(tmp_path / "index"))
    assert sorted(os.listdir(root)) == before
    with mmindex.open(tmp_path / "index") as archive:
        assert archive.frame("1.7", 0) == b"0007"


def test_index_in_a_linked_folder_of_the_archive(tmp_path: Path) -> None:
    """The root is found through the link, by the build that makes the index and by the next."""
    root = write_images(tmp_path / "archive", 10)
    (tmp_path / "link").symlink_to(root / "3")
    assert mmindex.build(root, tmp_path / "link" / "index", workers=1).scanned == 10
    assert counts(mmindex.build(root, root / "3" / "index", workers=1)) == (10, 0, 10, 0)


def test_index_of_another_archive_is_refused(tmp_path: Path) -> None:
    """The files of the one are not dropped for those of the other."""
    one, two = write_images(tmp_path / "one", 5), write_images(tmp_path / "two", 5)
    mmindex.build(one, tmp_path / "index", workers=1)
    before = (tmp_path / "index").read_bytes()
    with pytest.raises(IndexWriteError, match=r"expected an index of .*two, found one of .*one"):
        mmindex.build(two, tmp_path / "index", workers=1)
    assert (tmp_path / "index").read_bytes() == before


def test_what_is_no_folder_or_no_index_is_refused(tmp_path: Path) -> None:
    """Nothing is made beside a mistake."""
    (tmp_path / "file").write_bytes(b"text")
    with pytest.raises(MissingFileError, match="no such folder"):
        mmindex.build(tmp_path / "none")
    with pytest.raises(MissingFileError, match="no such folder"):
        mmindex.build(tmp_path / "file")
    with pytest.raises(IndexFormatError, match="not an mmindex index"):
        mmindex.build(tmp_path, tmp_path / "file")
    with pytest.raises(IndexWriteError, match="cannot"):
        mmindex.build(tmp_path, tmp_path / "none" / "index")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"text"


def test_second_build_at_once_is_refused(tmp_path: Path) -> None:
    """Two builds would count each other's files as gone; the first is not disturbed."""
    write_images(tmp_path, 10)
    refused = []

    def build_again(report: BuildReport) -> None:
        with pytest.raises(IndexWriteError, match="another build of this index is at work"):
            mmindex.build(tmp_path, workers=1, wait=0)
        refused.append(report.scanned)

    assert counts(mmindex.build(tmp_path, workers=1, progress=build_again)) == (10, 10, 0, 0)
    assert refused
    assert counts(mmindex.build(tmp_path, workers=1)) == (10, 0, 10, 0)


# What stops it


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("after", [0, 1, 100])
def test_interrupted_build_keeps_what_is_finished(tmp_path: Path, workers: int, after: int) -> None:
    """Ctrl-C loses no finished record, and the next build does the rest."""
    write_images(tmp_path, 300)
    done = []

    def interrupt(report: BuildReport) -> None:
        if report.scanned >= after:
            done.append(report.scanned)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmindex.build(tmp_path, workers=workers, progress=interrupt)
    assert len(done) == 1
    assert after <= len(read_records(tmp_path)) == done[0] < 300
    report = mmindex.build(tmp_path, workers=workers)
    assert counts(report) == (300, 300 - done[0], done[0], 0)


def test_interrupted_build_removes_nothing(tmp_path: Path) -> None:
    """Files that the walk had not come to yet are not gone."""
    write_images(tmp_path, 300)
    mmindex.build(tmp_path, workers=1)

    def interrupt(report: BuildReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmindex.build(tmp_path, workers=1, full=True, progress=interrupt)
    assert len(read_records(tmp_path)) == 300


KILLED = """
import sys
import mmindex
from mmindex.update import commits, met

met._CHUNK_FILES = commits._COMMIT_FILES = 64
mmindex.build(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]), full=sys.argv[4] == "full",
              progress=lambda report: print(report.scanned, flush=True))
sys.stdin.read()  # until it is killed
"""


@pytest.fixture(scope="module")
def killed_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A couple of thousand files, their index beside them, and its records."""
    folder = tmp_path_factory.mktemp("killed")
    write_images(folder / "archive", 2000)
    mmindex.build(folder / "archive", folder / "fresh", workers=1)
    return folder


@pytest.mark.parametrize(
    ("lines", "workers", "known"),
    [
        *[(1, 1, False), (2, 1, False), (7, 1, False), (20, 1, False), (33, 1, False)],
        *[(1, 2, False), (13, 2, False), (2, 1, True), (18, 1, True), (18, 2, True)],
    ],
)
def test_killed_build_leaves_a_whole_index(
    killed_archive: Path, tmp_path: Path, lines: int, workers: int, known: bool
) -> None:
    """After kill -9 every record that is there is right, and the next build completes the rest."""
    root, index = killed_archive / "archive", tmp_path / "index"
    fresh = read_records(killed_archive / "fresh")
    if known:
        mmindex.build(root, index, workers=1)
    arguments = [str(root), str(index), str(workers), "full" if known else "changed"]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        for _ in range(lines):
            assert child.stdout.readline()
        child.kill()
        child.stdout.read()  # to its end: until the last of its workers is gone, too
    assert child.returncode == -signal.SIGKILL
    left = read_records(index)
    assert left.items() <= fresh.items()
    assert len(left) == 2000 or not known
    report = mmindex.build(root, index, workers=1)
    assert counts(report) == (2000, 2000 - len(left), len(left), 0)
    assert read_records(index) == fresh


def test_a_file_that_became_a_link_to_itself_is_gone(tmp_path: Path) -> None:
    """It leads nowhere: it leaves the index, and who opens it is told that nothing is there."""
    write_images(tmp_path, 2)
    path = next(path for path in tmp_path.rglob("*") if path.is_file())
    mmindex.build(tmp_path, workers=1)
    path.unlink()
    path.symlink_to(path)
    with mmindex.open(tmp_path) as archive, pytest.raises(MissingFileError):
        archive.file(path.relative_to(tmp_path))
    with pytest.raises(MissingFileError):
        mmindex.open_file(path)
    report = mmindex.build(tmp_path, workers=1)
    assert report.removed == 1
    assert [name for name, _ in report.problems] == [str(path.relative_to(tmp_path))]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_index_of_an_older_format_is_made_anew(tmp_path: Path, version: int) -> None:
    """It is refused by who reads, and by the next build all files are scanned into it."""
    write_images(tmp_path, 5)
    mmindex.build(tmp_path, workers=1)
    index = tmp_path / ".mmindex"
    fresh, inode = read_records(index), index.stat().st_ino
    set_format(index, version)
    with pytest.raises(IndexFormatError, match=f"format 4, found {version}: `mmindex build`"):
        mmindex.open(tmp_path)
    assert counts(mmindex.build(tmp_path, workers=1)) == (5, 5, 0, 0)
    assert read_records(index) == fresh
    assert index.stat().st_ino == inode
    assert counts(mmindex.build(tmp_path, workers=1)) == (5, 0, 5, 0)


def test_an_index_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    """A build says what to do, and changes nothing."""
    write_images(tmp_path, 5)
    mmindex.build(tmp_path, workers=1)
    index = tmp_path / ".mmindex"
    set_format(index, 99)
    before = index.read_bytes()
    with pytest.raises(IndexFormatError, match="found 99: update mmindex"):
        mmindex.build(tmp_path, workers=1)
    assert index.read_bytes() == before


def set_format(index: Path, version: int) -> None:
    """Let an index say that it has this format; before 3, its root and next id had no checksums."""
    with lmdb.open(str(index), subdir=False, max_dbs=16) as env, env.begin(write=True) as txn:
        meta = env.open_db(b"meta", txn=txn)
        txn.put(b"format", b"mmindex" + version.to_bytes(4, "little"), db=meta)
        if version < 3:
            txn.delete(b"identity", db=meta)
            for key in (b"root", b"next"):
                txn.put(key, txn.get(key, db=meta)[:-4], db=meta)


# Who reads meanwhile


def test_reader_reads_during_a_build(tmp_path: Path) -> None:
    """Every frame is there and right at every moment of a build that scans all files anew."""
    write_images(tmp_path, 300)
    mmindex.build(tmp_path, workers=1)
    read = []
    with mmindex.open(tmp_path, revalidate_after=0) as archive:

        def check(report: BuildReport) -> None:
            number = len(read) * 37 % 300
            read.append(archive.frame(f"1.{number}", 0) == b"%04d" % number)
            assert len(archive) == 300

        mmindex.build(tmp_path, workers=1, full=True, progress=check)
        assert len(read) > 5
        assert all(read)
        assert archive.frame("1.299", 0) == b"0299"


def test_readers_in_threads_read_during_builds(tmp_path: Path) -> None:
    """Readers in other threads see each record as it was or as it is, never a part of it."""
    write_images(tmp_path, 100)
    mmindex.build(tmp_path, workers=1)
    ended = threading.Event()

    def read_on(archive: mmindex.Archive) -> int:
        passes = 0
        while not ended.is_set():
            assert len(list(archive.records())) >= 100
            for number in range(0, 100, 7):
                assert archive.frame(f"1.{number}", 0) == b"%04d" % number
            passes += 1
        return passes

    with mmindex.open(tmp_path, revalidate_after=0) as archive, ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read_on, archive) for _ in range(3)]
        try:
            for _ in range(10):
                mmindex.build(tmp_path, workers=1, full=True)
        finally:
            ended.set()
        assert all(reader.result() for reader in readers)


@pytest.mark.parametrize("count", [3, 300])
def test_a_listing_has_every_file_though_builds_go_on(tmp_path: Path, count: int) -> None:
    """Each file comes once, as it was or as it is, among all records and among a study's."""
    write_images(tmp_path, count)
    paths = {path.relative_to(tmp_path).as_posix().encode() for path in tmp_path.rglob("*.dcm")}
    assert len(paths) == count
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        listed: Counter[bytes] = Counter()
        for number, record in enumerate(archive.records()):
            listed[record.path] += 1
            if number % 100 == 1:
                mmindex.build(tmp_path, workers=1, full=True)
        assert listed == Counter(paths)
        study = next(archive.records()).study_instance_uid
        of_study = []
        for number, record in enumerate(archive.instances(study_instance_uid=study)):
            of_study.append(record.path)
            if number % 100 == 1:
                mmindex.build(tmp_path, workers=1, full=True)
        assert sorted(of_study) == sorted(paths)


def test_a_merge_has_every_file_of_an_index_that_is_built_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch of records that it reads is followed by a build of all files anew."""
    root = tmp_path / "archive"
    write_images(root, 60)
    mmindex.build(root, workers=1)
    builds: list[str] = []

    def build_after(name: str) -> None:
        read = getattr(Store, name)

        def read_and_build(self: Store, *arguments: Any) -> Any:
            batch = read(self, *arguments)
            if builds.count(name) < 2:
                builds.append(name)
                mmindex.build(root, workers=1, full=True)
            return batch

        monkeypatch.setattr(Store, name, read_and_build)

    build_after("_read_paths")
    build_after("_read_batch")
    merge_indexes(tmp_path / "merged", [root / ".mmindex"])
    monkeypatch.undo()
    assert builds == ["_read_paths", "_read_batch", "_read_batch", "_read_paths"]
    merged, built = read_records(tmp_path / "merged"), read_records(root / ".mmindex")
    assert len(merged) == 60
    assert {path.rpartition(b"/")[2] for path in merged} == {p.rpartition(b"/")[2] for p in built}
    with mmindex.open(tmp_path / "merged") as archive:
        archive.check_index()
