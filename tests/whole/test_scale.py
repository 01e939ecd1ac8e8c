"""Archives of many files: kill -9 at any moment, look-ups, and the memory of a build."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dicom_bytes import encapsulated_file, small_image
from new_store import create_store

import mmindex
from mmindex.frame_table import FrameTable, Layout
from mmindex.index import chunks as entries_module
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status

ROOT = Path(__file__).resolve().parents[2]

# Kill -9

FILES, MOMENTS = 400, 50
KILLED = """
import sys
import mmindex
from mmindex.update import commits, met, plan

commits._COMMIT_FILES = 8
met._CHUNK_FILES = 4
plan.LOOKED_UP = 32
begun = False

def begin(report):
    global begun
    if not begun:
        begun = True
        print("begun", flush=True)

mmindex.build(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]), full=sys.argv[4] == "full",
              progress=begin)
print("ended", flush=True)
sys.stdin.read()  # until it is killed
"""


def write_files(root: Path) -> None:
    """Write images, files that can't be read, and what is none."""
    root.mkdir()
    for number in range(FILES):
        content = small_image(f"1.{number}", b"%04d" % number, study="1.2")
        if number % 10 == 3:
            content = encapsulated_file([b"\xff\xd8A\xff\xd9\0"] * (number % 7), number % 7)
        elif number % 10 == 5:
            content = content[: number % 300]
        (root / f"{number}").write_bytes(content)


def read_records(index: Path) -> dict[bytes, InstanceRecord]:
    with mmindex.open(index) as archive:
        records = list(archive.records())
        uids = {record.sop_instance_uid for record in records if record.status.has_frames}
        assert set(archive) | {""} == uids | {""}
        for record in records:
            assert archive.full_path(record)
    assert len({record.path for record in records}) == len(records)
    return {record.path: record for record in records}


def start_build(root: Path, index: Path, workers: int, known: bool) -> subprocess.Popen[bytes]:
    """Start a build in another process, and return when it has begun to look at files."""
    arguments = [str(root), str(index), str(workers), "full" if known else "changed"]
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    return child


def kill(child: subprocess.Popen[bytes]) -> bool:
    """Kill a build; return whether it was at work."""
    child.kill()
    assert child.stdout is not None
    assert child.stdin is not None
    with child.stdin, child.stdout:
        said = child.stdout.read()  # to its end: until the last of its workers is gone, too
    child.wait()
    assert child.returncode == -signal.SIGKILL
    return b"ended" not in said


