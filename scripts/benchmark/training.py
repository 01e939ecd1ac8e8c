"""Case: frames at random over many instances, as a training loop reads them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import mmindex
from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.data import write_image, write_small_files
from scripts.benchmark.measure import Bench, Call, Contender, attempt, contend_pread
from scripts.benchmark.model import MMINDEX, PREAD, Image
from scripts.benchmark.openers import (
    Opener,
    Read,
    build_dicomweb_client,
    build_mmindex,
    open_highdicom,
    open_pydicom,
    open_whole_with_pydicom,
    read_by_uids,
    read_once,
)

READS = 2000
FRAMES_A_CINE = 100

_KEPT_OPEN: dict[str, Opener] = {
    "pydicom get_frame, kept open": open_pydicom,
    "highdicom, kept open": open_highdicom,
}


class _Mix:
    """Cines and small native files, and which of their frames are read."""

    def __init__(self, bench: Bench, root: str, stack: ExitStack) -> None:
        cines, small = (20, 200) if bench.quick else (100, 200)
        self.stack = stack
        self.root = root
        self.images: dict[str, Image] = {}
        self.places: dict[tuple[str, int], tuple[str, int, int]] = {}
        for number in range(cines):
            written = write_image(
                Path(root), FRAMES_A_CINE, name=f"cine-{number}.dcm", number=number + 1
            )
            self.images[written.image.sop_instance_uid] = written.image
            for frame_index, (offset, length) in enumerate(written.ranges):
                place = written.image.path, offset, length
                self.places[written.image.sop_instance_uid, frame_index] = place
        for image in write_small_files(Path(root), small):
            self.images[image.sop_instance_uid] = image
            length = 128 * 128 * 2
            offset = os.stat(image.path).st_size - length
            self.places[image.sop_instance_uid, 0] = image.path, offset, length
        generator = random.Random(3)
        self.pairs = [generator.choice(list(self.places)) for _ in range(READS)]

    def expected(self, uid: str, frame_index: int) -> bytes:
        """Return what a frame has to be."""
        path, offset, length = self.places[uid, frame_index]
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def make(self, name: str, read: Call) -> Contender:
        """Return the contender that reads this mix with `read`."""
        return Contender(name, read, self.pairs, self.expected)

    def make_mmindex(self) -> Contender:
        """By UID, from the index."""
        build_mmindex(self.root)
        return self.make(MMINDEX, self.stack.enter_context(mmindex.open(self.root)).frame)

    def make_whole_with_pydicom(self) -> Contender:
        """Read the whole file for each frame, as most loops do."""

        def read(uid: str, frame_index: int) -> bytes:
            return read_once(open_whole_with_pydicom, self.images[uid], frame_index)

        return self.make("pydicom dcmread", read)

    def make_kept_open(self, name: str, opener: Opener) -> Contender:
        """Keep every file that is read open, its header parsed."""
        readers: dict[str, Read] = {}

        def read(uid: str, frame_index: int) -> bytes:
            reader = readers.get(uid)
            if reader is None:
                reader = self.stack.enter_context(opener(self.images[uid]))
                readers[uid] = reader
            return reader(frame_index)

        for uid, frame_index in self.pairs:
            read(uid, frame_index)
        return self.make(name, read)

    def make_dicomweb_client(self) -> Contender:
        """By UIDs, from its SQLite index."""
        build_dicomweb_client(self.root)
        read = read_by_uids(self.root, self.stack)
        return self.make("dicomweb-client", lambda uid, index: read(self.images[uid], index))

    def make_limit(self) -> Contender:
        """Read known ranges of files that are open."""
        return contend_pread(self.stack, [self.places[pair] for pair in self.pairs])


def list_training(bench: Bench) -> Iterator[Setup]:
    """Read frames at random over cines and small native files."""
    yield f"{READS:,} frames", _list_cases


def _list_cases(site: Site) -> Iterator[Case]:
    mix = _Mix(site.bench, str(site.folder / "files"), site.stack)
    yield Case(
        f"a random frame of {len(mix.images):,} instances, as in training",
        [
            attempt(MMINDEX, mix.make_mmindex),
            *(
                attempt(name, partial(mix.make_kept_open, name, opener))
                for name, opener in _KEPT_OPEN.items()
            ),
            attempt("pydicom dcmread", mix.make_whole_with_pydicom),
            attempt("dicomweb-client", mix.make_dicomweb_client),
            attempt(PREAD, mix.make_limit),
        ],
        limit=PREAD,
        bound=2.0,
    )
