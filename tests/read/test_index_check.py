"""The check of an index in a process of its own: the same verdicts, before any problem is shown."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from child_process import LONGEST, start
from dicom_bytes import write_numbered

import mmindex
from mmindex.errors import IndexFormatError
from mmindex.index.index_file import CheckedPages
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.reader import Reader
from mmindex.read import index_check
from mmindex.read.index_check import IndexCheck, begin_check

COUNT = 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive with duplicates, from which a file is gone and to which one came."""
    root = tmp_path / "archive"
    root.mkdir()
    for number in range(COUNT):
        write_numbered(root, number, uid=number % 20)
    mmindex.build(root, workers=1)
    (root / "000.dcm").unlink()
    write_numbered(root, COUNT, uid=COUNT % 20)
    return root


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small indexes be checked in a process of its own, on a machine of any size."""
    monkeypatch.setattr(index_check, "_LEAST_FILES", 0)
    monkeypatch.setattr(index_check, "_may_start_process", lambda: True)


def list_problems(root: Path) -> list[tuple[str, str, str]]:
    with mmindex.open(root) as archive:
        return sorted((each.path, each.kind, each.detail) for each in archive.problems())


def test_problems_are_those_of_one_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone, new and duplicate files; the process is one more, and ends."""
    expected = list_problems(root)
    assert {kind for _, kind, _ in expected} == {"missing", "new", "duplicate"}
    monkeypatch.setattr(index_check, "_LEAST_FILES", 0)
    monkeypatch.setattr(index_check, "_may_start_process", lambda: True)
    made: list[IndexCheck] = []

    def begin(store: Reader) -> IndexCheck | None:
        check = begin_check(store)
        assert check is not None
        made.append(check)
        return check

    monkeypatch.setattr("mmindex.read.problems.begin_check", begin)
    assert list_problems(root) == expected
    (check,) = made
    assert check._process.exitcode == 0


def overwrite_checksum(index: Path) -> None:
    """Change a byte of a record."""
    data = bytearray(index.read_bytes())
    data[data.index(b"1.2.3.7")] ^= 1
    index.write_bytes(data)


def overwrite_page(index: Path) -> None:
    """Fill the pages of one database's leaves with zeros, but for their headers."""
    data = bytearray(index.read_bytes())
    at = data.index(b"1.2.5.29") // 4096 * 4096
    data[at + 16 : at + 4096] = bytes(4080)
    index.write_bytes(data)


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("damage", [overwrite_checksum, overwrite_page])
def test_of_a_damaged_index_no_problem_is_shown(root: Path, damage: Callable[[Path], None]) -> None:
    """The error is the one of a check in this process."""
    damage(root / ".mmindex")
    with mmindex.open(root) as archive:
        with pytest.raises(IndexFormatError) as alone:
            archive.check_index()
        with pytest.raises(IndexFormatError) as beside:
            next(archive.problems())
    assert str(beside.value) == str(alone.value)
    assert beside.value.path == str(root / ".mmindex")


@pytest.mark.usefixtures("beside")
def test_an_index_whose_check_was_killed_is_checked_here(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of memory that ran out: neither an error nor a check left out."""
    overwrite_checksum(root / ".mmindex")
    parent = os.getpid()
    check = Reader.check

    def check_or_die(self: Reader) -> object:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return check(self)

    monkeypatch.setattr(Reader, "check", check_or_die)
    with mmindex.open(root) as archive, pytest.raises(IndexFormatError, match="damaged index"):
        list(archive.problems())


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("is_there", [True, False])
def test_an_index_that_another_took_the_place_of_is_checked_here(
    root: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """The archive reads on in the file that it opened, of which the other process knows nothing."""
    index, other = root / ".mmindex", root.parent / "other"
    expected = list_problems(root)
    mmindex.build(root, other, workers=1)
    start, check, checked = IndexCheck.__init__, Reader.check, []

    def replace_and_start(self: IndexCheck, store: Reader) -> None:
        if is_there:
            other.replace(index)
        else:
            index.unlink()
        start(self, store)

    def check_and_note(self: Reader) -> CheckedPages:
        checked.append(os.getpid())
        return check(self)

    monkeypatch.setattr(IndexCheck, "__init__", replace_and_start)
    monkeypatch.setattr(Reader, "check", check_and_note)
    assert list_problems(root) == expected
    assert checked == [os.getpid()]


@pytest.mark.usefixtures("beside")
def test_a_check_ends_whatever_the_program_does_on_signals(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler of SIGTERM is the program's: in the other process, too, since that is a fork."""
    monkeypatch.setattr(Reader, "check", lambda self: time.sleep(20))
    handler = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with mmindex.open(root) as archive:
            check = begin_check(archive._store)
            assert check is not None
            started = time.monotonic()
            check.close()
            assert time.monotonic() - started < 10
    finally:
        signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("beside")
def test_without_room_for_a_process_the_check_is_done_here(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where `ulimit -u` is reached."""

    def fail() -> int:
        raise BlockingIOError("no more processes")

    expected = list_problems(root)  # of a process
    monkeypatch.setattr(os, "fork", fail)
    assert list_problems(root) == expected
    overwrite_checksum(root / ".mmindex")
    with pytest.raises(IndexFormatError, match="damaged index"):
        list_problems(root)


@pytest.mark.usefixtures("beside")
def test_pages_are_checked_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads after the check leave out what the other process did; a commit asks for it again."""
    with mmindex.open(root) as archive:
        store = archive._store
        check = begin_check(store)
        assert check is not None
        check.end()
        check.close()
        shared = store._environment()
        with shared.lock, shared.begin() as raw:
            transaction = Transaction(raw, shared.opened)
            assert set(shared.opened.checked.values()) == {transaction.id()}
            monkeypatch.setattr("mmindex.index.lmdb.page_check.check_pages", None)
            transaction.check("files", "instances")
        store.note_checked(CheckedPages((1, 2), 77))
        assert 77 not in shared.opened.checked.values()


@pytest.mark.usefixtures("beside")
def test_whoever_stops_early_leaves_no_process(root: Path) -> None:
    """The first problem is enough for some."""
    with mmindex.open(root) as archive:
        problems = archive.problems()
        next(problems)
        problems.close()  # type: ignore[attr-defined]
        assert not multiprocessing.active_children()


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_process_ends_with_one_that_is_killed(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Else a check of hours would go on for nobody, and hold the output of the command open."""
    reader, writer = os.pipe()

    def hang(_: Reader) -> None:
        os.write(writer, b"1")
        time.sleep(LONGEST)

    monkeypatch.setattr(Reader, "check", hang)
    child = start(lambda: list_problems(root))
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"1"
        os.kill(child, number)
        os.waitpid(child, 0)
        ended, _, _ = select.select([reader], [], [], 10)
        assert ended, "a process has the pipe open"
        assert os.read(reader, 1) == b""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.close(reader)


def test_a_process_with_threads_starts_no_other(root: Path) -> None:
    """A fork copies one thread, and the locks of all."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert not index_check._may_start_process()
    finally:
        ended.set()
        thread.join()
    with mmindex.open(root) as archive:
        assert begin_check(archive._store) is None  # so small an index takes no time
