"""Threads, forks, processes, builds and changing files: many reads at once, none of them wrong.

Each frame says of which file, which version of it and which number it is. A version has a layout
of its own, so that an offset of another one leads to other bytes.
"""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableSequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from child_process import LONGEST, exit_code, forks, start, wait_for
from dicom_bytes import PIXEL_DATA, dicom_file, element, encapsulate, image_attributes

import mmindex
from mmindex.errors import (
    FormatError,
    IndexFormatError,
    IndexWriteError,
    InstanceNotFoundError,
    MissingFileError,
    MMIndexError,
    StaleIndexError,
)
from mmindex.index import reader as reader_module
from mmindex.index.chunks import StoredEntries
from mmindex.index.compact import compact_index
from mmindex.index.lmdb import opening
from mmindex.index.lmdb.environment import Environment
from mmindex.index.lmdb.transaction import OvertakenError
from mmindex.sources.file import FileSource

pytestmark = [
    forks,
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # it has threads
]

READS = 100_000  # at least, in each of the tests of many reads
REPOSITORY = Path(__file__).resolve().parents[2]
FILES, FRAMES, PADDING = 8, 8, 64
CHANGING = range(4, FILES)  # the numbers of the files that change
FRAME = struct.Struct("<4I")  # file, version, frame index, and what no other bytes look like
MARK = 0xF4A3E5D7
JPEG = "1.2.840.10008.1.2.4.50"
SPAWN = multiprocessing.get_context("spawn")
Versions = MutableSequence[int]  # of each file the version that is in place, or a later one is
REFUSALS = (StaleIndexError, MissingFileError, FormatError, InstanceNotFoundError)


def uid_of(number: int) -> str:
    return f"1.2.3.{number}"


