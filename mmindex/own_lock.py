"""A lock for threads of one process, which a forked child never finds held."""

from __future__ import annotations

import os
from threading import Lock


class OwnLock:
    """A lock that belongs to a process: a child does not wait for the threads of its parent."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: dict[int, Lock] = {}  # by process

    def __enter__(self) -> None:
        self._locks.setdefault(os.getpid(), Lock()).acquire()  # one, whichever thread is first

    def __exit__(self, *_: object) -> None:
        lock = self._locks.get(os.getpid())
        if lock is not None:  # else the process was forked inside
            lock.release()
