"""Cases of the command line, each call a process: one frame, and the listings of an archive."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from dicom_bytes import PIXEL_DATA, element, image_attributes

from scripts.benchmark import limits
from scripts.benchmark.cases import Case, Site
from scripts.benchmark.data import LAYOUTS, write_image, write_series
from scripts.benchmark.elements import CT_IMAGE_STORAGE, pack_header
from scripts.benchmark.measure import Contender
from scripts.benchmark.model import BARE, FOLDER_WALK, MMINDEX, NOT_THERE, CannotReadError, Image
from scripts.benchmark.openers import build_mmindex

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).with_name("mmindex"))
IMPORTS = "python -c 'import click, lmdb'"
AIMS = {  # seconds a command, of FILES files
    "stats": 0.5,
    "check": 2.0,
    "ls": 2.0,
    "export --format parquet": 2.0,
}
FILES = 200_000
_START = 0.2  # seconds of each that do not depend on the number of files

_ONE_LINERS = {
    "pydicom get_frame": """
import pydicom, sys; from pydicom.encaps import get_frame
f = open(sys.argv[1], "rb"); ds = pydicom.dcmread(f, stop_before_pixels=True); f.seek(12, 1)
sys.stdout.buffer.write(get_frame(f, int(sys.argv[2]) - 1, number_of_frames=ds.NumberOfFrames))""",
    "pydicom dcmread": """
import pydicom, sys; from pydicom.encaps import get_frame
ds = pydicom.dcmread(sys.argv[1]); n = int(sys.argv[2]) - 1
sys.stdout.buffer.write(get_frame(ds.PixelData, n, number_of_frames=ds.NumberOfFrames))""",
    "highdicom": """
import sys; from highdicom.io import ImageFileReader
with ImageFileReader(sys.argv[1]) as reader:
    sys.stdout.buffer.write(reader.read_frame_raw(int(sys.argv[2]) - 1))""",
    "dicomsdl": """
import dicomsdl, sys; ds = dicomsdl.open(sys.argv[1])
pixels = ds.getDataElement("PixelData").toPixelSequence()
sys.stdout.buffer.write(pixels.encodedFrameData(int(sys.argv[2]) - 1))""",
}
_BARE_CODE = """
import os, sys; descriptor = os.open(sys.argv[1], os.O_RDONLY)
os.write(1, os.pread(descriptor, int(sys.argv[3]), int(sys.argv[2])))"""


def list_command_line(number_of_frames: int, site: Site) -> Iterator[Case]:
    """Start a command that writes one frame, and end."""
    written = write_image(site.folder / "files", number_of_frames, LAYOUTS[1])
    path, frame_index = written.image.path, number_of_frames // 2
    arguments = [path, str(frame_index + 1)]
    expected = written.frames[frame_index]

    def contend(name: str, *argv: str) -> Contender:
        return Contender(name, partial(run, argv), expected=lambda: expected)

    python = sys.executable, "-c"
    contenders = [
        contend(MMINDEX, COMMAND, "frame", *arguments),
        *(contend(name, *python, code, *arguments) for name, code in _ONE_LINERS.items()),
        contend(BARE, *python, _BARE_CODE, path, *map(str, written.ranges[frame_index])),
    ]
    for what in ("no index", "from an index"):
        if what == "from an index":
            build_mmindex(written.image.root)
        title = f"command line: one frame of {number_of_frames:,}, {what}"
        yield Case(title, contenders, limit=BARE, least_budget=2.0)
    by_uid = [written.image.root, arguments[1], "--instance", written.image.sop_instance_uid]
    imports = Contender(IMPORTS, partial(run, [*python, "import click, lmdb"]))
    yield Case(
        f"command line: one frame of {number_of_frames:,}, from an index, by its UID",
        [contend(MMINDEX, COMMAND, "frame", *by_uid), imports],
        limit=IMPORTS,
        bound=1.5,
        least_budget=4.0,
    )


def list_listings(count: int, site: Site) -> Iterator[Case]:
    """Count, check and list the files of an archive, each command in a process of its own."""
    root = site.folder / "files"
    write_tiny_files(root, count)
    build_mmindex(str(root), 2)
    walk = Contender(FOLDER_WALK, partial(limits.walk_folder, str(root)))
    for command, aim in AIMS.items():
        argv = [sys.executable, "-m", "mmindex", *command.split(), str(root)]
        if command.startswith("export"):  # a table is no text
            argv += ["-o", str(site.folder / "frames.parquet")]
        yield Case(
            f"mmindex {command} of {count:,} files",
            [Contender(MMINDEX, partial(run, argv)), walk],
            limit=FOLDER_WALK,
            aim=_START + (aim - _START) * count / FILES,
        )


def write_tiny_files(root: Path, count: int) -> None:
    """Write images of 2 x 2 pixels, a series of 500 in each folder."""
    pixels = image_attributes(rows=2, columns=2, bits=16) + element(PIXEL_DATA, "OW", bytes(8))

    def pack(image: Image) -> list[bytes]:
        return [pack_header(image, CT_IMAGE_STORAGE) + pixels]

    write_series(root, count, pack, series_a_study=4)


def run(argv: Sequence[str]) -> bytes:
    """Return what a process printed; one that failed raises, of its last line, what it lacks."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False)
    if not done.returncode:
        return done.stdout
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    kind = last.split(":")[0].rpartition(".")[2]
    raise CannotReadError(NOT_THERE if kind == "ModuleNotFoundError" else f"fails: {kind}")
