"""Deflated files that take much memory: within bounds, and one at a time."""

from __future__ import annotations

import os
import resource
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from child_process import exit_code, forks
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex
from mmindex.index.record import unpack_record
from mmindex.model import Fingerprint, Status
from mmindex.scan import file_format, inflate
from mmindex.scan.known_runs import KnownRuns
from mmindex.sources.container import walk_members
from mmindex.sources.folder import Folder
from mmindex.sources.memory import MemorySource
from mmindex.update import long_inflations, met, scan_buffer, scan_members, scan_objects
from mmindex.update.scan_file import scan_files
from mmindex.update.scan_members import MemberTarget

DEFLATED = "1.2.840.10008.1.2.1.99"
MIB = 1 << 20
pytestmark = forks


def bomb(uid: str, megabytes: int) -> bytes:
    """Return a file of a thousandth of what its data set, which is a right one, inflates to."""
    frames = megabytes * 16
    data_set = element(0x00080018, "UI", uid)
    data_set += image_attributes(rows=256, columns=256, number_of_frames=frames)
    data_set += element(PIXEL_DATA, "OB", bytes(frames << 16))
    compress = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = compress.compress(data_set) + compress.flush()
    room = len(data_set) // 900 - len(deflated)  # zlib packs zeros more than a thousand times
    return dicom_file(deflated + bytes(max(0, room)), DEFLATED)


def limit_memory(more: int) -> None:
    """Let this process take so many more bytes of address space, and no more."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))


def member_bomb(archive: Path, megabytes: int) -> MemberTarget:
    """Write a zip whose one member is a right file that is deflated; return what scans it."""
    frames = megabytes * 16
    image = image_attributes(rows=256, columns=256, number_of_frames=frames)
    image = (
        element(0x00080018, "UI", "1.2") + image + element(PIXEL_DATA, "OW", bytes(frames << 16))
    )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.dcm", dicom_file(image))
    root, name = os.path.split(os.fsencode(archive))
    with closing(Folder(root).open(name)) as source:
        (member,) = list(walk_members(source))
    return MemberTarget(name, Fingerprint.of(os.stat(archive)), member)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
@pytest.mark.parametrize("kind", ["data set", "member"])
def test_four_threads_inflate_one_long_file_at_a_time_and_hold_it_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of four files inflates to 128 MiB; all are indexed with 340 MiB of address space."""
    monkeypatch.setattr(inflate, "LONG_INFLATED", 16 * MIB)
    targets: list[bytes | MemberTarget] = [b"%d" % number for number in range(4)]
    if kind == "data set":
        for number in range(4):
            (tmp_path / f"{number}").write_bytes(bomb("1.1", 128))
    else:
        targets = [member_bomb(tmp_path / f"{number}.zip", 128) for number in range(4)]

    def work() -> None:
        options = scan_buffer.ScanOptions()
        with ThreadPoolExecutor(4) as threads:
            started = threading.Barrier(5)
            waiting = [threads.submit(started.wait) for _ in range(4)]
            started.wait()
            for each in waiting:
                each.result()
            limit_memory(340 * MIB)

            def scan(target: bytes | MemberTarget) -> Status:
                (packed,) = scan_files(os.fsencode(tmp_path), [target], options)
                return unpack_record(packed).status

            assert list(threads.map(scan, targets)) == [Status.DEFLATED] * 4

    assert exit_code(work) == 0


