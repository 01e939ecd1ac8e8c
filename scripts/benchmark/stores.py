"""Cases: a look-up in an index of a million instances, and an update of it, against a thousand."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mmindex
from mmindex import ByteRange, FrameTable, ImagePixel, InstanceRecord
from mmindex.frame_table import Layout
from mmindex.index.create import create_index
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Boundaries, Fingerprint, Status
from scripts.benchmark.cases import Case, Site
from scripts.benchmark.data import pack_small_file
from scripts.benchmark.elements import name_uid
from scripts.benchmark.measure import Contender
from scripts.benchmark.model import MMINDEX, Image

FRAMES = 10
FEW = 1000
FEW_NAME = f"the same in an index of {FEW:,}"
AIM = 0.01  # seconds of an update
LOOK_UPS = 5000
BATCH = 4000


def list_look_ups(many: int, site: Site) -> Iterator[Case]:
    """Find where a random frame of a random instance lies, in a small and in a large index."""

    def make(name: str, count: int) -> Contender:
        path = site.folder / f"index of {count}"
        write_index(path, count)
        store = site.stack.enter_context(closing(Store(str(path))))
        return Contender(name, look_up(store), choose(count), expect)

    title = f"look-up of a frame, index of {many:,} instances of {FRAMES} frames"
    yield Case(title, [make(MMINDEX, many), make(FEW_NAME, FEW)], limit=FEW_NAME, bound=1.5)


def list_updates(many: int, site: Site) -> Iterator[Case]:
    """Update an index for a file that was renamed into place, and commit."""

    def make(name: str, count: int) -> Contender:
        root = site.folder / f"archive of {count}"
        root.mkdir()
        write_index(root / ".mmindex", count, os.fsencode(root))
        site.stack.enter_context(mmindex.open(root))
        arrivals = Arrivals(root)
        arrivals.rename()
        arrivals.update()  # the first write of a process looks at all pages of the index
        return Contender(name, arrivals.update, expected=lambda: 1, prepare=arrivals.rename)

    yield Case(
        f"update of one new file, commit included, index of {many:,} instances",
        [make(MMINDEX, many), make(FEW_NAME, FEW)],
        limit=FEW_NAME,
        bound=1.2,
        aim=AIM,
        least_budget=4.0,  # seconds: a commit waits for the disk
    )


def write_index(path: Path, count: int, root: bytes = b"/archive") -> None:
    """Write an index of instances that no files are there for."""
    create_index(str(path), root)
    with closing(Store(str(path), write=True)) as store:
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            store.replace([pack_record(make_record(number)) for number in numbers])


def make_record(number: int) -> InstanceRecord:
    """Return the record of an ultrasound cine; frame i of each begins at 2000 + 1000 i."""
    starts = range(0, (FRAMES + 1) * 1000, 1000)
    return InstanceRecord(
        Status.INDEXED,
        path=b"%04d/%d.dcm" % (number // 1000, number),
        fingerprint=Fingerprint(20_000, 1, number),
        transfer_syntax_uid="1.2.840.10008.1.2.4.50",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.3.1",
        sop_instance_uid=make_uid(number),
        study_instance_uid=f"1.2.840.99999.2.{number // 1000}",
        series_instance_uid=f"1.2.840.99999.3.{number // 100}",
        modality="US",
        number_of_frames=FRAMES,
        boundaries=Boundaries.ONE_FRAGMENT_A_FRAME,
        image_pixel=ImagePixel(
            rows=512, columns=512, samples_per_pixel=3, bits_allocated=8, bits_stored=8
        ),
        frames=FrameTable(
            Layout.FRAGMENT_A_FRAME,
            FRAMES,
            FRAMES,
            FRAMES,
            2000,
            entries=b"".join(start.to_bytes(4, "little") for start in starts),
        ),
    )


def make_uid(number: int) -> str:
    """Return the SOP Instance UID of an instance."""
    return f"1.2.840.99999.1.{number}"


def choose(count: int) -> list[tuple[str, int]]:
    """Return instances and frames at random."""
    generator = random.Random(4)
    return [
        (make_uid(generator.randrange(count)), generator.randrange(FRAMES)) for _ in range(LOOK_UPS)
    ]


def look_up(store: Store) -> Callable[[str, int], tuple[ByteRange, ...]]:
    """Return how a frame is found that was not asked for before."""

    def find(uid: str, frame_index: int) -> tuple[ByteRange, ...]:
        ((_, record),) = store.read_records("instances", uid)
        assert record.frames is not None
        return record.frames.fragment_ranges(frame_index)

    return find


def expect(uid: str, frame_index: int) -> tuple[ByteRange, ...]:
    """Return where the frame was said to be."""
    return (ByteRange(2008 + 1000 * frame_index, 992),)


class Arrivals:
    """New files of an archive, one after the other."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = itertools.count()
        self._path = root

    def rename(self) -> None:
        """Rename the next file into place."""
        uids = name_uid(1, 1, 0), name_uid(1, 2, 0), name_uid(1, 3, next(self._numbers))
        new = Image(str(self._root), "new", 1, *uids)
        Path(new.path).write_bytes(b"".join(pack_small_file(new)))
        self._path = Path(new.path).rename(self._root / f"{new.sop_instance_uid}.dcm")

    def update(self) -> int:
        """Bring the index up to date for it; return how many files were scanned."""
        return mmindex.update(self._root, [self._path]).scanned
