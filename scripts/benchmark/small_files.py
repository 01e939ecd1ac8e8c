"""Cases: the index of an archive of small files, and one file's scan."""

from __future__ import annotations

import os
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

SCANNED_FILES = 250
ONE_WORKER = "1 worker"


def run_small_files(bench: Bench) -> Iterator[Result]:
    """Scan one small file; build and update the index of a folder of them."""
    count = 1000 if bench.quick else 10_000
    tell(f"small files: {count:,}")
    with bench.make_folder("archive") as folder:
        root = folder / "files"
        images = write_small_files(root, count)
        yield _scan(bench, root, images)
        for workers in (1, 2):
            yield _build(bench, root, count, workers)
            yield _update(bench, root, count, workers)
        yield _build_beside_one_worker(bench, root, count)
        yield _size_of_index(root, count)


def _scan(bench: Bench, root: Path, images: list[Image]) -> Result:
    """Scan files as a build does, in one process, against a parse of their headers."""
    paths = [image.path for image in images[:SCANNED_FILES]]
    contenders = [
        Contender(MMINDEX, partial(scan_with_mmindex, str(root), images[:SCANNED_FILES])),
        Contender("pydicom", partial(scan_with_pydicom, paths)),
        Contender("dicomsdl", partial(scan_with_dicomsdl, paths)),
        Contender(SKIP, partial(_skip_headers, paths)),
    ]
    title = f"scan of {SCANNED_FILES} small files (265 elements, 39 kB), one core"
    return Result("small-files", title, "s", bench.measure(contenders), SKIP)


def scan_with_mmindex(root: str, images: list[Image]) -> object:
    """Make the packed records of files, as a worker of a build does."""
    from mmindex.update.scan_buffer import ScanOptions
    from mmindex.update.scan_file import scan_files

    paths = [os.fsencode(image.name) for image in images]
    return scan_files(os.fsencode(root), paths, ScanOptions())


def scan_with_pydicom(paths: list[str]) -> object:
    """Parse the headers of files."""
    import pydicom

    return [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in paths]


def scan_with_dicomsdl(paths: list[str]) -> object:
    """Load files."""
    import dicomsdl

    return [dicomsdl.open(path).SOPInstanceUID for path in paths]


def _skip_headers(paths: list[str]) -> object:
    return [limits.skip_header(path) for path in paths]


def _build(bench: Bench, root: Path, count: int, workers: int) -> Result:
    """Measure a build from nothing, against a parse of all headers."""
    folder = str(root)
    prepare = partial(remove_indexes, folder)
    contenders = [
        Contender(MMINDEX, partial(build_mmindex, folder, workers), prepare=prepare),
        Contender("dicomweb-client", partial(build_dicomweb_client, folder), prepare=prepare),
        Contender("pydicom, headers alone", partial(_read_headers, folder)),
        Contender(FOLDER_WALK, partial(limits.walk_folder, folder)),
    ]
    title = f"first build of an index, {count:,} small files, {_say(workers)}"
    return Result("small-files", title, "s", bench.measure(contenders), FOLDER_WALK)


def _update(bench: Bench, root: Path, count: int, workers: int) -> Result:
    """Measure an update that finds nothing new."""
    folder = str(root)
    remove_indexes(folder)
    contenders = [
        Contender(MMINDEX, partial(build_mmindex, folder, workers)),
        Contender("dicomweb-client", partial(build_dicomweb_client, folder)),
        Contender(FOLDER_WALK, partial(limits.walk_folder, folder)),
    ]
    for name in BUILDERS:
        try_to_build(name, folder)
    title = f"update of an unchanged index, {count:,} small files, {_say(workers)}"
    return Result("small-files", title, "s", bench.measure(contenders), FOLDER_WALK, 2.0)


def _build_beside_one_worker(bench: Bench, root: Path, count: int) -> Result:
    """Measure a build from nothing of two workers, as times of one worker's."""
    folder = str(root)
    prepare = partial(remove_indexes, folder)
    contenders = [
        Contender(MMINDEX, partial(build_mmindex, folder, 2), prepare=prepare),
        Contender(ONE_WORKER, partial(build_mmindex, folder, 1), prepare=prepare),
    ]
    title = f"first build of an index, {count:,} small files, 2 workers as times of 1 worker"
    return Result("small-files", title, "s", bench.measure(contenders), ONE_WORKER)


def _say(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers (peers: one process)"


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
