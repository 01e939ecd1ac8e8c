"""Files out of the page cache: their pages are dropped, and counted, since some may stay."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from scripts.benchmark.model import CannotReadError


class PagesStayError(CannotReadError):
    """The system keeps pages of a file in its cache, or does not report them."""


def drop_pages(folder: Path) -> None:
    """Write the files of a folder to disk and drop their pages.

    Raises
    ------
    PagesStayError
        A page of them is in the cache all the same.
    """
    if not hasattr(os, "posix_fadvise"):
        raise PagesStayError("the system cannot be asked to drop the pages of a file")
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if count := count_cached_pages(path):
            raise PagesStayError(f"{count} pages of {path.name} stay in the cache")


def count_cached_pages(path: Path) -> int:
    """Return how many pages of a file are in the page cache, as mincore(2) has it.

    A read with RWF_NOWAIT would tell less, and begin to read ahead.

    Raises
    ------
    PagesStayError
        The system has no mincore, or refuses it.
    """
    size = path.stat().st_size
    if not size:
        return 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        found = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        try:
            start = ctypes.c_void_p(ctypes.addressof(first))
            failed = ctypes.CDLL(None).mincore(start, ctypes.c_size_t(size), found)
        except AttributeError:
            failed = True
        finally:
            del first  # the map cannot be closed before
    if failed:
        raise PagesStayError("the system does not report which pages are in the cache")
    return sum(page & 1 for page in found)
