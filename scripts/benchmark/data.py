"""Seeded DICOM files, written by hand so that a million frames take seconds (PS3.5 7, A.4).

The same seed gives the same bytes anywhere. Frames are framed as JPEG but hold no picture: they
begin with a JPEG start marker and their own number, and end with an end marker. There is no byte
FF in between, so no contender can take one for a marker.
"""

from __future__ import annotations

import itertools
import os
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dicom_bytes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    UNDEFINED,
    element,
    extended_offset_table,
    image_attributes,
    item,
)

from scripts.benchmark import limits
from scripts.benchmark.elements import (
    CT_IMAGE_STORAGE,
    SECONDARY_CAPTURE_STORAGE,
    name_uid,
    pack_attributes,
    pack_file_meta,
    pack_functional_groups,
    pack_header,
)
from scripts.benchmark.model import Image

LAYOUTS = ("no table", "Basic Offset Table", "Extended Offset Table", "two fragments a frame")

_POOL_SIZE = 1 << 20
_ELEMENTS = 265  # in a small file, those of its File Meta Information with them
_PIXEL_ELEMENTS = 8  # of them, those of the Image Pixel Module
VARYING = 10  # elements of a small file whose lengths vary from slice to slice


class Frames:
    """The contents of an instance's frames, each known by its index.

    Parameters
    ----------
    sizes : (int, int)
        Fewest and most bytes of a frame.
    """

    _head = b"\xff\xd8\xff\xe0"
    _tail = b"\xff\xd9"

    def __init__(self, number_of_frames: int, sizes: tuple[int, int], seed: int = 0) -> None:
        generator = random.Random(seed)
        self._pool = generator.randbytes(_POOL_SIZE).replace(b"\xff", b"\x7f")
        self._last_start = _POOL_SIZE - sizes[1]
        fewest, most = sizes[0] // 2, sizes[1] // 2
        spans = (int(fewest + (most - fewest) * generator.random()) for _ in itertools.count())
        self.sizes = array("Q", (2 * next(spans) for _ in range(number_of_frames)))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, frame_index: int) -> bytes:
        number = b"%010d" % frame_index
        start = frame_index * 7919 % self._last_start
        length = self.sizes[frame_index] - len(self._head) - len(number) - len(self._tail)
        return b"".join((self._head, number, self._pool[start : start + length], self._tail))

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self.sizes)))


@dataclass(frozen=True, slots=True)
class Written:
    """An image as it was written, with what its frames have to be."""

    image: Image
    frames: Frames
    pixel_data_offset: int
    ranges: Sequence[tuple[int, int]]

    def pick(self, count: int, seed: int = 1) -> list[int]:
        """Return `count` frame indices at random."""
        generator = random.Random(seed)
        return [generator.randrange(len(self.frames)) for _ in range(count)]

    def open_and_read(self, frame_index: int) -> bytes:
        """Open the file and read a frame from where it was written: the limit with an index."""
        offset, length = self.ranges[frame_index]
        descriptor = os.open(self.image.path, os.O_RDONLY)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def walk_and_read(self, frame_index: int) -> bytes:
        """Walk the items of the mapped file, then read a frame: the limit without an index."""
        limits.walk_items(self.image.path, limits.skip_header(self.image.path))
        return self.open_and_read(frame_index)


def write_image(
    root: Path,
    number_of_frames: int,
    layout: str = LAYOUTS[0],
    *,
    name: str = "image.dcm",
    sizes: tuple[int, int] | None = None,
    items: bool = False,
    number: int = 0,
) -> Written:
    """Write an encapsulated multi-frame image.

    Parameters
    ----------
    layout : str
        One of LAYOUTS.
    sizes : (int, int), optional
        Fewest and most bytes of a frame: 4 to 16 kB, or 100 to 200 bytes of more than 100,000.
    items : bool
        Write an item of Per-frame Functional Groups for each frame, everything in it with an
        undefined length.
    number : int
        What tells its UIDs from another's.
    """
    sizes = sizes or ((4096, 16384) if number_of_frames <= 100_000 else (100, 200))
    frames = Frames(number_of_frames, sizes, seed=number)
    uids = name_uid(number, 1), name_uid(number, 2), name_uid(number, 3)
    image = Image(str(root), name, number_of_frames, *uids)
    header = pack_header(image, SECONDARY_CAPTURE_STORAGE, JPEG_BASELINE)
    header += image_attributes(rows=64, columns=64, bits=8, number_of_frames=number_of_frames)
    if items:
        header += pack_functional_groups(number_of_frames)
    starts = list(itertools.accumulate((size + 8 for size in frames.sizes[:-1]), initial=0))
    table = array("I", starts).tobytes() if layout == "Basic Offset Table" else b""
    if layout == "Extended Offset Table":
        header += extended_offset_table(starts, frames.sizes)
    root.mkdir(parents=True, exist_ok=True)
    with open(image.path, "wb", buffering=1 << 20) as file:
        file.write(header)
        file.write(element(PIXEL_DATA, "OB", length=UNDEFINED) + item(table))
        ranges = _write_fragments(file, frames, halved=layout == LAYOUTS[3])
        file.write(SEQUENCE_DELIMITER)
    return Written(image, frames, len(header), ranges)


