"""A lock for threads of one process, which a forked child never finds held."""

from __future__ import annotations

import os
from threading import Lock


class OwnLock:
    """A lock that belongs to a process: a child does not wait for the threads of its parent."""

    __slots__ = ("_lock", "_process")

    def __init__(self) -> None:
        self._lock, self._process = Lock(), os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self._lock, self._process = Lock(), os.getpid()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
