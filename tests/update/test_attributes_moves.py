"""Attributes that an index keeps, while its archive moves or loses its inodes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from container_bytes import write_tar
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex
from mmindex.update import scan_file as scan_file_module
from mmindex.update.scan_members import MemberScanner, MemberTarget

STUDIES = {"1.1": "First^In^File", "1.2": "Second^In^Tar"}


def _dicom(study: str, name: str) -> bytes:
    return dicom_file(
        element(0x00080018, "UI", f"{study}.9")
        + element(0x00080060, "CS", "CT")
        + element(0x00100010, "PN", name + " " * (len(name) % 2))
        + element(0x0020000D, "UI", study)
        + element(0x0020000E, "UI", f"{study}.5")
        + element(0x00200011, "IS", "4")
        + image_attributes(rows=2, columns=2)
        + element(PIXEL_DATA, "OW", b"\1\2\3\4")
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of a file, and of one in a container, each of a study of its own."""
    root = tmp_path / "archive"
    root.mkdir()
    (root / "a.dcm").write_bytes(_dicom("1.1", STUDIES["1.1"]))
    (root / "b.tar").write_bytes(write_tar([("b.dcm", _dicom("1.2", STUDIES["1.2"]))]))
    return root


def _kept(root: Path) -> dict[str, tuple[str, object]]:
    """Return patient's name and series number of each study, from a whole index."""
    with mmindex.open(root) as opened:
        opened.check_index()
        numbers = {
            each.study_instance_uid: each.attributes.get("SeriesNumber") for each in opened.series()
        }
        return {
            study.study_instance_uid: (
                str(study.attributes.get("PatientName", "")),
                numbers[study.study_instance_uid],
            )
            for study in opened.studies()
        }


def _replace_inodes(root: Path) -> None:
    """Write each file anew with its bytes and times, as rsync does."""
    for path in (root / "a.dcm", root / "b.tar"):
        copied = path.with_suffix(".new")
        shutil.copy2(path, copied)
        os.replace(copied, path)


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What this process scans, of files and members, be it headers alone."""
    targets: list[object] = []
    scan_file, scan_member = scan_file_module.scan_file, MemberScanner.scan

    def count_file(root: bytes, path: bytes, *rest: object) -> bytes:
        targets.append(path)
        return scan_file(root, path, *rest)  # type: ignore[arg-type]

    def count_member(scanner: MemberScanner, target: MemberTarget) -> bytes:
        targets.append(target)
        return scan_member(scanner, target)

    monkeypatch.setattr(scan_file_module, "scan_file", count_file)
    monkeypatch.setattr(MemberScanner, "scan", count_member)
    return targets


def test_a_moved_archive_keeps_attributes(
    archive: Path, tmp_path: Path, scanned: list[object]
) -> None:
    """Records are renewed, values stay, and no header is read for them."""
    mmindex.build(archive, attributes="qido", workers=1)
    assert len(scanned) == 3
    before = _kept(archive)
    assert {study: name for study, (name, _) in before.items()} == STUDIES
    moved = tmp_path / "moved"
    shutil.copytree(archive, moved)
    shutil.rmtree(archive)
    scanned.clear()
    mmindex.build(moved, moved_from=archive, workers=1)
    assert _kept(moved) == before
    assert scanned == []


def test_ignored_inodes_keep_attributes(archive: Path, scanned: list[object]) -> None:
    """Records lose their inodes and files get others: values stay, and no header is read."""
    mmindex.build(archive, attributes="qido", workers=1)
    before = _kept(archive)
    scanned.clear()
    for _ in range(2):
        mmindex.build(archive, ignore_inode=True, workers=1)
        _replace_inodes(archive)
        mmindex.update(archive, [archive])
        assert _kept(archive) == before
    assert scanned == []


@pytest.mark.parametrize("moves", [False, True])
def test_another_set_is_read_without_inodes(archive: Path, tmp_path: Path, *, moves: bool) -> None:
    """Headers are read for another set where the index has no inodes, of members, too."""
    mmindex.build(archive, attributes="PatientID", ignore_inode=True, workers=1)
    _replace_inodes(archive)
    root = archive
    if moves:
        root = tmp_path / "moved"
        shutil.copytree(archive, root)
    mmindex.build(root, attributes="qido", moved_from=archive if moves else None, workers=1)
    assert {study: name for study, (name, _) in _kept(root).items()} == STUDIES
    with mmindex.open(root) as opened:
        assert {record.status.value for record in opened.records()} == {"indexed", "container"}


def test_an_update_without_inodes_reads_another_header(archive: Path) -> None:
    """The file that the values were of goes: they are read from the one that is left."""
    (archive / "older.dcm").write_bytes(_dicom("1.1", "Older^Name"))
    os.utime(archive / "older.dcm", (10**9, 10**9))
    mmindex.build(archive, attributes="qido", ignore_inode=True, workers=1)
    assert _kept(archive)["1.1"][0] == STUDIES["1.1"]
    (archive / "a.dcm").unlink()
    mmindex.update(archive, [archive / "a.dcm"])
    assert _kept(archive)["1.1"][0] == "Older^Name"


def test_merged_indexes_keep_attributes_and_ignored_inodes(archive: Path, tmp_path: Path) -> None:
    """A merge keeps what its indexes keep, and ignores inodes where one of them does."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "c.dcm").write_bytes(_dicom("1.3", "Third^Elsewhere"))
    mmindex.build(archive, attributes="qido", ignore_inode=True, workers=1)
    mmindex.build(other, attributes="qido", workers=1)
    out = tmp_path / "all.mmindex"
    mmindex.merge(out, [archive, other], root=tmp_path)
    names = {study: name for study, (name, _) in _kept(out).items()}
    assert names == {**STUDIES, "1.3": "Third^Elsewhere"}
    _replace_inodes(archive)
    report = mmindex.build(tmp_path, out, exclude=["*.mmindex*"], workers=1)
    assert (report.scanned, report.unchanged) == (0, 4)
    assert {study: name for study, (name, _) in _kept(out).items()} == names


@pytest.mark.parametrize("name", ["Other^In^File", "First^In^File"])
def test_a_copy_whose_attributes_are_not_what_its_index_says_is_scanned(
    archive: Path, name: str
) -> None:
    """The frames are where they were, and so is a patient's name, which may be another one."""
    mmindex.build(archive, workers=1, attributes=["PatientName", "SeriesNumber"])
    target = archive.parent / "elsewhere"
    shutil.copytree(archive, target)
    times = (target / "a.dcm").stat()
    (target / "a.dcm").write_bytes(_dicom("1.1", name))
    os.utime(target / "a.dcm", ns=(times.st_atime_ns, times.st_mtime_ns))
    report = mmindex.build(target, workers=1)
    assert report.scanned == (0 if name == STUDIES["1.1"] else report.found)
    assert _kept(target)["1.1"][0] == name
