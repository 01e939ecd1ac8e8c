"""A file that was DICOM and is none now wakes somebody, whoever looks at it first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import run
from container_bytes import WRITERS, native, write_tar, write_zip
from sources.s3_server import S3Server

import mmindex
from mmindex import BuildReport
from mmindex.errors import InstanceNotFoundError, NotDicomError
from mmindex.model import InstanceRecord, Status

NEW_BYTES = {
    "zeroed": b"\0" * 400,
    "emptied": b"",
    "overwritten": b"a text of another program\n" * 10,
    "a script": b"#!/bin/sh\n",
}


def build(root: Path, path: Path) -> BuildReport:
    return mmindex.build(root, workers=1)


def update(root: Path, path: Path) -> BuildReport:
    return mmindex.update(root, [path])


def record_of(root: Path, path: str) -> InstanceRecord:
    with mmindex.open(root) as archive:
        archive.check_index()
        (found,) = (each for each in archive.records() if os.fsdecode(each.location) == path)
        return found


def problems_of(root: Path) -> list[tuple[str, str, bool]]:
    with mmindex.open(root) as archive:
        return [(each.path, each.kind, each.accepted) for each in archive.problems()]


@pytest.mark.parametrize("look", [build, update])
@pytest.mark.parametrize("content", NEW_BYTES.values(), ids=NEW_BYTES)
def test_a_file_that_is_no_longer_dicom_is_unreadable_with_its_instance(
    tmp_path: Path, content: bytes, look: Callable[[Path, Path], BuildReport]
) -> None:
    """Build and update keep the instance of a lost file, and report the file as a problem."""
    file = tmp_path / "a.dcm"
    file.write_bytes(native("1.1"))
    (tmp_path / "b.dcm").write_bytes(native("1.2"))
    mmindex.build(tmp_path, workers=1)
    file.write_bytes(content)
    report = look(tmp_path, file)
    assert report.statuses == {"unreadable": 1}
    assert [path for path, _ in report.problems] == ["a.dcm"]
    record = record_of(tmp_path, "a.dcm")
    assert record.error == "NotDicomError"
    assert record.sop_instance_uid == "1.1"
    assert "was a DICOM file (SOP Instance UID 1.1)" in record.reason
    assert problems_of(tmp_path) == [("a.dcm", "unreadable", False)]
    with mmindex.open(tmp_path) as archive, pytest.raises(NotDicomError, match="was a DICOM file"):
        archive["1.1"]


@pytest.mark.parametrize("look", [build, update])
def test_a_lost_file_stays_lost_until_it_is_dicom_again_or_gone(
    tmp_path: Path, look: Callable[[Path, Path], BuildReport]
) -> None:
    """Later changes to other contents that are not DICOM do not end the alert."""
    file = tmp_path / "a.dcm"
    file.write_bytes(native("1.1"))
    (tmp_path / "b.dcm").write_bytes(native("1.2"))
    mmindex.build(tmp_path, workers=1)
    for content in (b"text", native("1.1")[:200], b"", b"\0" * 900):
        file.write_bytes(content)
        assert look(tmp_path, file).statuses == {"unreadable": 1}, content
        assert record_of(tmp_path, "a.dcm").sop_instance_uid == "1.1"
    assert look(tmp_path, file).unchanged >= 1
    assert problems_of(tmp_path) == [("a.dcm", "unreadable", False)]
    file.write_bytes(native("1.3"))
    assert look(tmp_path, file).statuses == {"indexed": 1}
    assert problems_of(tmp_path) == []
    file.write_bytes(b"text")
    look(tmp_path, file)
    file.unlink()
    look(tmp_path, file)
    assert problems_of(tmp_path) == []
    file.write_bytes(b"text")
    assert look(tmp_path, file).statuses == {"not-dicom": 1}


def test_a_lost_file_fails_check_and_strict_build_until_accepted(tmp_path: Path) -> None:
    """The commands exit with 1 for a lost file, and no more after `check --accept`."""
    file = tmp_path / "a.dcm"
    file.write_bytes(native("1.1"))
    mmindex.build(tmp_path, workers=1)
    file.write_bytes(b"\0" * 500)
    assert "\tstale\t" in run("check", tmp_path, code=1).stdout
    run("build", "--strict", tmp_path, code=1)
    found = run("check", tmp_path, code=1)
    assert "a.dcm\tunreadable\tNotDicomError: the file was a DICOM file" in found.stdout
    run("check", "--accept", tmp_path)
    run("check", tmp_path)
    run("build", "--strict", tmp_path)


def test_files_that_never_were_dicom_wake_nobody(tmp_path: Path) -> None:
    """A text may change, and a file that could not be read may turn out to be a text."""
    (tmp_path / "notes.txt").write_bytes(b"one")
    (tmp_path / "cut").write_bytes(native("1.1")[:140])
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "notes.txt").write_bytes(b"another")
    (tmp_path / "cut").write_bytes(b"a text")
    assert mmindex.build(tmp_path, workers=1).statuses == {"not-dicom": 2}


def test_a_file_without_a_uid_is_lost_too(tmp_path: Path) -> None:
    """A DICOM file without SOP Instance UID is one all the same."""
    file = tmp_path / "a.dcm"
    file.write_bytes(native(""))
    mmindex.build(tmp_path, workers=1)
    for content in (b"text", b"another text"):
        file.write_bytes(content)
        mmindex.build(tmp_path, workers=1)
        assert (
            "the file was a DICOM file when it was indexed" in record_of(tmp_path, "a.dcm").reason
        )


def test_zeros_of_the_same_size_and_time_are_found_by_a_full_build(tmp_path: Path) -> None:
    """A disk that loses bytes changes no time: `full` sees that the instance is lost."""
    file = tmp_path / "a.dcm"
    file.write_bytes(native("1.1"))
    mmindex.build(tmp_path, workers=1)
    status = file.stat()
    with file.open("r+b") as stream:
        stream.write(bytes(status.st_size))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert mmindex.build(tmp_path, workers=1, full=True).statuses == {"unreadable": 1}


@pytest.mark.parametrize("look", [build, update])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_member_that_is_no_longer_dicom_is_unreadable(
    tmp_path: Path, writer: str, look: Callable[[Path, Path], BuildReport]
) -> None:
    """A container is written again, and one of its files is a text now."""
    file = tmp_path / "study"
    file.write_bytes(WRITERS[writer]([("a.dcm", native("1.1")), ("b.dcm", native("1.2"))]))
    mmindex.build(tmp_path, workers=1)
    file.write_bytes(WRITERS[writer]([("a.dcm", b"text" * 200), ("b.dcm", native("1.2"))]))
    report = look(tmp_path, file)
    assert report.statuses["unreadable"] == 1
    record = record_of(tmp_path, "study!/a.dcm")
    assert record.sop_instance_uid == "1.1"
    assert "was a DICOM file" in record.reason
    assert problems_of(tmp_path) == [("study!/a.dcm", "unreadable", False)]


def test_the_last_of_two_members_with_one_name_lost_nothing(tmp_path: Path) -> None:
    """What the same build found under a name is no file of before."""
    (tmp_path / "study.tar").write_bytes(write_tar([("a", native("1.1")), ("a", b"text" * 200)]))
    assert mmindex.build(tmp_path, workers=1).unreadable == 0


@pytest.mark.parametrize("look", [build, update])
@pytest.mark.parametrize("content", NEW_BYTES.values(), ids=NEW_BYTES)
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_a_container_of_dicom_files_that_is_none_now_is_unreadable(
    tmp_path: Path,
    write: Callable[..., bytes],
    content: bytes,
    look: Callable[[Path, Path], BuildReport],
) -> None:
    """Its files are dropped, and the container is a problem until it is one again."""
    file = tmp_path / "study"
    file.write_bytes(write([("a.dcm", native("1.1")), ("notes", b"text")]))
    (tmp_path / "b.dcm").write_bytes(native("1.2"))
    mmindex.build(tmp_path, workers=1)
    for _ in range(2):
        file.write_bytes(content + b"\n")
        report = look(tmp_path, file)
        assert report.statuses == {"unreadable": 1}
        assert "was a container of DICOM files" in record_of(tmp_path, "study").reason
    assert problems_of(tmp_path) == [("study", "unreadable", False)]
    with mmindex.open(tmp_path) as archive, pytest.raises(InstanceNotFoundError):
        archive["1.1"]
    file.write_bytes(write([("a.dcm", native("1.1"))]))
    look(tmp_path, file)
    assert problems_of(tmp_path) == []


def test_a_container_of_texts_may_go(tmp_path: Path) -> None:
    """A container without DICOM files concerns nobody."""
    file = tmp_path / "papers.zip"
    file.write_bytes(write_zip([("notes", b"text")]))
    mmindex.build(tmp_path, workers=1)
    file.write_bytes(b"text")
    assert mmindex.build(tmp_path, workers=1).statuses == {"not-dicom": 1}


def test_an_object_that_is_no_longer_dicom_is_unreadable(tmp_path: Path) -> None:
    """Build and update of a bucket keep the instance of a lost object."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    url, index = "s3://archive/study", tmp_path / "index"
    with S3Server() as server:
        store = server.connect()
        server.objects.update({"study/a.dcm": native("1.1"), "study/b.dcm": native("1.2")})
        mmindex.build(url, index, store=store)
        server.objects["study/a.dcm"] = b"text"
        assert mmindex.build(url, index, store=store).statuses == {"unreadable": 1}
        server.objects["study/b.dcm"] = b""
        report = mmindex.update(url, ["b.dcm"], index, store=store)
        assert report.statuses == {"unreadable": 1}
        with mmindex.open(index, store=store) as archive:
            lost = {each.path: each.detail for each in archive.problems()}
    assert "SOP Instance UID 1.1" in lost["a.dcm"]
    assert "SOP Instance UID 1.2" in lost["b.dcm"]