def make_file(number: int, version: int = 0) -> bytes:
    """Return a version of a file; all have one length, of seven in a row none has one layout."""
    shift = version % 7 * 8
    frames = (FRAME.pack(number, version, index, MARK) for index in range(FRAMES))
    return dicom_file(
        element(0x00080018, "UI", uid_of(number))
        + element(0x00091001, "OB", bytes(shift))
        + image_attributes(rows=1, columns=FRAME.size, number_of_frames=FRAMES)
        + element(PIXEL_DATA, "OB", b"".join(frames))
        + element(0xFFFCFFFC, "OB", bytes(PADDING - shift))
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write and index an archive of a few files."""
    root = tmp_path / "archive"
    root.mkdir()
    for number in range(FILES):
        (root / f"{number}.dcm").write_bytes(make_file(number))
    mmindex.build(root, workers=1)
    return root


@pytest.fixture(autouse=True)
def eager_threads() -> Iterator[None]:
    """Let threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


class Reader:
    """Reads frames at random and compares each with what it says of itself.

    `right` and `refused` count them. A file that does not change is never refused, and a version
    that was replaced before the read began is never served.
    """

    def __init__(
        self, archive: mmindex.Archive, seed: int, versions: Versions | None = None
    ) -> None:
        self.archive = archive
        self.versions = versions
        self.chance = random.Random(seed)
        self.right = self.refused = 0

    def read(self, count: int) -> None:
        """Read at least so many frames, most of them one by one and some in batches."""
        until = self.right + self.refused + count
        while self.right + self.refused < until:
            size = 1 if self.chance.random() < 0.9 else self.chance.randrange(2, 20)
            batch = [
                (self.chance.randrange(FILES), self.chance.randrange(FRAMES)) for _ in range(size)
            ]
            expected = [self.versions[number] if self.versions else 0 for number, _ in batch]
            pairs = [(uid_of(number), index) for number, index in batch]
            try:
                found = [self.archive.frame(*pairs[0])] if size == 1 else self.archive.frames(pairs)
            except REFUSALS:
                assert self.versions, "nothing changes"
                assert any(number in CHANGING for number, _ in batch), "refused what is unchanged"
                self.refused += size
                continue
            for (number, index), least, frame in zip(batch, expected, found, strict=True):
                of, version, at, mark = FRAME.unpack(frame)
                assert (of, at, mark) == (number, index, MARK)
                assert version >= least if self.versions else version == 0
            self.right += size


def read_in_threads(archive: mmindex.Archive, threads: int, reads: int, seed: int = 0) -> None:
    """Let threads begin at once and read frames of files that do not change."""
    readers = [Reader(archive, seed * 1000 + at) for at in range(threads)]
    barrier = threading.Barrier(threads)

    def run(reader: Reader) -> None:
        barrier.wait()
        reader.read(reads // threads)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, readers))
    assert sum(reader.right for reader in readers) >= reads // threads * threads


@pytest.mark.parametrize("max_open_files", [3, None])
def test_sixteen_threads_share_an_archive(root: Path, max_open_files: int | None) -> None:
    """Whether all files stay open or take turns, each thread gets what it asks for."""
    with mmindex.open(root, max_open_files=max_open_files, revalidate_after=0.001) as archive:
        read_in_threads(archive, 16, READS)


def test_a_process_opens_an_index_twice(root: Path) -> None:
    """Two archives serve at once, and either goes on when the other is closed and opened anew."""
    with mmindex.open(root) as first, ThreadPoolExecutor(1) as pool:
        steady = pool.submit(read_in_threads, first, 4, READS)
        for seed in itertools.count(1):
            with mmindex.open(root) as second:
                read_in_threads(second, 2, 200, seed)
            if steady.done():
                break
        steady.result()


def test_forked_children_share_an_archive(root: Path) -> None:
    """Forked in the midst of their parent's reads; parent and children read on."""
    with mmindex.open(root, revalidate_after=0.001) as archive, ThreadPoolExecutor(1) as pool:
        archive.array(uid_of(0), 0)
        steady = pool.submit(read_in_threads, archive, 4, READS // 5)
        children = [
            start(partial(read_in_threads, archive, 4, READS // 5, seed)) for seed in range(1, 5)
        ]
        assert [wait_for(child) for child in children] == [0] * 4
        steady.result()


def test_spawned_processes_get_an_archive_by_pickle(root: Path) -> None:
    """Each opens the index for itself, while their parent reads."""
    with mmindex.open(root) as archive, SPAWN.Pool(2) as pool:
        arguments = [(archive, 2, READS // 3, seed) for seed in (1, 2)]
        results = pool.starmap_async(read_in_threads, arguments)
        read_in_threads(archive, 2, READS // 3 + 2)
        results.get(60)
        pool.close()
        pool.join()


def put_in_place(root: Path, number: int, version: int) -> None:
    """Replace a file by its next version in one step."""
    new = root.parent / f"new-{number}"
    new.write_bytes(make_file(number, version))
    new.replace(root / f"{number}.dcm")


def rewrite(root: Path, number: int, version: int) -> None:
    """Write the next version into the same file."""
    file = os.open(root / f"{number}.dcm", os.O_RDWR)
    try:
        os.pwrite(file, make_file(number, version), 0)
    finally:
        os.close(file)


def cut(root: Path, number: int, version: int) -> None:
    """Cut a file short, and write its next version in its place."""
    os.truncate(root / f"{number}.dcm", version * 50 % 400)
    put_in_place(root, number, version)


def remove(root: Path, number: int, version: int) -> None:
    """Remove a file, and write its next version in its place."""
    (root / f"{number}.dcm").unlink()
    put_in_place(root, number, version)


def await_later_time(root: Path, number: int) -> None:
    """Return when a file that is written now gets a later time than this one."""
    clock = root.parent / "clock"
    before = (root / f"{number}.dcm").stat().st_mtime_ns
    while not clock.exists() or clock.stat().st_mtime_ns <= before:
        clock.touch()


Change = Callable[[Path, int, int], None]


def keep_changing(root: Path, versions: Versions, stop: Any, changes: list[Change]) -> None:
    """Change a file and build the index, again and again."""
    ways = itertools.cycle(changes)
    for number in itertools.cycle(CHANGING):
        if stop.is_set():
            return
        next(ways)(root, number, versions[number] + 1)
        versions[number] += 1
        await_later_time(root, number)
        if versions[number] % 3:
            mmindex.build(root, workers=1)


def read_while(root: Path, done: Callable[[], object], versions: Versions) -> None:
    """Read in four threads, at least 100,000 frames and until each file has changed often."""
    with mmindex.open(root, revalidate_after=0) as archive, ThreadPoolExecutor(4) as pool:
        readers = [Reader(archive, seed, versions) for seed in range(4)]
        while sum(reader.right for reader in readers) < READS or min(versions[4:]) < 12:
            list(pool.map(lambda reader: reader.read(2000), readers))
            assert not done(), "the changes ended in an error"


def read_while_a_thread_changes(root: Path, changes: list[Change]) -> None:
    """Change files in one thread, read them in others."""
    versions, stop = [0] * FILES, threading.Event()
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(keep_changing, root, versions, stop, changes)
        try:
            read_while(root, changing.done, versions)
        finally:
            stop.set()
        changing.result()


def test_builds_in_the_same_process_commit_under_the_readers(root: Path) -> None:
    """Files are replaced and indexed anew; a frame is of the version in place."""
    read_while_a_thread_changes(root, [put_in_place])


def test_builds_in_another_process_commit_under_the_readers(root: Path) -> None:
    """As in the same process."""
    versions, stop = SPAWN.RawArray("q", FILES), SPAWN.Event()
    builder = SPAWN.Process(target=keep_changing, args=(root, versions, stop, [put_in_place]))
    builder.start()
    try:
        read_while(root, lambda: builder.exitcode is not None, versions)
    finally:
        stop.set()
        builder.join()
    assert builder.exitcode == 0


def test_files_that_change_under_the_readers_kill_no_process(root: Path) -> None:
    """Replaced, rewritten, cut and removed, they are refused or served as they are then."""
    changes: list[Change] = [put_in_place, rewrite, cut, remove]
    child = SPAWN.Process(target=read_while_a_thread_changes, args=(root, changes))
    child.start()
    child.join()
    assert child.exitcode == 0


def shrink(root: Path, number: int, version: int) -> None:
    """Leave nothing of a file."""
    os.truncate(root / f"{number}.dcm", 0)


def unlink(root: Path, number: int, version: int) -> None:
    """Leave no file."""
    (root / f"{number}.dcm").unlink()


READ_CALLS: dict[str, Callable[[mmindex.Archive], object]] = {
    "frame": lambda archive: archive.frame(uid_of(4), 3),
    "frames": lambda archive: archive.frames([(uid_of(4), 3), (uid_of(4), 1)]),
    "copied-array": lambda archive: archive.array(uid_of(4), 3, copy=True).tobytes(),
    "arrays": lambda archive: archive.arrays([(uid_of(4), 3)]).tobytes(),
    "item": lambda archive: mmindex.FrameDataset(archive, sop_instance_uids=[uid_of(4)])[
        3
    ].tobytes(),
}
CHANGES = {
    "replaced": (put_in_place, StaleIndexError),
    "rewritten": (rewrite, StaleIndexError),
    "cut": (shrink, StaleIndexError),
    "removed": (unlink, MissingFileError),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("read", READ_CALLS)
def test_a_change_in_the_midst_of_a_read_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch, read: str, change: str, when: str
) -> None:
    """Before or after the bytes are there: else they are the old ones, and no process is killed."""
    make_change, error = CHANGES[change]

    def changed_meanwhile(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if when == "before" and (root / "4.dcm").exists():
                make_change(root, 4, 1)
            found = method(*arguments)
            if when == "after" and (root / "4.dcm").exists():
                make_change(root, 4, 1)
            return found

        return call

    def run() -> None:
        with mmindex.open(root, revalidate_after=0) as archive:
            expected = READ_CALLS[read](archive)
            monkeypatch.setattr(FileSource, "view", changed_meanwhile(FileSource.view))
            monkeypatch.setattr(os, "pread", changed_meanwhile(os.pread))
            monkeypatch.setattr(os, "preadv", changed_meanwhile(os.preadv))
            with suppress(error):
                assert READ_CALLS[read](archive) == expected
            with pytest.raises(error, match=r"4\.dcm: the file"):
                READ_CALLS[read](archive)

    assert exit_code(run) == 0


def test_a_rebuild_is_seen_without_opening_the_archive_anew(root: Path) -> None:
    """By every archive of the process."""
    with ExitStack() as stack:
        archives = [stack.enter_context(mmindex.open(root, revalidate_after=0)) for _ in range(3)]
        for version in range(1, 20):
            put_in_place(root, 4, version)
            with pytest.raises(StaleIndexError, match=r"4\.dcm: the file changed"):
                archives[0].frame(uid_of(4), 5)
            mmindex.build(root, workers=1)
            for archive in archives[version % 2 :]:
                assert FRAME.unpack(archive.frame(uid_of(4), 5)) == (4, version, 5, MARK)
                assert FRAME.unpack(archive.frame(uid_of(0), 5)) == (0, 0, 5, MARK)


LONG = 1 << 18  # frames, of which the offsets take more than a mebibyte


def make_long_file(version: int) -> bytes:
    """Return a version of a file of very many frames, of one fragment each."""
    frames = [FRAME.pack(99, version, index, MARK) for index in range(LONG)]
    data_set = element(0x00080018, "UI", uid_of(99)) + element(0x00091001, "OB", bytes(2 * version))
    data_set += image_attributes(number_of_frames=LONG) + encapsulate(frames)
    return dicom_file(data_set, JPEG)


def test_a_table_that_is_read_in_the_index_survives_its_builds(root: Path) -> None:
    """Offsets that are never copied out are right, or the look at them is refused."""
    (root / "long.dcm").write_bytes(make_long_file(0))
    mmindex.build(root, workers=1)
    versions, stop = [0] * FILES, threading.Event()

    def read(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(READS // 4):
            index = chance.randrange(LONG)
            assert FRAME.unpack(archive.frame(uid_of(99), index)) == (99, 0, index, MARK)

    with mmindex.open(root, revalidate_after=0.001) as archive, ThreadPoolExecutor(5) as pool:
        held = archive[uid_of(99)]
        assert held.record.frames is not None
        assert isinstance(held.record.frames.entries, StoredEntries)
        changing = pool.submit(keep_changing, root, versions, stop, [put_in_place])
        try:
            list(pool.map(read, range(4)))
        finally:
            stop.set()
        changing.result()
        (root / "long.dcm").write_bytes(make_long_file(1))
        mmindex.build(root, workers=1)
        with pytest.raises(StaleIndexError, match="look the instance up again"):
            held.frame(77)
        assert FRAME.unpack(archive[uid_of(99)].frame(77)) == (99, 1, 77, MARK)


def test_a_reader_that_is_killed_does_not_make_the_index_grow(root: Path) -> None:
    """What its transaction held is used again by later builds."""
    with mmindex.open(root) as archive:
        archive.frame(uid_of(0), 0)

        def be_killed() -> None:
            transaction = archive._store._environment().env.begin()
            assert transaction.id()
            os.kill(os.getpid(), signal.SIGKILL)

        assert exit_code(be_killed) == -signal.SIGKILL
        sizes = []
        for version in range(1, 101):
            put_in_place(root, 4, version)
            mmindex.build(root, workers=1)
            sizes.append(os.path.getsize(archive.path))
    assert sizes[-1] <= 2 * sizes[20]


COMMITS = """
import sys
import mmindex
for _ in range(3):
    mmindex.build(sys.argv[1], workers=1, full=True)
"""


def test_what_is_read_without_a_lock_is_read_again_if_builds_were_faster(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not open the lock file sees whole commits, too: pages may be used anew under it."""
    mmindex.build(root, workers=1)
    monkeypatch.setattr(opening, "_MODES", ({"readonly": True, "lock": False},))
    entered: list[object] = []
    begin = Environment.begin

    def enter_and_be_overtaken(shared: Environment) -> object:
        txn = begin(shared)
        entered.append(txn)
        if len(entered) == 1:
            subprocess.run([sys.executable, "-c", COMMITS, str(root)], cwd=REPOSITORY, check=True)
        return txn

    for read in (
        lambda archive: [record.path for record in archive.records()],
        list,
        lambda archive: archive.frame(uid_of(4), 5),
        lambda archive: archive.file("4.dcm").record.path,
    ):
        with mmindex.open(root, revalidate_after=0) as archive:
            expected = read(archive)
            entered.clear()
            with monkeypatch.context() as patch:
                patch.setattr(Environment, "begin", enter_and_be_overtaken)
                assert read(archive) == expected
            assert len(entered) > 1


def test_an_index_that_is_always_overtaken_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read for ever."""
    mmindex.build(root, workers=1)
    with mmindex.open(root) as archive:

        def overtake(*ignored: object) -> None:
            raise OvertakenError

        monkeypatch.setattr(Environment, "check_overtaken", overtake)
        with pytest.raises(IndexFormatError, match="written faster than it can be read") as caught:
            list(archive)
        assert caught.value.path == archive.path


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, SystemExit])
def test_who_stops_a_reading_without_a_lock_is_not_asked_to_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, stopped: type[BaseException]
) -> None:
    """Ctrl-C ends it, though builds overtook what was read."""
    mmindex.build(root, workers=1)
    monkeypatch.setattr(opening, "_MODES", ({"readonly": True, "lock": False},))
    with mmindex.open(root) as archive:

        def stop(*ignored: object) -> None:
            subprocess.run([sys.executable, "-c", COMMITS, str(root)], cwd=REPOSITORY, check=True)
            raise stopped

        monkeypatch.setattr(reader_module, "unpack_record", stop)
        with pytest.raises(stopped):
            list(archive.records())


def test_a_fork_reads_no_copy_of_an_index_that_went_on_from_there(tmp_path: Path) -> None:
    """A copy that is put back says that it is the same index, and gives its ids to other files."""
    root, index = tmp_path / "archive", tmp_path / "archive" / ".mmindex"
    root.mkdir()
    (root / "0.dcm").write_bytes(make_file(0))
    mmindex.build(root, workers=1)
    copy = index.read_bytes()
    (root / "1.dcm").write_bytes(make_file(1))
    mmindex.build(root, workers=1)
    with mmindex.open(root) as archive:
        assert archive.frame(uid_of(1), 0)
        index.unlink()
        (root / ".mmindex-lock").unlink()
        index.write_bytes(copy)

        def look_up() -> None:
            with pytest.raises(StaleIndexError):
                archive[uid_of(0)]

        assert exit_code(look_up) == 0


def test_a_fork_reads_no_other_index_that_took_the_place_of_its_own(tmp_path: Path) -> None:
    """The same file id may be another file's there: an index built anew has to be opened anew."""
    count = 20_000  # frames whose entries are kept apart from the record
    frames = [struct.pack("<2I", MARK, index) for index in range(count)]
    for name, uid, padding in (("b", "1.2.1", b""), ("a", "1.2.2", bytes(8))):
        data_set = element(0x00080018, "UI", uid) + image_attributes(number_of_frames=count)
        data_set += encapsulate([frame + padding for frame in frames])
        (tmp_path / f"{name}.dcm").write_bytes(dicom_file(data_set, JPEG))
        if name == "b":
            mmindex.build(tmp_path, workers=1)
            archive = mmindex.open(tmp_path)
            instance = archive["1.2.1"]
            assert archive.frame("1.2.1", 0) == instance.frame(0) == frames[0]
            (tmp_path / ".mmindex").unlink()
            (tmp_path / ".mmindex-lock").unlink()
    build = "import mmindex, sys; mmindex.build(sys.argv[1], workers=1)"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=REPOSITORY, check=True)
    assert instance.frame(15_000) == frames[15_000]

    def read() -> None:
        for ask in (
            lambda: instance.frame(9000),
            lambda: instance.byte_ranges(9001),
            lambda: archive.frame("1.2.1", 9002),
            lambda: archive["1.2.2"],
        ):
            with pytest.raises(StaleIndexError, match="another index is in its place"):
                ask()

    assert exit_code(read) == 0
    assert instance.frame(15_001) == frames[15_001]
    archive.close()
    with mmindex.open(tmp_path) as anew:
        assert anew.frame("1.2.1", 9000) == frames[9000]


def test_forks_while_a_thread_builds_and_others_check_all_come_to_their_end(root: Path) -> None:
    """A call of LMDB in another thread is waited for: in the child nobody would end it."""
    ended = threading.Event()

    def build_on() -> None:
        while not ended.is_set():
            mmindex.build(root, workers=1, full=True)

    def check_on() -> None:
        with mmindex.open(root) as archive:
            while not ended.is_set():
                archive.check_index()

    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(build_on), pool.submit(check_on), pool.submit(check_on)]
        try:
            for _ in range(60):
                pid = os.fork()
                if not pid:
                    os._exit(0)
                for _ in range(2000):
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        break
                    time.sleep(0.005)
                else:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    pytest.fail("a child hangs")
        finally:
            ended.set()
        for thread in threads:
            thread.result()


def test_a_child_that_was_forked_during_a_build_does_not_hold_up_the_next(root: Path) -> None:
    """It has the locked file open, as long as it lives."""
    children = []

    def fork_once(report: object) -> None:
        if not children:
            children.append(start(lambda: time.sleep(LONGEST)))

    try:
        mmindex.build(root, workers=1, full=True, progress=fork_once)
        assert children
        assert mmindex.build(root, workers=1).unchanged == FILES
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            assert wait_for(pid) == -signal.SIGKILL


def test_an_index_that_was_deleted_while_it_was_open_is_built_anew(root: Path) -> None:
    """Its lock file, which says which state is the last, is not that of the new one."""
    for commits in range(3):
        with mmindex.open(root) as archive:
            for _ in range(commits):
                mmindex.build(root, workers=1, full=True)
            (root / ".mmindex").unlink()
            for script in (
                "mmindex.build(sys.argv[1], workers=1)",
                f"mmindex.open(sys.argv[1]).frame({uid_of(1)!r}, 0)",
                "mmindex.open(sys.argv[1]).check_index()",
            ):
                code = f"import mmindex, sys; {script}"
                subprocess.run([sys.executable, "-c", code, str(root)], cwd=REPOSITORY, check=True)
            assert len(list(archive.records())) == FILES
            archive.check_index()


def test_a_compaction_that_is_refused_leaves_the_locks_of_its_process(root: Path) -> None:
    """Else another process could put another file in the index's place, under who reads."""
    for _ in range(3):
        mmindex.build(root, workers=1, full=True)
    code = "from mmindex.index.compact import compact_index; import sys; compact_index(sys.argv[1])"
    with mmindex.open(root) as archive:
        for _ in range(2):
            with pytest.raises(IndexWriteError, match="programs have the index open"):
                compact_index(archive.path)
            done = subprocess.run(
                [sys.executable, "-c", code, archive.path],
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                check=False,
            )
            assert "programs have the index open" in done.stderr


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_an_index_that_cannot_be_looked_at_is_not_called_damaged(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """There is nothing wrong with it: nobody should delete it."""

    def fail(*ignored: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("mmindex.index.lmdb.page_check.check_pages", fail)
    said = f"cannot read the index: {os.strerror(error)}"
    with mmindex.open(root) as archive:
        with pytest.raises(MMIndexError, match=said) as caught:
            list(archive.records())
        assert not isinstance(caught.value, IndexFormatError)


def test_an_index_that_was_deleted_or_replaced_while_it_is_open_is_read_on(root: Path) -> None:
    """What is at its path by now is another file, or none, and says nothing about it."""
    with mmindex.open(root) as archive:
        (root / ".mmindex").unlink()
        assert len(list(archive.records())) == FILES
        (root / ".mmindex").write_bytes(bytes(1 << 20))
        assert len(archive) == FILES
        archive.check_index()
