"""Cases: frames at random over many instances, as a training loop reads them.

Once over cines and small files that are open or may be; then over one-frame files, more than may
be open: a CT archive, a shuffled loader.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dicom_bytes import PIXEL_DATA, element, image_attributes

import mmindex
from scripts.benchmark import openers
from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.data import write_image, write_series, write_small_files
from scripts.benchmark.elements import CT_IMAGE_STORAGE, pack_header
from scripts.benchmark.measure import Bench, Call, Contender, attempt, contend_pread, opened
from scripts.benchmark.model import MMINDEX, PREAD, Image
from scripts.benchmark.openers import OPENERS, Opener, Read, build_mmindex, read_once

READS = 2000
FRAMES_A_CINE = 100
OPEN_EACH = "os.open, fstat, pread and close"
_ROWS = _COLUMNS = 48  # of a one-frame file
_FRAME_LENGTH = _ROWS * _COLUMNS * 2
_MOST_FOR_DICOMWEB = 10_000  # files: its index of more takes minutes


class _Mix:
    """Cines and small native files, and which of their frames are read."""

    def __init__(self, site: Site) -> None:
        self.stack, self.root = site.stack, site.folder / "files"
        self.images: dict[str, Image] = {}
        self.places: dict[tuple[str, int], tuple[str, int, int]] = {}
        for number in range(1, 21 if site.bench.quick else 101):
            name = f"cine-{number - 1}.dcm"
            written = write_image(self.root, FRAMES_A_CINE, name=name, number=number)
            self._add(written.image, written.ranges)
        length = 128 * 128 * 2
        for image in write_small_files(self.root, 200):
            self._add(image, [(os.stat(image.path).st_size - length, length)])
        generator = random.Random(3)
        self.pairs = [generator.choice(list(self.places)) for _ in range(READS)]

    def _add(self, image: Image, ranges: Sequence[tuple[int, int]]) -> None:
        self.images[image.sop_instance_uid] = image
        for frame_index, place in enumerate(ranges):
            self.places[image.sop_instance_uid, frame_index] = image.path, *place

    def expected(self, uid: str, frame_index: int) -> bytes:
        """Return what a frame has to be."""
        path, offset, length = self.places[uid, frame_index]
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def open_mmindex(self) -> Call:
        """By UID, from the index."""
        build_mmindex(str(self.root))
        return self.stack.enter_context(mmindex.open(self.root)).frame

    def open_whole_with_pydicom(self) -> Call:
        """Read the whole file for each frame, as most loops do."""
        return lambda uid, index: read_once(OPENERS["pydicom dcmread"], self.images[uid], index)

    def keep_open(self, opener: Opener) -> Call:
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
        return read

    def open_dicomweb_client(self) -> Call:
        """By UIDs, from its SQLite index."""
        read = _open_dicomweb_client(str(self.root), self.stack)
        return lambda uid, frame_index: read(self.images[uid], frame_index)


def _open_dicomweb_client(root: str, stack: ExitStack) -> Callable[[Image, int], bytes]:
    openers.build_dicomweb_client(root)
    return openers.read_by_uids(root, stack)


def list_training(bench: Bench) -> Iterator[Setup]:
    """Read frames at random over cines and small native files."""
    yield f"{READS:,} frames", _list_training_cases


def _list_training_cases(site: Site) -> Iterator[Case]:
    mix = _Mix(site)
    readers: dict[str, Callable[[], Call]] = {
        MMINDEX: mix.open_mmindex,
        **{
            f"{name}, kept open": partial(mix.keep_open, OPENERS[name])
            for name in ("pydicom get_frame", "highdicom")
        },
        "pydicom dcmread": mix.open_whole_with_pydicom,
        "dicomweb-client": mix.open_dicomweb_client,
    }
    yield Case(
        f"a random frame of {len(mix.images):,} instances, as in training",
        [
            *(
                opened(name, open_it, arguments=mix.pairs, expected=mix.expected)
                for name, open_it in readers.items()
            ),
            contend_pread(site.stack, [mix.places[pair] for pair in mix.pairs]),
        ],
        limit=PREAD,
        bound=2.0,
    )


class _File(NamedTuple):
    image: Image
    offset: int  # of the frame
    number: int


def _make_frame(number: int) -> bytes:
    """Return the pixels of a file: its number, again and again."""
    return number.to_bytes(4, "little") * (_FRAME_LENGTH // 4)


def _write_files(root: Path, count: int) -> list[_File]:
    """Write native CT slices of some 6 kB."""
    pixels = image_attributes(rows=_ROWS, columns=_COLUMNS, bits=16)
    pixels += element(PIXEL_DATA, "OW", length=_FRAME_LENGTH)

    def pack(image: Image) -> list[bytes]:
        return [pack_header(image, CT_IMAGE_STORAGE) + pixels, b""]

    def number_frame(pieces: list[bytes], number: int) -> None:
        pieces[1] = _make_frame(number)

    images = write_series(root, count, pack, number_frame)
    offset = os.stat(images[0].path).st_size - _FRAME_LENGTH  # UIDs have one length
    return [_File(image, offset, number) for number, image in enumerate(images)]


def _contend(files: list[_File], name: str, read: Callable[[_File], bytes]) -> Contender:
    """Return a contender whose every call reads the next file, and none soon again.

    All contenders go through the files in the same order, each at its own pace.
    """
    order = random.Random(7).sample(files, len(files))
    at = -1

    def read_next() -> bytes:
        nonlocal at
        at = (at + 1) % len(order)
        return read(order[at])

    return Contender(name, read_next, expected=lambda: _make_frame(order[at].number))


def _open_and_read(file: _File) -> bytes:
    """Do what any reader of a file that is not open has to do, with all that it has to know."""
    descriptor = os.open(file.image.path, os.O_RDONLY)
    os.fstat(descriptor)  # whether it is the file that was indexed
    frame = os.pread(descriptor, _FRAME_LENGTH, file.offset)
    os.close(descriptor)
    return frame


def list_one_frame_files(count: int, site: Site) -> Iterator[Case]:
    """Read the frames of more files than may be open, each once, from an open index."""
    root = site.folder / "files"
    files = _write_files(root, count)
    build_mmindex(str(root))
    archive = site.stack.enter_context(mmindex.open(root, max_open_files=count // 20))
    contend = partial(_contend, files)

    def open_with(name: str) -> Contender:
        return contend(name, lambda file: read_once(OPENERS[name], file.image, 0))

    def make_dicomweb_client() -> Contender:
        read = _open_dicomweb_client(str(root), site.stack)
        return contend("dicomweb-client", lambda file: read(file.image, 0))

    peers = [open_with("pydicom dcmread"), open_with("highdicom")]
    if count <= _MOST_FOR_DICOMWEB:
        peers.append(attempt("dicomweb-client", make_dicomweb_client))
    yield Case(
        f"a frame of one of {count:,} one-frame files that are not open, index open",
        [
            contend(MMINDEX, lambda file: archive.frame(file.image.sop_instance_uid, 0)),
            *peers,
            contend(OPEN_EACH, _open_and_read),
        ],
        limit=OPEN_EACH,
        bound=2.5,
    )
    dataset = mmindex.FrameDataset(archive)
    places = {dataset.locate(at)[0]: at for at in range(len(dataset))}
    by_number = [places[file.image.sop_instance_uid] for file in files]
    yield Case(
        f"an item of a FrameDataset of {count:,} one-frame files, shuffled",
        [
            contend(MMINDEX, lambda file: bytes(dataset[by_number[file.number]])),
            contend(OPEN_EACH, _open_and_read),
        ],
        limit=OPEN_EACH,
        bound=6.0,
    )
