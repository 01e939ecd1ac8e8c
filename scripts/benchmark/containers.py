"""Cases: small files in a tar or zip container, beside tarfile, zipfile and ratarmountcore."""

from __future__ import annotations

import io
import logging
import os
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, redirect_stdout
from functools import partial
from pathlib import Path

import mmindex
from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.data import write_small_files
from scripts.benchmark.measure import Bench, Contender, attempt, contend_pread
from scripts.benchmark.model import MMINDEX, PREAD, Image
from scripts.benchmark.openers import build_mmindex, read_uid_with_pydicom, remove_indexes

READS = 500
FRAME_LENGTH = 128 * 128 * 2  # bytes; a small file ends with its one frame
WALK_AIMS = {"tar": 2.5e-6, "tar, pax": 5e-6, "zip, stored": 7e-6, "zip, deflated": 7e-6}
"""Seconds a member. Before each header of a pax tar is another one, of the records of the member,
which tarfile writes for the fractions of a second of a file's time."""
_TAR_FORMATS = {"tar": tarfile.GNU_FORMAT, "tar, pax": tarfile.PAX_FORMAT}

Read = Callable[[str], bytes]  # the bytes of a member, by its name
Opener = Callable[[str, ExitStack], Read]


def list_containers(bench: Bench) -> Iterator[Setup]:
    """Index containers of small files, and read frames of their members at random."""
    count = 500 if bench.quick else 5000
    for kind in WALK_AIMS:
        yield f"{kind}, {count:,} files", partial(_list_cases, kind, count)


class _Packed:
    """One container of small files, and which of them are read."""

    def __init__(self, site: Site, kind: str, count: int) -> None:
        self.stack = site.stack
        self.root = str(site.folder / "archive")
        self.path = f"{self.root}/files.{kind[:3]}"
        self.is_tar = kind in _TAR_FORMATS
        self.is_stored = "deflated" not in kind
        files = site.folder / "files"
        self.images = write_small_files(files, count)
        Path(self.root).mkdir()
        if self.is_tar:
            with tarfile.open(self.path, "w", format=_TAR_FORMATS[kind]) as tar:
                for image in self.images:
                    tar.add(image.path, image.name)
        else:
            method = zipfile.ZIP_STORED if self.is_stored else zipfile.ZIP_DEFLATED
            with zipfile.ZipFile(self.path, "w", method) as container:
                for image in self.images:
                    container.write(image.path, image.name)
        generator = random.Random(3)
        self.picked = [(generator.choice(self.images),) for _ in range(READS)]

    def expected(self, image: Image) -> bytes:
        """Return what the frame of a member has to be: the end of the file outside."""
        with open(image.path, "rb") as file:
            file.seek(-FRAME_LENGTH, os.SEEK_END)
            return file.read()

    def make_mmindex(self) -> Contender:
        """By UID, from the index."""
        build_mmindex(self.root)
        archive = self.stack.enter_context(mmindex.open(self.root))

        def read(image: Image) -> bytes:
            return archive.frame(image.sop_instance_uid, 0)

        return Contender(MMINDEX, read, self.picked, self.expected)

    def make_peer(self, name: str, opener: Opener) -> Contender:
        """Read a member with a peer that has the container open, and its frame with pydicom."""
        import pydicom

        read_member = opener(self.path, self.stack)

        def read(image: Image) -> bytes:
            data_set = pydicom.dcmread(io.BytesIO(read_member(image.name)))
            value: bytes = data_set.PixelData
            return value

        return Contender(f"{name}, pydicom", read, self.picked, self.expected)

    def make_limit(self) -> Contender:
        """Read known ranges of the container."""
        with mmindex.open(self.root) as archive:
            places = [archive[image.sop_instance_uid].byte_ranges(0)[0] for (image,) in self.picked]
        return contend_pread(self.stack, [(self.path, *place) for place in places])

    def build_with(self, opener: Opener) -> list[tuple[str, object]]:
        """Make the list that an index is made of: open the container, read every header."""
        read = opener(self.path, self.stack)
        return [
            (image.name, read_uid_with_pydicom(io.BytesIO(read(image.name))))
            for image in self.images
        ]


def _open_tarfile(path: str, stack: ExitStack) -> Read:
    tar = stack.enter_context(tarfile.open(path))  # noqa: SIM115 - the stack closes it
    members = {member.name: member for member in tar.getmembers()}

    def read(name: str) -> bytes:
        file = tar.extractfile(members[name])
        if file is None:
            raise KeyError(name)
        return file.read()

    return read


def _open_zipfile(path: str, stack: ExitStack) -> Read:
    container = stack.enter_context(zipfile.ZipFile(path))
    return container.read  # type: ignore[no-any-return]


def _open_ratarmount(path: str, stack: ExitStack) -> Read:
    from ratarmountcore.mountsource.factory import open_mount_source

    with redirect_stdout(io.StringIO()):  # where it says what it does
        source = stack.enter_context(open_mount_source(path, writeIndex=False))

    def read(name: str) -> bytes:
        with source.open(source.lookup(f"/{name}")) as file:
            content: bytes = file.read()
            return content

    return read


def _list_cases(kind: str, count: int, site: Site) -> Iterator[Case]:
    logging.getLogger("ratarmountcore").setLevel(logging.ERROR)
    packed = _Packed(site, kind, count)
    own = ("tarfile", _open_tarfile) if packed.is_tar else ("zipfile", _open_zipfile)
    peers = [own, ("ratarmountcore", _open_ratarmount)]
    remove = partial(remove_indexes, packed.root)
    yield Case(
        f"{kind}: walk of {count:,} members",
        [
            Contender(MMINDEX, partial(_walk, packed.path)),
            *(Contender(name, partial(_open_once, opener, packed.path)) for name, opener in peers),
        ],
        aim=WALK_AIMS[kind] * count,
    )
    if kind == "tar, pax":
        return  # all else is as of the other tar
    yield Case(
        f"{kind}: first build of an index, {count:,} small files, 1 worker",
        [
            Contender(MMINDEX, partial(build_mmindex, packed.root, 1), prepare=remove),
            *(
                Contender(f"{name}, pydicom, headers alone", partial(packed.build_with, opener))
                for name, opener in peers
            ),
        ],
    )
    build_mmindex(packed.root)
    yield Case(
        f"{kind}: update of an unchanged index, {count:,} small files, 1 worker",
        [Contender(MMINDEX, partial(build_mmindex, packed.root, 1))],
    )
    contenders = [
        attempt(MMINDEX, packed.make_mmindex),
        *(attempt(name, partial(packed.make_peer, name, opener)) for name, opener in peers),
    ]
    if packed.is_stored:
        contenders.append(attempt(PREAD, packed.make_limit))
    yield Case(
        f"{kind}: a random frame of {count:,} members",
        contenders,
        limit=PREAD if packed.is_stored else "",
    )


def _walk(path: str) -> int:
    from mmindex.sources.container import walk_members
    from mmindex.sources.folder import Folder

    folder, name = os.path.split(os.fsencode(path))
    with closing(Folder(folder).open(name)) as source:
        return sum(1 for _ in walk_members(source))


def _open_once(opener: Opener, path: str) -> object:
    with ExitStack() as stack:
        return opener(path, stack)