def wait_for(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Let a build go on for so long."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return
    raise AssertionError("the build failed")


@pytest.mark.long
def test_a_build_killed_at_any_of_50_moments_is_right_as_far_as_it_came(tmp_path: Path) -> None:
    """The index opens, every record in it is that of a fresh build, and the next one ends it.

    Every other build finds an index of all files, and scans them again.
    """
    root, index = tmp_path / "archive", tmp_path / "index"
    write_files(root)
    mmindex.build(root, tmp_path / "fresh", workers=1)
    fresh = read_records(tmp_path / "fresh")
    assert len(fresh) == FILES
    chance = random.Random(4)
    longest = {}
    for known in (False, True):
        child = start_build(root, index, 1, known)
        begun = time.monotonic()
        assert child.stdout is not None
        assert child.stdout.readline() == b"ended\n"
        longest[known] = time.monotonic() - begun
        kill(child)
    at_work = partial = 0
    for moment in range(MOMENTS):
        known = moment % 2 == 1
        if not known:
            index.unlink()
        child = start_build(root, index, 2 if moment % 10 > 7 else 1, known)
        wait_for(child, chance.uniform(0, longest[known]))
        at_work += kill(child)
        left = read_records(index)
        assert left.items() <= fresh.items()
        assert len(left) == FILES or not known
        partial += 0 < len(left) < FILES
        report = mmindex.build(root, index, workers=1)
        assert (report.found, report.unchanged) == (FILES, len(left))
        assert report.scanned == FILES - len(left)
        assert read_records(index) == fresh
    assert at_work
    assert partial


# Look-ups

INSTANCES, BATCH = 200_000, 20_000
FRAMES = 10
LARGE = "1.2.840.9"


def instance_record(number: int) -> InstanceRecord:
    """Return a record whose UIDs, path and offsets tell its number."""
    starts = [frame * 100 + number % 90 * frame for frame in range(FRAMES + 1)]
    return InstanceRecord(
        Status.INDEXED,
        path=b"%03d/%07d.dcm" % (number % 1000, number),
        fingerprint=Fingerprint(number, number + 1, number + 2),
        transfer_syntax_uid="1.2.840.10008.1.2.4.50",
        sop_instance_uid=f"1.2.840.1.{number:07}",
        study_instance_uid=f"1.2.840.2.{number // 1000:07}",
        series_instance_uid=f"1.2.840.3.{number // 100:07}",
        number_of_frames=FRAMES,
        frames=frame_table(starts, 1000 + number),
    )


def frame_table(starts: list[int], value_offset: int) -> FrameTable:
    count = len(starts) - 1
    entries = b"".join(start.to_bytes(4, "little") for start in starts)
    return FrameTable(
        Layout.FRAGMENT_A_FRAME, count, count, count, value_offset=value_offset, entries=entries
    )


def large_record(number_of_frames: int) -> InstanceRecord:
    return InstanceRecord(
        Status.INDEXED,
        path=b"large.dcm",
        fingerprint=Fingerprint(1, 2, 3),
        sop_instance_uid=LARGE,
        number_of_frames=number_of_frames,
        frames=frame_table([frame * 50 for frame in range(number_of_frames + 1)], 500),
    )


def make_store(folder: Path, count: int) -> Store:
    """Return a store of so many instances, put in in a random order of UIDs and paths."""
    folder.mkdir()
    mmindex.build(folder, workers=1)
    store = create_store(str(folder / ".mmindex"), os.fsencode(folder))
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)
    for at in range(0, count, BATCH):
        store.replace([pack_record(instance_record(number)) for number in numbers[at : at + BATCH]])
    return store


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of 200,000 instances."""
    store = make_store(tmp_path_factory.mktemp("scale") / "many", INSTANCES)
    yield store
    store.close()


def test_random_look_ups_are_right(many: Store) -> None:
    """By UID and by path, any of 200,000; and those that are not there are not."""
    chance = random.Random(2)
    for number in [0, INSTANCES - 1, *(chance.randrange(INSTANCES) for _ in range(1000))]:
        expected = instance_record(number)
        (file_id,) = many.find_uid("instances", expected.sop_instance_uid)
        ((found_id, _),) = filter(None, many.find_paths([expected.path]))
        assert found_id == file_id
        record = many.read_record(file_id)
        assert record == expected
        assert record.frames is not None
        frame = chance.randrange(FRAMES)
        length = 100 + number % 90
        assert record.frames.contiguous_range(frame) == (
            1000 + number + frame * length + 8,
            length - 8,
        )
    assert many.find_uid("instances", "1.2.840.1.x") == []
    assert many.find_paths([b"000/0000001.dcm"]) == [None]
    assert many.find_paths([b"001/0000001.dcm"]) != [None]


def test_a_study_and_a_series_of_many_are_found(many: Store) -> None:
    """A thousand files of a study, a hundred of a series, in no time spent on the others."""
    assert len(many.find_uid("studies", "1.2.840.2.0000123")) == 1000
    file_ids = many.find_uid("series", "1.2.840.3.0001999")
    numbers = {record.path for record in map(many.read_record, file_ids) if record is not None}
    assert numbers == {instance_record(number).path for number in range(199_900, 200_000)}
    with mmindex.open(many.path) as archive:
        assert len(archive) == INSTANCES
        assert sum(1 for _ in archive.records()) == INSTANCES
        assert next(iter(archive)) == "1.2.840.1.0000000"


def test_a_look_up_descends_few_pages(many: Store, tmp_path: Path) -> None:
    """Two hundred times the instances cost at most two pages more in each database."""
    few = make_store(tmp_path / "few", 1000)
    try:
        for name in ("files", "paths", "instances"):
            assert depth(many, name) <= min(4, depth(few, name) + 2)
    finally:
        few.close()


def depth(store: Store, database: str) -> int:
    """Return how many pages lie on the way from the root of a database to a value."""
    shared = store._environment()
    with shared.env.begin() as txn:
        pages: int = txn.stat(shared.opened.databases[database])["depth"]
    return pages


def test_entries_of_over_16_mib_are_not_kept_in_memory(
    many: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the most frames of all, what a frame needs is read each time."""
    monkeypatch.setattr(entries_module, "_KEPT", 1 << 20)
    many.replace([pack_record(large_record(500_000))])
    (file_id,) = many.find_uid("instances", LARGE)
    record = many.read_record(file_id)
    assert record is not None
    assert record.frames is not None
    for frame in (7, 7, 499_999):
        assert record.frames.contiguous_range(frame) == (500 + frame * 50 + 8, 42)
    assert record.frames.entries._chunks is None  # type: ignore[attr-defined]
    many.replace([], removed=[file_id])


