"""Locks of an index: none stays held when a signal raises right after it was taken.

Signals strike in a child: locks of the standard library may stay held (that of logging, in a fork).
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import lmdb
import pytest
from child_process import exit_code
from dicom_bytes import dicom_file, element, image_attributes

import mmindex
from mmindex.errors import IndexWriteError
from mmindex.index.lmdb import environment, locks


class Storm(Exception):
    """What a signal raises."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(3):
        data_set = element(0x00080018, "UI", f"1.2.{number}") + image_attributes(number_of_frames=1)
        data_set += element(0x7FE00010, "OB", bytes(16))
        (tmp_path / f"{number}.dcm").write_bytes(dicom_file(data_set))
    mmindex.build(tmp_path, workers=1)
    return tmp_path


def raise_storm(number: int, frame: object) -> None:
    raise Storm


def in_another_thread() -> bool:
    """Return whether all locks can be taken elsewhere."""
    taken = []

    def take() -> None:
        for lock in [locks.process, *(e.lock for e in environment._environments.values())]:
            taken.append(lock.acquire(timeout=5))
            if taken[-1]:
                lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return all(taken)


def weather(read: object, rounds: int) -> int:
    """Call something while a signal strikes after an ever longer time; return how often it did."""
    struck = 0
    before = signal.signal(signal.SIGALRM, raise_storm)
    try:
        for number in range(rounds):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 150))
                read()  # type: ignore[operator]
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Storm:
                struck += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return struck


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # files that a signal leaves to be closed
@pytest.mark.parametrize("what", ["find", "frame", "listing", "open"])
def test_a_signal_leaves_no_lock_held(root: Path, what: str) -> None:
    """Thousands of signals, each a microsecond later in what is done."""

    def strike() -> None:
        with mmindex.open(root, revalidate_after=0) as archive:
            reads = {
                "find": lambda: archive._store.find_uid("instances", "1.2.1"),
                "frame": lambda: archive.frame("1.2.1", 0),
                "listing": lambda: list(archive.records()),
                "open": lambda: mmindex.open(root).close(),
            }
            assert weather(reads[what], 3000) > 100
            assert in_another_thread()
            assert len(list(archive.records())) == 3

    assert exit_code(strike) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_during_a_fork_leaves_no_lock_held(root: Path) -> None:
    """The hooks of a fork cannot be left by an exception: Python goes on and forks."""

    def strike() -> None:
        with mmindex.open(root) as archive:
            assert list(archive)

            def fork() -> None:
                pid = 0
                try:
                    pid = os.fork()
                    if not pid:
                        os._exit(0)
                finally:
                    if pid:
                        os.waitpid(pid, 0)

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                weather(fork, 150)
            assert not locks._held
            assert in_another_thread()
            assert len(list(archive.records())) == 3

    assert exit_code(strike) == 0


def test_hooks_of_a_fork_can_run_twice() -> None:
    """Each is registered twice, since the exception of a signal can keep one from running."""
    other = threading.RLock()
    listed = []

    def list_others() -> list[threading.RLock]:
        listed.append(locks.process in locks._held)
        return [other]

    locks.hold_for_fork(list_others)
    locks.hold_for_fork(list_others)
    assert locks._held == [locks.process, other]
    assert listed == [True, True]  # under the lock that keeps others from opening an index
    locks.release_after_fork()
    locks.release_after_fork()
    assert in_another_thread()


def test_a_folder_that_another_program_has_locked_stops_nobody_for_ever(tmp_path, monkeypatch):
    """Anybody who may read a folder can lock it: the first build there says so."""
    monkeypatch.setattr(locks, "LONGEST_WAIT", 0.05)
    number = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        with pytest.raises(IndexWriteError, match="has locked the folder"):
            mmindex.build(tmp_path, workers=1)
    finally:
        os.close(number)
    assert mmindex.build(tmp_path, workers=1).found == 0


def test_an_index_opens_and_is_read_while_another_program_writes_to_it(root: Path) -> None:
    """LMDB has one transaction that writes at a time: to open an index takes none."""
    work = "import mmindex, sys; archive = mmindex.open(sys.argv[1]); print(len(list(archive)))"
    with (
        lmdb.open(str(root / ".mmindex"), subdir=False, max_dbs=16) as env,
        env.begin(write=True) as txn,
    ):
        txn.put(b"a", b"key")
        done = subprocess.run(
            [sys.executable, "-c", work, str(root)], capture_output=True, timeout=30, check=True
        )
        txn.abort()
    assert done.stdout == b"3\n"
