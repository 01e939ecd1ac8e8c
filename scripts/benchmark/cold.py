"""Cases: the same reads with files out of the page cache, where the system drops them.

Before every call the pages of the image and of the indexes beside it are dropped, and counted:
where some stay, nothing is measured.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.data import LAYOUTS, write_image
from scripts.benchmark.frames import first
from scripts.benchmark.measure import Bench, Contender
from scripts.benchmark.model import OPEN, WALK, CannotReadError
from scripts.benchmark.openers import INDEXED, OPENERS, try_to_build


def list_cold(bench: Bench) -> Iterator[Setup]:
    """Open an instance and read one frame, its file and its index read from the disk."""
    count = 5000 if bench.quick else 50_000
    for layout in LAYOUTS[:3]:
        yield f"{layout}, {count:,} frames", partial(_list_cases, layout, count)


def _list_cases(layout: str, number_of_frames: int, site: Site) -> Iterator[Case]:
    written = write_image(site.folder / "files", number_of_frames, layout)
    title = f"cold page cache, {layout}, {number_of_frames:,} frames"
    drop = partial(drop_pages, Path(written.image.root))
    (frame_index,) = written.pick(1)

    walk = Contender(WALK, partial(written.walk_and_read, frame_index), prepare=drop)
    openers = {name: OPENERS[name] for name in OPENERS if name != "pydicom dcmread"}
    contenders = [
        first(written, name, opener, frame_index, prepare=drop) for name, opener in openers.items()
    ]
    yield Case(f"{title}: open, first frame", [*contenders, walk], limit=WALK)

    read = Contender(OPEN, partial(written.open_and_read, frame_index), prepare=drop)
    contenders = [
        first(written, name, opener, frame_index, try_to_build(name, written.image.root), drop)
        for name, opener in INDEXED.items()
    ]
    yield Case(f"{title}: first frame from an index", [*contenders, read], limit=OPEN)


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
