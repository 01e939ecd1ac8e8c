"""The right to write an index: one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmindex.errors import IndexFormatError, IndexWriteError


@contextmanager
def only_writer(path: str) -> Iterator[None]:
    """Hold the right to write this index, which is to be had before it is opened.

    The lock is on the index file, which LMDB itself never locks (it has a file for that), and
    ends with the process.
    """
    if not os.path.isfile(path):
        raise IndexFormatError("not an mmindex index: no regular file", path=path)
    try:
        import fcntl
    except ImportError:  # not POSIX: LMDB still lets one transaction write at a time
        yield
        return
    while True:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise IndexWriteError(
                    "another build of this index is at work: wait for it to end", path=path
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