def test_a_frame_of_a_long_instance_reads_its_entries_only(
    many: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its 2 MB of entries stay in the index: each chunk that is wanted is read once."""
    many.replace([pack_record(large_record(500_000))])
    (file_id,) = many.find_uid("instances", LARGE)
    read: list[int] = []
    read_entries: Callable[..., bytes] = Store.read_entries

    def count(store: Store, *arguments: object) -> bytes:
        data = read_entries(store, *arguments)
        read.append(len(data))
        return data

    monkeypatch.setattr(Store, "read_entries", count)
    record = many.read_record(file_id)
    assert record is not None
    assert record.frames is not None
    assert read == []
    for frame in (0, 499_999, 123_456, 5, 499_998):
        assert record.frames.contiguous_range(frame) == (500 + frame * 50 + 8, 42)
    assert read == [16_360, 500_001 * 4 % 16_360, 16_360]
    across = (
        16_360 // 4 - 1
    )  # its start is the last entry of a chunk, its end the first of the next
    assert record.frames.contiguous_range(across) == (500 + across * 50 + 8, 42)
    assert read[3:] == [8]
    many.replace([], removed=[file_id])
    assert many.find_uid("instances", LARGE) == []


# Memory

SIMULATED = """
import re, sys
from concurrent.futures import Executor, Future
import mmindex
from mmindex.index import store
from mmindex.sources import folder
from mmindex.sources.base import FoundFile
from mmindex.index.record import pack_record
from mmindex.frame_table import FrameTable, Layout
from mmindex.model import Fingerprint, InstanceRecord, Status

COUNT, FRAMES = int(sys.argv[2]), int(sys.argv[3])
ENTRIES = b"".join((frame * 100).to_bytes(4, "little") for frame in range(FRAMES + 1))
FRAME_TABLE = FrameTable(Layout.FRAGMENT_A_FRAME, FRAMES, FRAMES, FRAMES, 500, entries=ENTRIES)
SIZE = 500 + 100 * FRAMES  # of a file with such a table
peak = 0

def look(*ignored):
    global peak
    with open("/proc/self/status") as status:
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", status.read())[1]))

def walk(root, index, rules, start):
    for number in range(COUNT):
        yield FoundFile(b"some/where/%09d.dcm" % number, Fingerprint(SIZE + number, 1, number))

class Prepared(Executor):
    def submit(self, scan, paths, options):
        future = Future()
        future.set_result([self.scan(path) for path in paths])
        return future

    def scan(self, path):
        number = int(path[-13:-4])
        return pack_record(InstanceRecord(
            Status.INDEXED, path=path, fingerprint=Fingerprint(SIZE + number, 1, number),
            sop_instance_uid=f"1.2.840.{number}", study_instance_uid=f"1.2.841.{number // 500}",
            number_of_frames=FRAMES, frames=FRAME_TABLE))

def replace_and_look(*arguments):
    unknown = replace_files(*arguments)
    look()
    return unknown

replace_files, store.replace_files = store.replace_files, replace_and_look
folder.walk_archive = walk
reports = [mmindex.build(sys.argv[1], workers=4, executor=Prepared(), progress=look, full=full)
           for full in (False, False, True)]
print(peak << 10, *(n for r in reports for n in (r.scanned, r.unchanged)), reports[0].frames)
"""


@pytest.mark.long
def test_memory_of_a_build_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """100,000 files of 200 frames: new, unchanged, and scanned again, in less than 200 MB.

    What is measured is the private memory of the process that builds, between its commits and
    at the end of each: Python's and LMDB's.
    """
    small, large = (peak_of_builds(tmp_path, count, 200) for count in (20_000, 100_000))
    assert large < 200 << 20
    assert large < small + (30 << 20)


def test_memory_of_a_build_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """Records of 400 kB, such as slides have: what is ahead is bounded by bytes, too."""
    assert peak_of_builds(tmp_path, 600, 100_000) < 200 << 20


def peak_of_builds(folder: Path, count: int, frames: int) -> int:
    """Return the most private memory that three builds of simulated files had, in bytes."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("needs /proc/self/status")
    root = folder / f"{count}"
    root.mkdir()
    child = subprocess.run(
        [sys.executable, "-c", SIMULATED, str(root), str(count), str(frames)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    peak, *counts = map(int, child.stdout.split())
    assert counts == [count, 0, 0, count, count, 0, frames * count]
    return peak
