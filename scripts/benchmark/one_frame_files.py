"""Case: one-frame files in random order, more than may be open: a CT archive, a shuffled loader."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dicom_bytes import PIXEL_DATA, element, image_attributes

import mmindex
from scripts.benchmark.cases import Case, Site
from scripts.benchmark.data import walk_series
from scripts.benchmark.elements import CT_IMAGE_STORAGE, pack_header
from scripts.benchmark.measure import Contender, attempt
from scripts.benchmark.model import MMINDEX, Image
from scripts.benchmark.openers import (
    OPENERS,
    Opener,
    build_dicomweb_client,
    build_mmindex,
    read_by_uids,
    read_once,
)

OPEN_EACH = "os.open, fstat, pread and close"
_ROWS = _COLUMNS = 48
_FRAME_LENGTH = _ROWS * _COLUMNS * 2
_MOST_FOR_DICOMWEB = 10_000  # files: its index of more takes minutes


class _File(NamedTuple):
    image: Image
    offset: int  # of the frame
    number: int


def _make_frame(number: int) -> bytes:
    """Return the pixels of a file: its number, again and again."""
    return number.to_bytes(4, "little") * (_FRAME_LENGTH // 4)


def _write_files(root: Path, count: int) -> list[_File]:
    """Write native CT slices of some 6 kB, a series of 500 in each folder."""
    files = []
    template, first = b"", Image("", "", 0, "", "", "")
    for number, image in enumerate(walk_series(root, count)):
        if image.series_instance_uid != first.series_instance_uid:
            first, template = image, _pack_header(image)
        uid, own = first.sop_instance_uid.encode(), image.sop_instance_uid.encode()
        header = template.replace(uid, own)
        with open(image.path, "wb") as file:
            file.write(header + _make_frame(number))
        files.append(_File(image, len(header), number))
    return files


def _pack_header(image: Image) -> bytes:
    """Return all of a file but its pixels."""
    pixels = image_attributes(rows=_ROWS, columns=_COLUMNS, bits=16)
    pixels += element(PIXEL_DATA, "OW", length=_FRAME_LENGTH)
    return pack_header(image, CT_IMAGE_STORAGE) + pixels


class _Shuffled:
    """One contender's way through the files: each call reads the next one, and none soon again.

    All contenders go through the files in the same order, each at its own pace.
    """

    def __init__(self, files: list[_File], read: Callable[[_File], bytes]) -> None:
        self._files = list(files)
        random.Random(7).shuffle(self._files)
        self._next = 0
        self._read = read

    def __call__(self) -> bytes:
        file = self._files[self._next]
        self._next = (self._next + 1) % len(self._files)
        return self._read(file)

    def expected(self) -> bytes:
        """Return what the last call had to return."""
        return _make_frame(self._files[self._next - 1].number)


def _contend(files: list[_File], name: str, read: Callable[[_File], bytes]) -> Contender:
    shuffled = _Shuffled(files, read)
    return Contender(name, shuffled, expected=shuffled.expected)


def _open_and_read(file: _File) -> bytes:
    """Do what any reader of a file that is not open has to do, with all that it has to know."""
    descriptor = os.open(file.image.path, os.O_RDONLY)
    os.fstat(descriptor)  # whether it is the file that was indexed
    frame = os.pread(descriptor, _FRAME_LENGTH, file.offset)
    os.close(descriptor)
    return frame


def _open_with(opener: Opener, file: _File) -> bytes:
    return read_once(opener, file.image, 0)


def _make_dicomweb_client(files: list[_File], root: str, stack: ExitStack) -> Contender:
    build_dicomweb_client(root)
    read = read_by_uids(root, stack)
    return _contend(files, "dicomweb-client", lambda file: read(file.image, 0))


def list_cases(count: int, site: Site) -> Iterator[Case]:
    """Read the frames of more files than may be open, each once, from an open index."""
    root = site.folder / "files"
    files = _write_files(root, count)
    build_mmindex(str(root))
    archive = site.stack.enter_context(mmindex.open(root, max_open_files=count // 20))
    peers = [
        _contend(files, name, partial(_open_with, OPENERS[name]))
        for name in ("pydicom dcmread", "highdicom")
    ]
    if count <= _MOST_FOR_DICOMWEB:
        make = partial(_make_dicomweb_client, files, str(root), site.stack)
        peers.append(attempt("dicomweb-client", make))
    yield Case(
        f"a frame of one of {count:,} one-frame files that are not open, index open",
        [
            _contend(files, MMINDEX, lambda file: archive.frame(file.image.sop_instance_uid, 0)),
            *peers,
            _contend(files, OPEN_EACH, _open_and_read),
        ],
        limit=OPEN_EACH,
        bound=2.5,
    )
    yield Case(
        f"an item of a FrameDataset of {count:,} one-frame files, shuffled",
        _list_dataset(files, archive),
        limit=OPEN_EACH,
        bound=6.0,
    )


def _list_dataset(files: list[_File], archive: mmindex.Archive) -> list[Contender]:
    dataset = mmindex.FrameDataset(archive)
    places = {dataset.locate(at)[0]: at for at in range(len(dataset))}
    by_number = {file.number: places[file.image.sop_instance_uid] for file in files}

    def read(file: _File) -> bytes:
        return bytes(dataset[by_number[file.number]])

    return [_contend(files, MMINDEX, read), _contend(files, OPEN_EACH, _open_and_read)]
