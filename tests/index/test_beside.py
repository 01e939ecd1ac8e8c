"""Files beside an index: what another user may have planted there, and what is the user's own."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest
from child_process import exit_code, forks
from dicom_bytes import (
    dicom_file,
    element,
    image_attributes,
)

import mmindex
from mmindex.errors import (
    IndexFormatError,
    IndexWriteError,
    MMIndexError,
)
from mmindex.index.compact import compact_index
from mmindex.index.lmdb import locks

TEXT = b"a letter of the user\n" * 500
UID = "1.2.3"
LOCK_MAGIC = bytes.fromhex("dec0efbe")  # LMDB's, at the start of lock files
NOBODY = 65534  # a user without rights
REPOSITORY = Path(__file__).resolve().parents[2]


def write_file(path: Path, uid: str = UID) -> None:
    data_set = element(0x00080018, "UI", uid) + image_attributes(number_of_frames=1)
    data_set += element(0x7FE00010, "OB", bytes(16))
    path.write_bytes(dicom_file(data_set))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    root.mkdir()
    write_file(root / "a.dcm")
    return root


@pytest.fixture
def letter(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "letter.txt"
    path.write_bytes(TEXT)
    yield path
    assert path.read_bytes() == TEXT


def plant_link(path: Path, letter: Path) -> None:
    path.symlink_to(letter)


def plant_hard_link(path: Path, letter: Path) -> None:
    path.hardlink_to(letter)


def plant_pipe(path: Path, letter: Path) -> None:
    os.mkfifo(path)


PLANTED = pytest.mark.parametrize("plant", [plant_link, plant_hard_link, plant_pipe])
Plant = Callable[[Path, Path], None]


@PLANTED
def test_a_planted_lock_file_is_not_written_through_by_a_reader(
    root: Path, letter: Path, plant: Plant
) -> None:
    """The reader does without the lock file, and leaves what is in its place."""
    mmindex.build(root, workers=1)
    lock = root / ".mmindex-lock"
    lock.unlink()
    plant(lock, letter)
    before = os.lstat(lock)
    with mmindex.open(root) as archive:
        assert len(archive.frame(UID, 0)) > 0
        archive.check_index()
    after = os.lstat(lock)
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        *(before.st_ino, before.st_size, before.st_mtime_ns),
    )


@PLANTED
def test_a_planted_lock_file_is_not_written_through_by_a_build(
    root: Path, letter: Path, plant: Plant
) -> None:
    """The build is refused, and says which file is in its way."""
    mmindex.build(root, workers=1)
    (root / ".mmindex-lock").unlink()
    plant(root / ".mmindex-lock", letter)
    for write in (
        lambda: mmindex.build(root, workers=1, full=True),
        lambda: compact_index(root / ".mmindex"),
    ):
        with suppress(IndexWriteError):
            write()
    with pytest.raises(IndexWriteError) as caught:
        mmindex.build(root, workers=1, full=True)
    assert caught.value.path == str(root / ".mmindex-lock")


@PLANTED
@pytest.mark.parametrize("suffix", ["-lock", "-writing"])
def test_a_new_index_takes_over_nothing_that_is_planted(
    root: Path, letter: Path, plant: Plant, suffix: str
) -> None:
    """A first build beside a link to the user's file is refused."""
    plant(root / f".mmindex{suffix}", letter)
    with pytest.raises(IndexWriteError):
        mmindex.build(root, workers=1)


@pytest.mark.parametrize("number", ["0", str(os.getpid())], ids=["0", "own process"])
def test_an_unfinished_file_that_is_a_link_is_replaced(
    root: Path, letter: Path, number: str
) -> None:
    """The names of unfinished files can be guessed."""
    (root / f".mmindex.new-{number}").symlink_to(letter)
    mmindex.build(root, workers=1)
    compact_index(root / ".mmindex")
    with mmindex.open(root) as archive:
        assert list(archive) == [UID]
    assert letter.read_bytes() == TEXT


