"""Cases: the commands that list a whole archive of tiny files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dicom_bytes import PIXEL_DATA, element, image_attributes

from scripts.benchmark import limits
from scripts.benchmark.cases import Case, Site
from scripts.benchmark.data import walk_series
from scripts.benchmark.elements import CT_IMAGE_STORAGE, pack_header
from scripts.benchmark.measure import Contender
from scripts.benchmark.model import FOLDER_WALK, MMINDEX, CannotReadError
from scripts.benchmark.openers import build_mmindex

AIMS = {  # seconds a command, of FILES files
    "stats": 0.5,
    "check": 2.0,
    "ls": 2.0,
    "export --format parquet": 2.0,
}
FILES = 200_000
_START = 0.2  # seconds of each that do not depend on the number of files


def list_cases(count: int, site: Site) -> Iterator[Case]:
    """Count, check and list the files of an archive, each command in a process of its own."""
    root = site.folder / "files"
    write_tiny_files(root, count)
    build_mmindex(str(root), 2)
    walk = Contender(FOLDER_WALK, partial(limits.walk_folder, str(root)))
    for command, aim in AIMS.items():
        yield Case(
            f"mmindex {command} of {count:,} files",
            [Contender(MMINDEX, partial(run, command, root)), walk],
            limit=FOLDER_WALK,
            aim=_START + (aim - _START) * count / FILES,
        )


def write_tiny_files(root: Path, count: int) -> None:
    """Write images of 2 x 2 pixels, a series of 500 in each folder."""
    pixels = image_attributes(rows=2, columns=2, bits=16) + element(PIXEL_DATA, "OW", bytes(8))
    for image in walk_series(root, count, series_a_study=4):
        Path(image.path).write_bytes(pack_header(image, CT_IMAGE_STORAGE) + pixels)


def run(command: str, root: Path) -> int:
    """Run a command; return how many bytes it printed."""
    argv = [sys.executable, "-m", "mmindex", *command.split(), str(root)]
    if command.startswith("export"):  # a table is no text
        argv += ["-o", str(root.with_name("frames.parquet"))]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode:
        raise CannotReadError(done.stderr.decode(errors="replace"))
    return len(done.stdout) or len(done.stderr)
