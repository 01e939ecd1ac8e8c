"""Cases of a process of its own: its private memory, and a cold start of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from scripts.benchmark.data import LAYOUTS, Written, write_image
from scripts.benchmark.measure import Bench, Contender, tell
from scripts.benchmark.model import BARE, MMINDEX, NOT_THERE, Measurement, Result
from scripts.benchmark.openers import INDEXED, OPENERS, build_mmindex, try_to_build

ROOT = Path(__file__).resolve().parents[2]
READS = 100

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


def run_command_line(bench: Bench) -> Iterator[Result]:
    """Start a command that writes one frame, and end."""
    number_of_frames = 1000 if bench.quick else 10_000
    tell(f"command line: {number_of_frames:,} frames")
    with bench.make_folder("command-line") as folder:
        written = write_image(folder / "files", number_of_frames, LAYOUTS[1])
        path, frame_index = written.image.path, number_of_frames // 2
        arguments = [path, str(frame_index + 1)]
        expected = written.frames[frame_index]
        command = str(Path(sys.executable).with_name("mmindex"))
        offset, length = written.ranges[frame_index]
        bare = [sys.executable, "-c", _BARE_CODE, path, str(offset), str(length)]

        def contend(name: str, argv: list[str]) -> Contender:
            return Contender(name, partial(_run, argv), expected=lambda: expected)

        peers = [
            contend(name, [sys.executable, "-c", code, *arguments])
            for name, code in _ONE_LINERS.items()
        ]
        for what in ("no index", "from an index"):
            if what == "from an index":
                build_mmindex(written.image.root)
            ours = contend(MMINDEX, [command, "frame", *arguments])
            measured = bench.measure([ours, *peers, contend(BARE, bare)], least_budget=2.0)
            title = f"command line: one frame of {number_of_frames:,}, {what}"
            yield Result("command-line", title, "s", measured, BARE)


def _run(argv: list[str]) -> bytes:
    done = subprocess.run(argv, capture_output=True, check=False)
    if b"ModuleNotFoundError" in done.stderr:
        raise ImportError(argv)
    done.check_returncode()
    return done.stdout


def run_memory(bench: Bench) -> Iterator[Result]:
    """Open one large instance in a fresh process, read frames, ask what memory is its own.

    That is the interpreter, what was imported and what was made; not the page cache.
    """
    if not Path("/proc/self/status").exists():
        tell("memory: the system does not tell private memory; not measured")
        return
    number_of_frames = 10_000 if bench.quick else 100_000
    tell(f"memory: {number_of_frames:,} frames")
    with bench.make_folder("memory") as folder:
        written = write_image(folder / "files", number_of_frames, LAYOUTS[1])
        rounds = 1 if bench.quick else 3
        for what, openers in (("no index", OPENERS), ("from an index", INDEXED)):
            notes = dict.fromkeys([*openers, BARE], "")
            if openers is INDEXED:
                notes |= {name: try_to_build(name, written.image.root) for name in INDEXED}
            measured = tuple(
                _measure_memory(name, what, written, rounds, note) for name, note in notes.items()
            )
            title = f"{number_of_frames:,} frames open, {READS} read, {what}"
            yield Result("memory", f"private memory of a process: {title}", "B", measured, BARE)


def _measure_memory(name: str, what: str, written: Written, rounds: int, note: str) -> Measurement:
    """Return the private bytes of a process that did it."""
    if note:
        return Measurement(name, note=note)
    frame_indices = written.pick(READS)
    told = {
        "contender": name,
        "indexed": what != "no index",
        "image": written.image,
        "frame_indices": frame_indices,
        "ranges": [written.ranges[index] for index in frame_indices],
    }
    argv = [sys.executable, "-m", "scripts.benchmark.resident", json.dumps(told)]
    samples = []
    for _ in range(rounds):
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            kind = last.split(":")[0].rpartition(".")[2]
            note = NOT_THERE if kind == "ModuleNotFoundError" else f"fails: {kind}"
            return Measurement(name, note=note)
        samples.append(float(done.stdout))
    return Measurement(name, tuple(samples))