@pytest.mark.parametrize("text", [b"", b"mine\n", b"12a", b"9" * 21])
@pytest.mark.parametrize("suffix", ["-lock", "-writing"])
def test_files_of_the_user_with_such_names_are_left_alone(
    root: Path, tmp_path: Path, suffix: str, text: bytes
) -> None:
    """`--index x` does not take over `x-lock` and `x-writing`, be x there or not."""
    if suffix == "-writing" and not text:
        pytest.skip("a build that was killed leaves an empty note")
    own = tmp_path / f"x{suffix}"
    own.write_bytes(text)
    with pytest.raises(IndexWriteError, match="move it away") as caught:
        mmindex.build(root, tmp_path / "x", workers=1)
    assert caught.value.path == str(own)
    assert own.read_bytes() == text
    own.unlink()
    mmindex.build(root, tmp_path / "x", workers=1)
    (tmp_path / "x-lock").unlink()
    own.write_bytes(text)
    with pytest.raises(IndexWriteError, match="move it away"):
        mmindex.build(root, tmp_path / "x", workers=1, full=True)
    assert own.read_bytes() == text


def test_the_note_of_a_killed_build_is_replaced(root: Path) -> None:
    """Digits are what a build writes there."""
    mmindex.build(root, workers=1)
    (root / ".mmindex-writing").write_bytes(b"12345")
    mmindex.build(root, workers=1, full=True)
    assert not (root / ".mmindex-writing").exists()


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "rb+")
fcntl.lockf(file, fcntl.LOCK_EX, 1)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_that_is_held_for_ever_keeps_no_reader_waiting(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB would wait for the first byte of its lock file without end."""
    mmindex.build(root, workers=1)
    monkeypatch.setattr(locks, "LONGEST_WAIT", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root / ".mmindex-lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with mmindex.open(root) as archive:
            assert list(archive) == [UID]
        with pytest.raises(IndexWriteError, match="has held the lock file"):
            mmindex.build(root, workers=1)
        assert holder.stdin is not None
        holder.stdin.close()
    mmindex.build(root, workers=1)


@pytest.mark.parametrize("what", ["owner", "folder", "lock"])
def test_what_others_may_write_is_read_without_its_lock_file(
    root: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock file of an index that is another's, or where others write, is not touched."""
    mmindex.build(root, workers=1)
    lock = root / ".mmindex-lock"
    if what == "folder":
        lock.unlink()
        root.chmod(0o777)
    elif what == "lock":
        lock.chmod(0o666)
    else:
        lock.unlink()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    modified = lock.stat().st_mtime_ns if lock.exists() else None
    with mmindex.open(root) as archive:
        assert not archive._store._environment().locked
        assert list(archive) == [UID]
    assert (lock.stat().st_mtime_ns if lock.exists() else None) == modified
    assert sorted(path.name for path in root.iterdir()) == sorted(
        [".mmindex", "a.dcm"] + [".mmindex-lock"] * (what == "lock")
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_an_index_that_may_only_be_read_has_nothing_written_beside() -> None:
    """The folder could be written, the index cannot: no lock file comes to be there."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_file(root / "a.dcm")
        mmindex.build(root, workers=1)
        (root / ".mmindex").chmod(0o644)
        (root / "a.dcm").chmod(0o644)
        (root / ".mmindex-lock").unlink()
        os.chown(root, NOBODY, NOBODY)

        def read_as_nobody() -> bool:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with mmindex.open(root) as archive:
                return list(archive) == [UID] and len(archive.frame(UID, 0)) > 0

        assert exit_code(read_as_nobody) == 0
        assert sorted(path.name for path in root.iterdir()) == [".mmindex", "a.dcm"]


def test_an_archive_that_was_opened_without_a_lock_can_be_built_in_the_same_process(
    root: Path,
) -> None:
    """A team's folder that others may write: readers go on with the builder's environment."""
    mmindex.build(root, workers=1)
    root.chmod(0o777)
    with mmindex.open(root) as archive:
        assert list(archive) == [UID]
        write_file(root / "b.dcm", "1.2.4")
        mmindex.build(root, workers=1)
        assert list(archive) == [UID, "1.2.4"]


@pytest.mark.parametrize(("folder", "widest"), [(0o700, 0o600), (0o750, 0o640), (0o755, 0o644)])
def test_an_index_has_no_wider_permissions_than_its_folder(
    root: Path, folder: int, widest: int
) -> None:
    """An index has UIDs and paths of patients: index, lock file and a compacted copy."""
    root.chmod(folder)
    before = os.umask(0)
    try:
        mmindex.build(root, workers=1)
        for number in range(60):
            write_file(root / f"{number}.dcm", f"1.2.5.{number}")
            mmindex.build(root, workers=1)
        compact_index(root / ".mmindex")
    finally:
        os.umask(before)
    for name in (".mmindex", ".mmindex-lock"):
        assert stat.S_IMODE((root / name).stat().st_mode) == widest


def test_a_reader_maps_as_much_as_it_needs(root: Path) -> None:
    """An index of 50 kB opens where there is little address space."""
    mmindex.build(root, workers=1)
    code = (
        "import resource, sys, mmindex; resource.setrlimit(resource.RLIMIT_AS, "
        "(400_000 << 10, 400_000 << 10)); print(list(mmindex.open(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"['{UID}']\n", done.stderr


def test_without_address_space_the_index_is_not_called_damaged(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody should delete it."""
    mmindex.build(root, workers=1)

    def fail(*ignored: object, **options: object) -> None:
        raise lmdb.MemoryError("Cannot allocate memory")

    monkeypatch.setattr(lmdb, "open", fail)
    with pytest.raises(MMIndexError, match="out of address space") as caught:
        mmindex.open(root)
    assert type(caught.value) is MMIndexError


def test_a_reader_follows_an_index_that_outgrows_its_map(root: Path) -> None:
    """Another process makes it a hundred times as large."""
    mmindex.build(root, workers=1)
    with mmindex.open(root) as archive:
        assert list(archive) == [UID]
        for number in range(1000):
            write_file(root / f"{number}.dcm", f"1.2.5.{number}")
        code = "import mmindex, sys; mmindex.build(sys.argv[1], workers=1)"
        subprocess.run([sys.executable, "-c", code, str(root)], cwd=REPOSITORY, check=True)
        assert len(list(archive)) == 1001
        archive.check_index()


def test_archives_that_are_dropped_let_go_of_their_maps(root: Path, tmp_path: Path) -> None:
    """1,000 opens without a call of close(), of as many indexes."""
    mmindex.build(root, workers=1)
    data = (root / ".mmindex").read_bytes()
    for number in range(1000):
        path = tmp_path / f"{number}.mmindex"
        path.write_bytes(data)
        assert len(list(mmindex.open(path, archive_root=root))) == 1
        if number > 10:
            (tmp_path / f"{number - 10}.mmindex").unlink()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert sum(".mmindex" in line for line in maps) < 50


def test_two_processes_of_one_number_are_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two containers LMDB's lock on the process id is held by the other one."""
    mmindex.build(root, workers=1)

    class Busy:
        def begin(self, **options: object) -> None:
            raise lmdb.LockError("mdb_txn_begin: Resource temporarily unavailable")

    with mmindex.open(root) as archive:
        shared = archive._store._environment()
        monkeypatch.setattr(shared, "env", Busy())
        with pytest.raises(MMIndexError, match="two containers") as caught:
            list(archive)
        assert type(caught.value) is MMIndexError
        monkeypatch.undo()


def test_the_probe_of_a_lock_takes_no_lock(root: Path) -> None:
    """Who looks whether it is free keeps nobody from opening the index."""
    mmindex.build(root, workers=1)
    with open(root / ".mmindex-lock", "rb+") as lock:
        assert locks.wait_for_lmdb(str(root / ".mmindex"))
        assert exit_code(lambda: fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)) == 0


INDEX_OPENINGS: dict[str, Callable[[Path], object]] = {
    "open": mmindex.open,
    "build": lambda path: mmindex.build(path.parent, path, workers=1),
}


@forks
@pytest.mark.parametrize("open_index", INDEX_OPENINGS.values(), ids=INDEX_OPENINGS)
def test_a_fifo_in_the_place_of_an_index_is_refused(
    tmp_path: Path, open_index: Callable[[Path], object]
) -> None:
    """Nobody waits for somebody to write to it."""
    path = tmp_path / "index"
    os.mkfifo(path)

    def refuse() -> None:
        signal.alarm(10)
        with pytest.raises(IndexFormatError, match="not an mmindex index"):
            open_index(path)

    assert exit_code(refuse) == 0
