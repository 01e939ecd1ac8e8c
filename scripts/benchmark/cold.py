"""Cases: the same reads with files out of the page cache, where the system lets go of them.

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

from scripts.benchmark import limits
from scripts.benchmark.data import LAYOUTS, Written, write_image
from scripts.benchmark.measure import Bench, Contender, tell
from scripts.benchmark.model import OPEN, WALK, CannotReadError, Result
from scripts.benchmark.openers import INDEXED, OPENERS, Opener, read_once, try_to_build


def run_cold(bench: Bench) -> Iterator[Result]:
    """Open an instance and read one frame, its file and its index read from the disk."""
    number_of_frames = 5000 if bench.quick else 50_000
    for layout in LAYOUTS[:2]:
        tell(f"cold: {layout}, {number_of_frames:,} frames")
        with bench.make_folder("cold") as folder:
            written = write_image(folder / "files", number_of_frames, layout)
            title = f"cold page cache, {layout}, {number_of_frames:,} frames"
            try:
                yield from _run_image(bench, written, title)
            except PagesStayError as error:
                tell(f"cold: {error}; not measured")
                return


def _run_image(bench: Bench, written: Written, title: str) -> Iterator[Result]:
    drop = partial(drop_pages, Path(written.image.root))
    frame_index = written.pick(1)[0]

    def contend(name: str, opener: Opener, note: str = "") -> Contender:
        call = None if note else partial(read_once, opener, written.image)
        return Contender(name, call, [(frame_index,)], written.frames.__getitem__, drop, note)

    openers = {name: OPENERS[name] for name in OPENERS if name != "pydicom dcmread"}
    contenders = [contend(name, opener) for name, opener in openers.items()]
    contenders.append(Contender(WALK, partial(_walk, written, frame_index), prepare=drop))
    yield Result("cold", f"{title}: open, first frame", "s", bench.measure(contenders), WALK)

    notes = {name: try_to_build(name, written.image.root) for name in INDEXED}
    contenders = [contend(name, opener, notes[name]) for name, opener in INDEXED.items()]
    contenders.append(Contender(OPEN, partial(_read, written, frame_index), prepare=drop))
    measured = bench.measure(contenders)
    yield Result("cold", f"{title}: first frame from an index", "s", measured, OPEN)


class PagesStayError(CannotReadError):
    """The system keeps pages of a file in its cache, or does not tell."""


def drop_pages(folder: Path) -> None:
    """Write the files of a folder to disk and let go of their pages.

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
        raise PagesStayError("the system does not tell which pages are in the cache")
    return sum(page & 1 for page in found)


def _walk(written: Written, frame_index: int) -> bytes:
    limits.walk_items(written.image.path, written.pixel_data_offset)
    return _read(written, frame_index)


def _read(written: Written, frame_index: int) -> bytes:
    descriptor = os.open(written.image.path, os.O_RDONLY)
    try:
        return written.read(frame_index, descriptor)
    finally:
        os.close(descriptor)