@pytest.mark.parametrize("look", [build, update])
@pytest.mark.parametrize("content", NEW_BYTES.values(), ids=NEW_BYTES)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_container_that_is_lost_in_steps_is_a_problem_to_the_end(
    tmp_path: Path, content: bytes, steps: int, look: Callable[[Path, Path], BuildReport]
) -> None:
    """It is cut first, which drops its files, and something else later."""
    file = tmp_path / "study.zip"
    whole = write_zip([("a.dcm", native("1.1")), ("b.dcm", native("1.2"))])
    file.write_bytes(whole)
    mmindex.build(tmp_path, workers=1)
    for step in range(steps):
        file.write_bytes(whole[: len(whole) // 2 - step])
        look(tmp_path, file)
    for more in (b"\n", b"\n\n"):
        file.write_bytes(content + more)
        look(tmp_path, file)
        assert "was a container of DICOM files when it was" in record_of(tmp_path, file.name).reason
        assert problems_of(tmp_path) == [("study.zip", "unreadable", False)]
    run("check", tmp_path, code=1)
    file.write_bytes(write_zip([("notes", b"text")]))
    look(tmp_path, file)
    file.write_bytes(b"text")
    look(tmp_path, file)
    assert problems_of(tmp_path) == []


@pytest.mark.parametrize("look", [build, update])
@pytest.mark.parametrize("content", NEW_BYTES.values(), ids=NEW_BYTES)
@pytest.mark.parametrize("uid", ["", "1.1"])
def test_a_file_that_is_cut_first_is_lost_too(
    tmp_path: Path, content: bytes, uid: str, look: Callable[[Path, Path], BuildReport]
) -> None:
    """With or without a UID, a file that was cut and then lost is a problem to the end."""
    file = tmp_path / "a.dcm"
    file.write_bytes(native(uid))
    mmindex.build(tmp_path, workers=1)
    for length in (200, 190):
        file.write_bytes(native(uid)[:length])
        look(tmp_path, file)
        record = record_of(tmp_path, "a.dcm")
        assert (record.status, record.error) == (Status.UNREADABLE, "FormatError")
    for more in (b"\n", b"\n\n"):
        file.write_bytes(content + more)
        look(tmp_path, file)
        record = record_of(tmp_path, "a.dcm")
        assert record.reason.count("was a DICOM file") == 1
        assert record.sop_instance_uid == uid
        assert problems_of(tmp_path) == [("a.dcm", "unreadable", False)]


def test_a_cut_archive_of_texts_may_go(tmp_path: Path) -> None:
    """What is unreadable and had no DICOM file in it was nobody's."""
    file = tmp_path / "papers.zip"
    whole = write_zip([("notes", b"text" * 50)])
    for content in (whole, whole[:100], b"text"):
        file.write_bytes(content)
        report = mmindex.build(tmp_path, workers=1)
    assert report.statuses == {"not-dicom": 1}


def test_a_forced_build_scans_what_was_lost_again(tmp_path: Path) -> None:
    """A file that was written anew without preamble is one that only `force` accepts."""
    file = tmp_path / "a.dcm"
    file.write_bytes(native("1.1"))
    (tmp_path / "cut.dcm").write_bytes(native("1.2")[:140])
    mmindex.build(tmp_path, workers=1)
    file.write_bytes(native("1.3")[132:])
    assert mmindex.build(tmp_path, workers=1).statuses == {"unreadable": 1}
    report = mmindex.build(tmp_path, workers=1, force=True)
    assert (report.scanned, report.statuses) == (1, {"indexed": 1})
    assert record_of(tmp_path, "a.dcm").sop_instance_uid == "1.3"
