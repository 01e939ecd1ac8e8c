"""Cases of a process of its own: its private memory, and a cold start of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from scripts.benchmark.cases import Case, Site
from scripts.benchmark.data import LAYOUTS, Written, write_image
from scripts.benchmark.measure import Contender
from scripts.benchmark.model import BARE, MMINDEX, NOT_THERE, CannotReadError
from scripts.benchmark.openers import INDEXED, OPENERS, build_mmindex, try_to_build

ROOT = Path(__file__).resolve().parents[2]
READS = 100
IMPORTS = "python -c 'import click, lmdb'"

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
        return Contender(name, partial(_run, argv), expected=lambda: expected)

    python = sys.executable, "-c"
    command = str(Path(sys.executable).with_name("mmindex"))
    contenders = [
        contend(MMINDEX, command, "frame", *arguments),
        *(contend(name, *python, code, *arguments) for name, code in _ONE_LINERS.items()),
        contend(BARE, *python, _BARE_CODE, path, *map(str, written.ranges[frame_index])),
    ]
    for what in ("no index", "from an index"):
        if what == "from an index":
            build_mmindex(written.image.root)
        title = f"command line: one frame of {number_of_frames:,}, {what}"
        yield Case(title, contenders, limit=BARE, least_budget=2.0)
    by_uid = [written.image.root, arguments[1], "--instance", written.image.sop_instance_uid]
    imports = Contender(IMPORTS, partial(_run, [*python, "import click, lmdb"]))
    yield Case(
        f"command line: one frame of {number_of_frames:,}, from an index, by its UID",
        [contend(MMINDEX, command, "frame", *by_uid), imports],
        limit=IMPORTS,
        bound=1.5,
        least_budget=4.0,
    )


def list_memory(number_of_frames: int, site: Site) -> Iterator[Case]:
    """Open one large instance in a fresh process, read frames, ask what memory is its own.

    That is the interpreter, what was imported and what was made; not the page cache.
    """
    if not Path("/proc/self/status").exists():
        raise CannotReadError("the system does not report private memory")
    written = write_image(site.folder / "files", number_of_frames, LAYOUTS[1])
    rounds = 1 if site.bench.quick else 3
    for what, openers in (("no index", OPENERS), ("from an index", INDEXED)):
        notes = dict.fromkeys([*openers, BARE], "")
        if openers is INDEXED:
            notes |= {name: try_to_build(name, written.image.root) for name in INDEXED}
        count = partial(_count_private_bytes, written, openers is INDEXED)
        yield Case(
            f"private memory of a process: {number_of_frames:,} frames open, {READS} read, {what}",
            [
                Contender(name, None if note else count, [(name,)] * rounds, note=note)
                for name, note in notes.items()
            ],
            limit=BARE,
            unit="B",
        )


def _count_private_bytes(written: Written, indexed: bool, name: str) -> float:
    """Return the private bytes of a process that read frames."""
    frame_indices = written.pick(READS)
    told = {
        "contender": name,
        "indexed": indexed,
        "image": written.image,
        "frame_indices": frame_indices,
        "ranges": [written.ranges[index] for index in frame_indices],
    }
    return float(_run([sys.executable, "-m", "scripts.benchmark.resident", json.dumps(told)]))


def _run(argv: Sequence[str]) -> bytes:
    """Return what a process printed; one that failed raises, of its last line, what it lacks."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False)
    if not done.returncode:
        return done.stdout
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    kind = last.split(":")[0].rpartition(".")[2]
    raise CannotReadError(NOT_THERE if kind == "ModuleNotFoundError" else f"fails: {kind}")
