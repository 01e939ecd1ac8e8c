"""The scan of objects by ranges: little memory, no byte twice, and no more than is needed."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from container_bytes import encapsulated, native
from dicom_bytes import (
    JPEG_BASELINE,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    identified,
    image_attributes,
    item,
    sequence,
)
from remote_archive import tiled_object

from mmindex.errors import FormatError, MMIndexError, RemoteReadError
from mmindex.model import Buffer, InstanceRecord
from mmindex.scan.instance import scan
from mmindex.sources.memory import MemorySource
from mmindex.sources.remote_scan import scan_remote

pytest.importorskip("numpy")


class Counted(MemorySource):
    """Memory that is far away: what was read of it is counted."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "far")
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return bytes(super().view(offset, length))

    def read_many(self, ranges: object) -> list[bytes]:
        return [self.read(offset, length) for offset, length in ranges]  # type: ignore[attr-defined]

    @property
    def received(self) -> int:
        return sum(length for _, length in self.reads)


def outcome(call: object) -> object:
    try:
        return call()  # type: ignore[operator]
    except MMIndexError as error:
        return type(error), error.message


def junk(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def broken_files() -> dict[str, bytes]:
    whole = native("1.1")
    at = whole.index(b"\x28\x00\x10\x00")
    sequence = struct.pack("<HH2sHI", 0x0028, 0x0012, b"SQ", 0, 0xFFFF_FFFF)
    return {
        "no DICOM": junk(5 << 20),
        "preamble alone": bytes(128) + b"DICM" + junk(5 << 20),
        "junk in the header": whole[:at] + junk(5 << 20),
        "open sequence": whole[:at] + sequence + junk(5 << 20),
        "zeros": whole[:at] + bytes(5 << 20),
        "long element": whole[:at] + element(0x00280020, "OB", junk(3 << 20)) + whole[at:],
        "cut": encapsulated("1.1", [junk(90_000, at) for at in range(9)])[:-100_000],
    }


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", broken_files())
def test_broken_objects_have_the_outcome_of_a_scan_of_all_bytes(name: str, force: bool) -> None:
    """Never more bytes than the object has; where more bytes change nothing, few."""
    data = broken_files()[name]
    source = Counted(data)
    found = outcome(partial(scan_remote, source, partial(scan, force=force), force=force))
    assert found == outcome(partial(scan, data, force=force))
    assert source.received <= len(data)
    if name in ("no DICOM", "preamble alone", "junk in the header") and not force:
        assert source.received <= 1 << 20


def long_headers() -> dict[str, bytes]:
    """Return files with over 64 KiB before the pixel data, in all kinds of sequences."""
    inner = element(0x00080100, "SH", "x" * 16)
    kinds = {}
    for outer in (False, True):
        for undefined in (False, True):
            items = [item(inner, undefined=undefined) for _ in range(9000)]
            name = f"items {undefined}, sequence {outer}"
            kinds[name] = sequence(0x00081140, items, undefined=outer)
    nested = sequence(0x00081140, [item(kinds["items True, sequence True"], undefined=True)])
    kinds["nested"] = nested
    kinds["private"] = element(0x00091010, "UN", junk(400_000))
    kinds["text"] = element(0x00204000, "LT", "x" * 60_000) + element(
        0x00189999, "UT", "y" * 300_000
    )
    files = {}
    for name, value in kinds.items():
        data_set = identified(value + image_attributes(), "1.1")
        files[name] = dicom_file(data_set + element(PIXEL_DATA, "OB", b"abcd"))
        files[f"{name}, items"] = dicom_file(
            data_set + encapsulate([b"\xff\xd8" + junk(90_000) + b"\xff\xd9"]), JPEG_BASELINE
        )
    return files


@pytest.mark.parametrize("name", long_headers())
def test_long_headers_are_read_to_their_end(name: str) -> None:
    """No error of a head that is cut is taken for one of the object."""
    data = long_headers()[name]
    source = Counted(data)
    assert scan_remote(source, scan) == scan(data)
    assert source.received <= len(data)


def test_a_part_of_an_object_is_scanned_in_place() -> None:
    """Nothing outside the part is read."""
    data = encapsulated("1.1", [b"\xff\xd8" + junk(50_000, at) + b"\xff\xd9" for at in range(20)])
    source = Counted(junk(1000) + data + junk(1000, 2))
    record = scan_remote(source, scan, within=(1000, len(data)))
    assert record == scan(data)
    assert all(at >= 1000 and at + length <= 1000 + len(data) for at, length in source.reads)


MEASURED = """
import os, resource, sys
from functools import partial
from obstore.store import LocalStore
import numpy
import mmindex.scan.encapsulated
from mmindex.scan.instance import scan
from mmindex.sources.object_store import ObjectSource
from mmindex.sources.remote_scan import scan_remote
from mmindex.sources.requests import watching

received = 0
def count(request):
    global received
    received += request.length

folder, name = os.path.split(sys.argv[1])
source = ObjectSource(LocalStore(folder), name, name)
source.read(0, 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with watching(count):
    record = scan_remote(source, scan)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before, received, record.number_of_frames, record.frames.frames_located)
"""


def write_large(path: Path, frame: int, size: int) -> int:
    """Write a file without an offset table whose frames are holes but for their beginnings."""
    count = size // (frame + 8)
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes(number_of_frames=count)
    head = dicom_file(data_set + encapsulate([b"x"]), JPEG_BASELINE)
    head = head[: head.index(b"\xfe\xff\x00\xe0")] + b"\xfe\xff\x00\xe0\0\0\0\0"
    begin = b"\xfe\xff\x00\xe0" + struct.pack("<I", frame) + b"\xff\xd8"
    with path.open("wb") as file:
        file.write(head)
        for number in range(count):
            file.seek(len(head) + number * (frame + 8))
            file.write(begin)
        file.seek(len(head) + count * (frame + 8))
        file.write(b"\xfe\xff\xdd\xe0\0\0\0\0")
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux")
@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (20_000, 1 << 27),
        (3_000_000, 1 << 30),
        pytest.param(2_000, 1 << 30, marks=pytest.mark.long),
        pytest.param(20_000, 1 << 30, marks=pytest.mark.long),
        pytest.param(100_000, 1 << 30, marks=pytest.mark.long),
    ],
)
def test_a_large_object_without_a_table_takes_little_memory(
    tmp_path: Path, frame: int, size: int
) -> None:
    """At most 64 MiB, and no more bytes than the object has; of long frames headers alone."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    path = tmp_path / "large.dcm"
    count = write_large(path, frame, size)
    child = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr
    memory, received, frames, located = map(int, child.stdout.split())
    assert (frames, located) == (count, count)
    assert memory <= 64 << 10
    assert received <= path.stat().st_size
    if frame > 1 << 20:
        assert received <= count * 8192 + (1 << 20)


def test_samples_of_a_short_object_are_one_request() -> None:
    """What lies between near ones is read, too; never more than the object has."""
    data = tiled_object("1.1", [b"\xff\x4f" + junk(2_498, at) for at in range(200)])
    source = Counted(data)
    unproved = partial(scan, prove=False)
    assert scan_remote(source, unproved, prove=False) == unproved(data)
    assert len(source.reads) == 2
    assert source.received <= len(data)


# Memory and disk.


def with_long_table(length: int, *, extended: bool = False) -> bytes:
    """Return a file whose offset table has this length in bytes, all of it zeros."""
    if extended:
        table = element(0x7FE00001, "OV", bytes(length))
        data_set = image_attributes() + table + encapsulate([b"\xff\xd8ab"])
        return dicom_file(data_set, JPEG_BASELINE)
    pixels = encapsulate([b"\xff\xd8ab"])
    at = pixels.index(b"\xfe\xff\x00\xe0")
    first = b"\xfe\xff\x00\xe0" + struct.pack("<I", length) + bytes(length)
    return dicom_file(image_attributes() + pixels[:at] + first + pixels[at + 8 :], JPEG_BASELINE)


@pytest.mark.parametrize("prove", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_a_table_that_fills_the_memory_is_refused(extended: bool, prove: bool) -> None:
    """A first item may claim the object's length; up to 64 objects are scanned at once."""
    source = Counted(with_long_table((1 << 24) + 8, extended=extended))
    with pytest.raises(FormatError, match="an offset table of at most 16777216 bytes"):
        scan_remote(source, partial(scan, prove=prove), prove=prove)
    assert max(length for _, length in source.reads) <= 4 << 20


