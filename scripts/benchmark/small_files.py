"""Cases: the index of an archive of small files, and one file's scan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from scripts.benchmark import limits, openers
from scripts.benchmark.cases import Case, Site
from scripts.benchmark.data import write_small_files
from scripts.benchmark.measure import Contender
from scripts.benchmark.model import FOLDER_WALK, MMINDEX, SKIP, Image
from scripts.benchmark.openers import BUILDERS, build_mmindex, read_uid_with_pydicom

SCANNED_FILES = 250
ONE_WORKER = "1 worker"


def list_small_files(count: int, site: Site) -> Iterator[Case]:
    """Scan one small file; build and update the index of a folder of them."""
    root = str(site.folder / "files")
    images = write_small_files(site.folder / "files", count)[:SCANNED_FILES]
    paths = [image.path for image in images]
    remove = partial(openers.remove_indexes, root)
    walk = Contender(FOLDER_WALK, partial(limits.walk_folder, root))
    yield Case(
        f"scan of {SCANNED_FILES} small files (265 elements, 39 kB), one core",
        [
            Contender(MMINDEX, partial(scan_with_mmindex, root, images)),
            Contender("pydicom", lambda: list(map(read_uid_with_pydicom, paths))),
            Contender("dicomsdl", partial(scan_with_dicomsdl, paths)),
            Contender(SKIP, lambda: list(map(limits.skip_header, paths))),
        ],
        limit=SKIP,
    )
    for workers, says in ((1, "1 worker"), (2, "2 workers (peers: one process)")):
        build = partial(build_mmindex, root, workers)
        peer = partial(openers.build_dicomweb_client, root)
        yield Case(
            f"first build of an index, {count:,} small files, {says}",
            [
                Contender(MMINDEX, build, prepare=remove),
                Contender("dicomweb-client", peer, prepare=remove),
                Contender("pydicom, headers alone", partial(_read_headers, root)),
                walk,
            ],
            limit=FOLDER_WALK,
        )
        remove()
        for name in BUILDERS:
            openers.try_to_build(name, root)
        yield Case(
            f"update of an unchanged index, {count:,} small files, {says}",
            [Contender(MMINDEX, build), Contender("dicomweb-client", peer), walk],
            limit=FOLDER_WALK,
            bound=2.0,
        )
    yield Case(
        f"first build of an index, {count:,} small files, 2 workers as times of 1 worker",
        [
            Contender(MMINDEX, partial(build_mmindex, root, 2), prepare=remove),
            Contender(ONE_WORKER, partial(build_mmindex, root, 1), prepare=remove),
        ],
        limit=ONE_WORKER,
    )
    remove()
    yield Case(
        f"index of {count:,} small files: bytes a file",
        [Contender(name, openers.measure_index, [(name, root, count)]) for name in BUILDERS],
        unit="B",
    )


def scan_with_mmindex(root: str, images: list[Image]) -> object:
    """Make the packed records of files, as a worker of a build does."""
    from mmindex.update.scan_buffer import ScanOptions
    from mmindex.update.scan_file import scan_files

    paths = [os.fsencode(image.name) for image in images]
    return scan_files(os.fsencode(root), paths, ScanOptions())


def scan_with_dicomsdl(paths: list[str]) -> object:
    """Load files."""
    import dicomsdl

    return [dicomsdl.open(path).SOPInstanceUID for path in paths]


def _read_headers(root: str) -> list[tuple[str, object]]:
    """Make the list that an index is made of, with pydicom."""
    paths = filter(lambda path: path.endswith(".dcm"), limits.walk_folder(root))
    return [(path, read_uid_with_pydicom(path)) for path in paths]