def test_processes_of_a_build_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each notes when it begins a long inflation and when the scan after it has ended."""
    monkeypatch.setattr(inflate, "LONG_INFLATED", 1 << 16)
    monkeypatch.setattr(inflate, "_GIVEN", 1 << 16)
    monkeypatch.setattr(met, "_CHUNK_FILES", 1)
    root, notes = tmp_path / "root", tmp_path / "notes"
    root.mkdir()
    for number in range(6):
        (root / f"{number}").write_bytes(bomb(f"1.{number}", 1))
    real = scan_buffer._scan_buffer

    def note(word: str) -> None:
        with open(notes, "a", encoding="ascii") as file:
            file.write(f"{word} {os.getpid()}\n")

    def scan(
        buffer: object,
        options: object,
        known_runs: object,
        at: int,
        begin_long: Callable[[], AbstractContextManager[object]],
    ) -> object:
        def begin() -> None:
            begin_long()
            note("begin")
            time.sleep(0.05)

        record = real(buffer, options, known_runs, at, begin)
        note("end")
        return record

    monkeypatch.setattr(scan_buffer, "_scan_buffer", scan)
    assert mmindex.build(root, tmp_path / "index", workers=3).statuses == {"deflated": 6}
    lines = notes.read_text().splitlines()
    assert len({line.split()[1] for line in lines}) > 1
    assert [line.split()[0] for line in lines] == ["begin", "end"] * 6


def test_a_process_that_was_forked_meanwhile_has_a_turn_of_its_own() -> None:
    """Its parent's threads do not run in it."""
    with long_inflations.taking_turns() as begin:
        begin()

        def work() -> None:
            with long_inflations.taking_turns() as begin_there:
                begin_there()

        assert exit_code(work) == 0


def test_a_long_deflated_file_in_a_long_deflated_member_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread takes the turn that it has."""
    monkeypatch.setattr(inflate, "LONG_INFLATED", 1 << 10)
    monkeypatch.setattr(inflate, "_GIVEN", 1 << 10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.dcm", bomb("1.1", 1) + os.urandom(1 << 16))
    assert mmindex.build(tmp_path, workers=1).statuses == {"deflated": 1, "container": 1}


@pytest.mark.parametrize("given", [1, 7, 1 << 16])
@pytest.mark.parametrize("taken", [1, 1000, 1 << 20])
def test_R7_pieces_of_a_stream_inflate_to_what_all_of_it_does(
    monkeypatch: pytest.MonkeyPatch, given: int, taken: int
) -> None:
    """Whatever is taken and given at once; a stream that is cut is refused at each length."""
    content = b"".join(b"%d" % (number * number) for number in range(400)) + bytes(3000)
    compress = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = compress.compress(content) + compress.flush()
    monkeypatch.setattr(inflate, "_GIVEN", given)
    monkeypatch.setattr(inflate, "_TAKEN", taken)
    assert bytes(file_format.unwrap_deflated(deflated, 0, []) or b"") == content
    assert bytes(file_format.unwrap_deflated(deflated + b"rest", 0, []) or b"") == content
    for length in range(len(deflated) // 2, len(deflated), 97):
        with pytest.raises(mmindex.errors.FormatError, match=r"ends too early|inflates"):
            file_format.unwrap_deflated(deflated[:length], 0, [])


@pytest.mark.parametrize("source", ["file", "object"])
def test_a_long_member_is_read_in_its_turn(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits holds no more of it than shows whether it is DICOM."""
    target = member_bomb(tmp_path / "a.zip", 1)
    content = (tmp_path / "a.zip").read_bytes()
    monkeypatch.setattr(inflate, "LONG_INFLATED", 1 << 16)
    monkeypatch.setattr(scan_members, "HEAD", 100)
    monkeypatch.setattr(scan_objects, "_SHORT", 100)
    monkeypatch.setattr(scan_objects, "HEAD", 100)
    lengths: list[int] = []

    def note(length: int) -> None:
        lengths.append(length)

    def scan_file_member() -> Status:
        real = scan_members._read

        def read(number: int, offset: int, length: int) -> bytes:
            note(length)
            return real(number, offset, length)

        monkeypatch.setattr(scan_members, "_read", read)
        (packed,) = scan_files(os.fsencode(tmp_path), [target], scan_buffer.ScanOptions())
        return unpack_record(packed).status

    def scan_object_member() -> Status:
        class Noting(MemorySource):
            def read(self, offset: int, length: int) -> bytes:
                note(length)
                return super().read(offset, length)

        member = target.member.as_member()
        options = scan_buffer.ScanOptions()
        return scan_objects._scan_member(Noting(content), member, options, KnownRuns()).status

    with ThreadPoolExecutor(1) as threads:
        with long_inflations.taking_turns() as begin:
            begin()
            scan = scan_file_member if source == "file" else scan_object_member
            scanned = threads.submit(scan)
            time.sleep(0.3)
            assert not scanned.done()
            assert lengths == [100]
        assert scanned.result(timeout=30) in (Status.DEFLATED, Status.INDEXED)
    assert lengths == [100, target.member.compressed_length]
