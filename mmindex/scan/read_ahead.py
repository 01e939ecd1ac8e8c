"""Advice on the pages of a mapped file that a scan will read: a cold disk then reads these alone.

Without advice, each look at a page makes the system read what lies around it: up to megabytes for
one entry of a table. Other buffers are in memory, and the advice is dropped.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from mmindex.model import Buffer


def will_need(buffer: Buffer, ranges: Iterable[tuple[int, int]]) -> None:
    """Begin to read all pages of some ranges, each from its start to its end, at the same time."""
    if not isinstance(buffer, mmap.mmap):
        return
    for start, end in ranges:
        first = max(0, start) // mmap.PAGESIZE * mmap.PAGESIZE
        length = min(end, len(buffer)) - first
        if length > 0:
            _advise(buffer, mmap.MADV_WILLNEED, first, length)


@contextmanager
def looked_at_here_and_there(buffer: Buffer) -> Iterator[None]:
    """Read only the pages that are looked at, for a `with` statement."""
    if not isinstance(buffer, mmap.mmap):
        yield
        return
    _advise(buffer, mmap.MADV_RANDOM, 0, len(buffer))
    try:
        yield
    finally:
        _advise(buffer, mmap.MADV_NORMAL, 0, len(buffer))


def _advise(buffer: mmap.mmap, advice: int, start: int, length: int) -> None:
    with suppress(OSError):  # a file system need not take advice
        buffer.madvise(advice, start, length)
