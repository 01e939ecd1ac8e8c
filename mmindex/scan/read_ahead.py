"""Advice on the pages of a mapped file that a scan will read: a cold disk then reads these alone.

Without advice, each look at a page makes the system read what lies around it: up to megabytes for
one entry of a table. Short files are read whole by a few such looks, and other buffers are in
memory: advice on them is dropped.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from mmindex.model import Buffer

_SHORT = 1 << 22  # bytes of a file that a few looks read whole: for one, systems read 128 KiB


def will_need(buffer: Buffer, ranges: Iterable[tuple[int, int]]) -> None:
    """Begin to read all pages of some ranges, each from its start to its end, at the same time."""
    size = len(buffer)
    if not isinstance(buffer, mmap.mmap) or size <= _SHORT:
        return
    advise, page, advice = buffer.madvise, mmap.PAGESIZE, mmap.MADV_WILLNEED
    with suppress(OSError):  # a file system need not take advice
        for start, end in ranges:
            first = start - start % page if start > 0 else 0
            length = (end if end < size else size) - first
            if length > 0:
                advise(advice, first, length)


@contextmanager
def looked_at_here_and_there(buffer: Buffer) -> Iterator[None]:
    """Read only the pages that are looked at, for a `with` statement."""
    if not isinstance(buffer, mmap.mmap) or len(buffer) <= _SHORT:
        yield
        return
    with suppress(OSError):
        buffer.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        with suppress(OSError):
            buffer.madvise(mmap.MADV_NORMAL)
