"""Room in the folder of temporary files, which scans of whole objects share."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_AT_ONCE = 4  # scans of whole objects, each of which takes some 40 MiB of memory

_changed = threading.Condition()
_taken: list[int] = []  # bytes that scans which run may yet take


@contextmanager
def temporary_room(length: int) -> Iterator[None]:
    """Wait until there is room for a scan that may take so many bytes, for a `with` statement.

    One that runs alone need not have room: it may take less.
    """
    with _changed:
        _changed.wait_for(lambda: _has_room(length))
        _taken.append(length)
    try:
        yield
    finally:
        with _changed:
            _taken.remove(length)
            _changed.notify_all()


def _renew() -> None:
    """Begin with no scan: those of the parent, which may hold the lock, run in no child."""
    global _changed, _taken
    _changed, _taken = threading.Condition(), []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def _has_room(length: int) -> bool:
    if not _taken:
        return True
    if len(_taken) >= _AT_ONCE:
        return False
    return sum(_taken) + length <= shutil.disk_usage(tempfile.gettempdir()).free
