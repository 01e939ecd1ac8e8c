"""Cases: the same reads with files out of the page cache, where the system lets go of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from scripts.benchmark import limits
from scripts.benchmark.data import LAYOUTS, Written, write_image
from scripts.benchmark.measure import Bench, Contender, tell
from scripts.benchmark.model import OPEN, WALK, Result
from scripts.benchmark.openers import INDEXED, OPENERS, Opener, read_once, try_to_build


def run_cold(bench: Bench) -> Iterator[Result]:
    """Open an instance and read one frame, its file and its index read from the disk."""
    number_of_frames = 5000 if bench.quick else 50_000
    for layout in LAYOUTS[:2]:
        tell(f"cold: {layout}, {number_of_frames:,} frames")
        with bench.make_folder("cold") as folder:
            written = write_image(folder / "files", number_of_frames, layout)
            if not drop_pages(folder / "files"):
                tell("cold: the system keeps the pages of a file; not measured")
                return
            title = f"cold page cache, {layout}, {number_of_frames:,} frames"
            yield from _run_image(bench, written, title)


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


def drop_pages(folder: Path) -> bool:
    """Write the files of a folder to disk and let go of their pages; return whether they went."""
    if not hasattr(os, "posix_fadvise"):
        return False
    gone = True
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            gone = gone and not is_cached(descriptor)
        finally:
            os.close(descriptor)
    return gone


def is_cached(descriptor: int) -> bool:
    """Return whether a file's first page can be had without waiting for the disk."""
    if not hasattr(os, "preadv") or not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        return os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
    except OSError:  # the file system cannot tell
        return True


def _walk(written: Written, frame_index: int) -> bytes:
    limits.walk_items(written.image.path, written.pixel_data_offset)
    return _read(written, frame_index)


def _read(written: Written, frame_index: int) -> bytes:
    descriptor = os.open(written.image.path, os.O_RDONLY)
    try:
        return written.read(frame_index, descriptor)
    finally:
        os.close(descriptor)
