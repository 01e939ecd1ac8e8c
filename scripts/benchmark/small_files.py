"""Cases: the index of an archive of small files, and one file's scan."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from scripts.benchmark import limits
from scripts.benchmark.data import write_small_files
from scripts.benchmark.measure import Bench, Contender, tell
from scripts.benchmark.model import FOLDER_WALK, MMINDEX, SKIP, Image, Measurement, Result
from scripts.benchmark.openers import (
    BUILDERS,
    build_dicomweb_client,
    build_mmindex,
    remove_indexes,
    size_of_index,
    try_to_build,
)

SCANNED_FILES = 200


def run_small_files(bench: Bench) -> Iterator[Result]:
    """Scan one small file; build and update the index of a folder of them."""
    count = 1000 if bench.quick else 10_000
    tell(f"small files: {count:,}")
    with bench.make_folder("archive") as folder:
        root = folder / "files"
        images = write_small_files(root, count)
        yield _scan_one(bench, images)
        for workers in (1, 2):
            for unchanged in (False, True):
                yield _build(bench, root, count, workers, unchanged)
        yield _size_of_index(root, count)


def _scan_one(bench: Bench, images: list[Image]) -> Result:
    paths = [(image.path,) for image in images[:SCANNED_FILES]]
    contenders = [
        Contender(MMINDEX, scan_with_mmindex, paths),
        Contender("pydicom", scan_with_pydicom, paths),
        Contender("dicomsdl", scan_with_dicomsdl, paths),
        Contender(SKIP, limits.skip_header, paths),
    ]
    title = "scan of a small file (265 elements, 39 kB)"
    return Result("small-files", title, "s", bench.measure(contenders), SKIP)


def scan_with_mmindex(path: str) -> object:
    """Map a file and scan it."""
    import mmindex

    with open(path, "rb") as file:
        return mmindex.scan(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def scan_with_pydicom(path: str) -> object:
    """Parse a file's header."""
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True)


def scan_with_dicomsdl(path: str) -> object:
    """Load a file."""
    import dicomsdl

    return dicomsdl.open(path)


def _build(bench: Bench, root: Path, count: int, workers: int, unchanged: bool) -> Result:
    """Measure a build from nothing, or one that finds nothing new."""
    folder = str(root)
    remove_indexes(folder)
    prepare = None
    if unchanged:
        build_mmindex(folder)
    else:
        prepare = partial(remove_indexes, folder)
    contenders = [
        Contender(MMINDEX, partial(build_mmindex, folder, workers), prepare=prepare),
        Contender("dicomweb-client", partial(build_dicomweb_client, folder), prepare=prepare),
        Contender("pydicom, headers alone", partial(_read_headers, folder)),
        Contender(FOLDER_WALK, partial(limits.walk_folder, folder)),
    ]
    what = "update of an unchanged index" if unchanged else "first build of an index"
    title = f"{what}, {count:,} small files, {workers} worker{'s' * (workers > 1)}"
    bound = 2.0 if unchanged else None
    return Result("small-files", title, "s", bench.measure(contenders), FOLDER_WALK, bound)


def _read_headers(root: str) -> list[tuple[str, object]]:
    """Make the list that an index is made of, with pydicom."""
    import pydicom

    return [
        (path, pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        for path in limits.walk_folder(root)
        if path.endswith(".dcm")
    ]


def _size_of_index(root: Path, count: int) -> Result:
    """Compare the index files that both builders make, for one file."""
    measured = []
    for name in BUILDERS:
        remove_indexes(str(root))
        note = try_to_build(name, str(root))
        sizes = () if note else (size_of_index(name, str(root)) / count,)
        measured.append(Measurement(name, sizes, note))
    title = f"index of {count:,} small files: bytes a file"
    return Result("small-files", title, "B", tuple(measured))