@pytest.mark.parametrize("prove", [False, True])
def test_a_long_table_is_read_in_parts(prove: bool) -> None:
    """With the outcome of a scan of all bytes."""
    data = with_long_table(12 << 20)
    source = Counted(data)
    found = outcome(partial(scan_remote, source, partial(scan, prove=prove), prove=prove))
    assert found == outcome(partial(scan, data, prove=prove))
    assert max(length for _, length in source.reads) <= 4 << 20


def test_a_full_disk_is_told_and_never_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the folder and the variable that names another one."""
    data = encapsulated("1.1", [b"\xff\xd8" + junk(50_000, at) + b"\xff\xd9" for at in range(20)])
    write, left = os.pwrite, [60_000]

    def pwrite(number: int, data: bytes, offset: int) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(number, data[: left[0]], offset)
        left[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", pwrite)
    source = Counted(data * 2)  # which are read to the end of the first
    with pytest.raises(RemoteReadError, match=r"far: .*No space left.*TMPDIR"):
        scan_remote(source, scan)


def test_short_writes_are_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write may end in the middle: the rest must not read as zeros."""
    data = encapsulated("1.1", [b"\xff\xd8" + junk(5_000, at) + b"\xff\xd9" for at in range(20)])
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda number, data, at: write(number, data[:7], at))
    assert scan_remote(Counted(data), scan) == scan(data)


@pytest.mark.parametrize(("room", "most"), [(1 << 30, 4), (280_000, 2), (10, 1)])
def test_scans_run_at_once_as_far_as_there_is_room(
    room: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of objects that are read whole; one of them always runs."""
    monkeypatch.setattr(
        "mmindex.sources.temporary_room.shutil.disk_usage",
        lambda folder: SimpleNamespace(free=room),
    )
    data = encapsulated("1.1", [b"\xff\xd8" + junk(40_000, at) + b"\xff\xd9" for at in range(3)])
    running: list[int] = []
    lock, together, seen = threading.Lock(), threading.Barrier(most), []

    def look(buffer: Buffer) -> InstanceRecord:
        with lock:
            running.append(1)
            seen.append(len(running))
        with suppress(threading.BrokenBarrierError):
            together.wait(10)
        with lock:
            running.pop()
        return scan(buffer)

    with ThreadPoolExecutor(12) as threads:
        records = list(threads.map(lambda _: scan_remote(Counted(data), look), range(12)))
    assert records == [scan(data)] * 12
    assert max(seen) == most
