"""A file that is cut while a scan reads: the process lives on, and the record says what happened.

A map of a file that becomes shorter kills the process that looks behind its end (SIGBUS).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from child_process import exit_code, forks
from container_bytes import write_tar
from dicom_bytes import PIXEL_DATA, dicom_file, element, encapsulated_file, image_attributes

import mmindex
from mmindex.update import scan_buffer, scan_file, scan_members

pytestmark = forks

SOP_INSTANCE_UID = 0x00080018
KEPT = 4096  # bytes that are left


def native(uid: str, rows: int = 1 << 15) -> bytes:
    """Return a file whose scan looks at its beginning and at its end."""
    data_set = element(SOP_INSTANCE_UID, "UI", uid) + image_attributes(rows=rows, columns=16)
    return dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(16 * rows)))


def encapsulated() -> bytes:
    """Return a file of many items, which a scan follows from one to the next."""
    return encapsulated_file([b"\xff\xd8" + bytes(4000) + b"\xff\xd9"] * 100)


def cut_when_scanned(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Cut the file at the moment when its scan has the bytes before it."""
    for module, name in ((scan_file, "scan_content"), (scan_members, "scan_member_content")):
        scan = getattr(module, name)

        def cut_and_scan(
            buffer: object,
            *arguments: object,
            scan: Callable[..., object] = scan,
            **options: object,
        ) -> object:
            os.truncate(path, KEPT)
            return scan(buffer, *arguments, **options)

        monkeypatch.setattr(module, name, cut_and_scan)


@pytest.mark.parametrize("content", [native("1.1"), encapsulated()], ids=["native", "items"])
@pytest.mark.parametrize("container", [False, True], ids=["file", "member"])
@pytest.mark.parametrize("most_read", [1 << 25, 1 << 17], ids=["read-whole", "by-ranges"])
@pytest.mark.parametrize("how", ["update", "build"])
def test_a_file_that_is_cut_during_its_scan_ends_no_update_and_no_small_build(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    container: bool,
    most_read: int,
    how: str,
) -> None:
    """It changed while it was scanned; the next update finds what it is now."""
    monkeypatch.setattr(scan_buffer, "READ_HERE", most_read)
    root = tmp_path / "root"
    root.mkdir()
    path = root / ("a.tar" if container else "a.dcm")
    path.write_bytes(write_tar([("a.dcm", content)]) if container else content)
    (root / "other.dcm").write_bytes(native("1.2"))

    def work() -> None:
        cut_when_scanned(monkeypatch, path)
        if how == "update":
            mmindex.update(root, [root], tmp_path / "index")
        else:
            mmindex.build(root, tmp_path / "index")

    assert exit_code(work) == 0
    with mmindex.open(tmp_path / "index") as archive:
        problem = next(each for each in archive.problems() if each.path.startswith("a."))
        assert "changed while it was scanned" in problem.detail
        assert "1.2" in archive
    mmindex.update(root, [path], tmp_path / "index")
    with mmindex.open(tmp_path / "index") as archive:
        assert not any("changed while" in each.detail for each in archive.problems())


@pytest.mark.parametrize("content", [native("1.1"), encapsulated()], ids=["native", "items"])
@pytest.mark.parametrize("container", [False, True], ids=["file", "member"])
def test_long_files_get_the_same_records_by_ranges_as_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, container: bool
) -> None:
    """An update and a build say the same of one file."""
    path = tmp_path / ("a.tar" if container else "a.dcm")
    path.write_bytes(write_tar([("a.dcm", content)]) if container else content)
    mmindex.build(tmp_path, tmp_path.parent / f"{tmp_path.name}-built", workers=1)
    monkeypatch.setattr(scan_buffer, "READ_HERE", 1 << 17)
    mmindex.update(tmp_path, [path], tmp_path.parent / f"{tmp_path.name}-updated")
    records = []
    for name in ("built", "updated"):
        with mmindex.open(tmp_path.parent / f"{tmp_path.name}-{name}") as archive:
            records.append(
                [
                    (
                        record.path,
                        record.status,
                        record.anomalies,
                        record.frames
                        and (record.frames.value_offset, bytes(record.frames.entries[:])),
                    )
                    for record in archive.records()
                ]
            )
    assert records[0] == records[1]
