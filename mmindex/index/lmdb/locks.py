"""All locks of an index, in the order in which they are taken.

    lock                       guards                                   taken by
    only_writer: flock on      one build, merge or compaction at a      whoever writes, before the
      the index file           time, on this machine                    index is opened; build and
                                                                        update wait for a while
    process: RLock             the table of open environments; the      open, close, exclusively,
                               fork of this process                     fork
    Environment.lock: RLock    one environment: no transaction while    every transaction, close,
                               it closes or the process is forked       fork
    exclusively: fcntl lock    an LMDB file that is not open          compaction; never waits
      on byte 0 of `-lock`     (LMDB's own users share this lock)
    alone_in: flock on the     the moment in which a new index gets     build, merge; whoever opens
      folder                   its name and loses an older `-lock`,     an index meanwhile; a moment
                               or an empty file is removed there
    LMDB's mutex in `-lock`    one write transaction at a time          LMDB
    _LOCK of read/             copies of indexes at URLs: one thread    opening an index by URL;
      fetched_index.py         fetches or removes a copy at a time      no other lock is held

Locks are taken by a `with` statement on the lock itself: an exception of a signal that lands right
after a lock was taken finds it inside the statement. Only the hooks of a fork cannot do that; each
lock is noted before it is taken, and the hooks can run twice.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mmindex.errors import IndexFormatError, IndexWriteError
from mmindex.index.lmdb.beside import open_lock_file, open_lock_to_read

process = threading.RLock()  # of this process: a forked child gets another one
_held: list[threading.RLock] = []  # by a fork that is under way
_exclusive: set[str] = set()  # indexes that this process holds exclusively

LONGEST_WAIT = 10.0  # seconds for a lock that LMDB would wait for without end
_POLL = 0.01
# struct flock: type, whence, start, length, process
_IS_MAC = sys.platform == "darwin"
_FLOCK = struct.Struct("qqihh" if _IS_MAC else "hhqqi")


def hold_for_fork(list_others: Callable[[], list[threading.RLock]]) -> None:
    """Take the process's lock, then those that are listed under it, but for those held already."""
    _hold(process)
    for lock in list_others():
        _hold(lock)


def _hold(lock: threading.RLock) -> None:
    if lock not in _held:
        _held.append(lock)
        lock.acquire()


def release_after_fork() -> None:
    """Release what `hold_for_fork` took, in the parent."""
    while _held:
        with suppress(RuntimeError):  # noted, but not taken
            _held[-1].release()
        _held.pop()


def renew_in_child() -> None:
    """Give a forked child a lock of its own: its parent's other threads hold none here."""
    global process
    process = threading.RLock()
    _held.clear()
    _exclusive.clear()


@contextmanager
def only_writer(path: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the index's write lock. Take it before opening the index.

    The lock is on the index file, which LMDB itself never locks, and ends with the process.

    Parameters
    ----------
    wait : float
        Seconds to wait for another process that writes the index.

    Raises
    ------
    IndexFormatError, IndexWriteError
        The path is that of no regular file; another process writes the index.
    """
    if not os.path.isfile(path):
        raise IndexFormatError("not an mmindex index: no regular file", path=path)
    end = time.monotonic() + wait
    while True:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if (left := end - time.monotonic()) > 0:
                    time.sleep(min(_POLL, left))
                    continue
                waited = f" after {wait:g} s" if wait else ""
                raise IndexWriteError(
                    f"another build of this index is at work{waited}: wait for it to end", path=path
                ) from None
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                holder = os.getpid()
                try:
                    yield
                finally:
                    # To close it is not enough: a process that was forked meanwhile has it open.
                    if os.getpid() == holder:
                        fcntl.flock(file, fcntl.LOCK_UN)
                return
        # Between open and lock a compaction has put another file there.


@contextmanager
def exclusively(path: str) -> Iterator[None]:
    """Hold an index file that no other process has open.

    LMDB's users each hold a shared lock on the first byte of its lock file, and wait for it.
    Hold `process`, and have closed all environments of this file, before.

    Raises
    ------
    IndexWriteError
        Another process has the index open, or its lock file is another's.
    """
    number = open_lock_file(path)
    try:
        try:
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except OSError:
            raise in_use(path) from None
        _exclusive.add(path)
        yield
    finally:
        _exclusive.discard(path)
        os.close(number)


def in_use(path: str) -> IndexWriteError:
    """Return the error for an index that another program has open."""
    return IndexWriteError(
        "programs have the index open: try again when they have closed it", path=path
    )


def wait_for_lmdb(path: str, index: os.stat_result | None = None) -> bool:
    """Wait until LMDB can open the lock file of an index, for `LONGEST_WAIT` at most.

    The lock is looked at and not taken: LMDB tells by it whether others have the index open. The
    file is created where there is none.

    Parameters
    ----------
    index : os.stat_result, optional
        The index file, for a reader: see `open_lock_to_read`.

    Returns
    -------
    bool
        Whether LMDB can open the file.

    Raises
    ------
    IndexWriteError
        As `open_lock_file`; never for a reader.
    """
    if path in _exclusive:
        return True
    number = open_lock_file(path) if index is None else open_lock_to_read(path, index)
    if number is None:
        return False
    try:
        end = time.monotonic() + LONGEST_WAIT
        while _is_held(number):
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL)
        return True
    finally:
        os.close(number)


def _is_held(number: int) -> bool:
    """Return whether another process holds the first byte of a file for itself."""
    wanted = (fcntl.F_RDLCK, os.SEEK_SET)
    asked = (0, 1, 0, *wanted) if _IS_MAC else (*wanted, 0, 1, 0)
    answer = fcntl.fcntl(number, fcntl.F_GETLK, _FLOCK.pack(*asked))
    found: int = _FLOCK.unpack(answer)[3 if _IS_MAC else 0]
    return found != fcntl.F_UNLCK


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Wait for other processes that do this in the same folder, for `LONGEST_WAIT` at most.

    Raises
    ------
    IndexWriteError
        Another process keeps the folder locked, as any that may read it can.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + LONGEST_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise IndexWriteError(
                        f"another program has locked the folder for {LONGEST_WAIT:.0f} seconds: "
                        "end it",
                        path=folder,
                    ) from None
                time.sleep(_POLL)
        try:
            yield
        finally:  # to close it is not enough where a process was forked meanwhile
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