def _write_fragments(file: BinaryIO, frames: Frames, *, halved: bool) -> list[tuple[int, int]]:
    """Write the items of all frames; return where each frame begins, and its length.

    Of a frame of two pieces, that is the range from the first's value to the second's end.
    """
    position = file.tell()
    ranges = []
    for frame in frames:
        half = len(frame) // 4 * 2
        items = item(frame[:half]) + item(frame[half:]) if halved else item(frame)
        file.write(items)
        ranges.append((position + 8, len(items) - 8))
        position += len(items)
    return ranges


def write_series(
    root: Path,
    count: int,
    pack: Callable[[Image], list[bytes]],
    vary: Callable[[list[bytes], int], None] | None = None,
    *,
    files_a_folder: int = 500,
    series_a_study: int = 1,
) -> list[Image]:
    """Write images of one frame, a series of `files_a_folder` in each folder.

    Files of a series differ in their SOP Instance UID, and in what `vary` changes.

    Parameters
    ----------
    pack : callable
        Returns the pieces of a series' first file; UIDs are in the first of them.
    vary : callable, optional
        From these pieces and the number of a file, makes them the pieces of that file.
    """
    images, pieces, first = [], [b""], b""
    for number in range(count):
        series, place = divmod(number, files_a_folder)
        study = series // series_a_study
        uids = name_uid(study, 1, 0), name_uid(series, 2, 0), name_uid(series, 3, number)
        image = Image(str(root), f"{series:04d}/{place:04d}.dcm", 1, *uids)
        own = image.sop_instance_uid.encode()
        if place == 0:
            Path(image.path).parent.mkdir(parents=True, exist_ok=True)
            pieces, first = pack(image), own
        if vary is not None:
            vary(pieces, number)
        head, *rest = pieces
        Path(image.path).write_bytes(b"".join((head.replace(first, own), *rest)))
        images.append(image)
    return images


def write_small_files(root: Path, count: int, files_a_folder: int = 500) -> list[Image]:
    """Write CT-like images of 265 elements and 39 kB, a series of `files_a_folder` in each folder.

    Slices of a series differ in their UIDs and, as positions, times and currents do, in the values
    of VARYING elements, whose lengths vary, too.
    """
    generator = random.Random(5)

    def vary(pieces: list[bytes], number: int) -> None:
        step = (len(pieces) - 2) // VARYING
        for at in range(0, VARYING * step, step):
            value = str(generator.randrange(-(10**6), 10**6))
            pieces[1 + at] = element(0x00291000 + at, "DS", value)

    return write_series(root, count, pack_small_file, vary, files_a_folder=files_a_folder)


def pack_small_file(image: Image) -> list[bytes]:
    """Return a native image of 128 x 128 pixels of 16 bits, with 265 elements.

    In pieces: what comes before its private elements, each of these, and its pixels.
    """
    generator = random.Random(image.sop_instance_uid)
    before = list(pack_attributes(image, CT_IMAGE_STORAGE))
    pixel_module = image_attributes(rows=128, columns=128, bits=16)
    private = []
    vrs = itertools.cycle(("LO", "DS", "IS", "CS", "US"))
    for number in range(_ELEMENTS - 5 - 2 - len(before) - _PIXEL_ELEMENTS):
        value = f"{generator.randrange(10**8, 10**9)} text"[: generator.randrange(4, 14)]
        vr = next(vrs)
        if vr in ("DS", "IS"):
            value = value[:9]  # digits alone
        tag = 0x00291000 + number
        private.append(element(tag, vr, number if vr == "US" else value.strip().upper()))
    creator = element(0x00290010, "LO", "MMINDEX BENCH")
    meta = pack_file_meta(EXPLICIT_VR_LITTLE_ENDIAN, CT_IMAGE_STORAGE, image.sop_instance_uid)
    pixels = element(PIXEL_DATA, "OW", generator.randbytes(128 * 128 * 2))
    return [b"".join((meta, *before, pixel_module, creator)), *private, pixels]
