"""`check`: every problem of an archive, by file, and nothing where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cli_runner
import pytest
from cli_runner import run as run_command
from container_bytes import write_zip
from dicom_bytes import dicom_file, element, encapsulated_file
from dicom_bytes import (
    small_image as image,
)

import mmindex
from mmindex.index.store import Store
from mmindex.model import Anomaly, Fingerprint, InstanceRecord, Status
from mmindex.read import changed_files
from mmindex.read.problems import Problem
from mmindex.update.problems import describe_change

SOP_INSTANCE_UID = 0x00080018


def build(root: Path, files: dict[str, bytes]) -> Path:
    """Write files, and index them."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    mmindex.build(root, workers=1)
    return root


def problems_of(root: Path, **options: object) -> list[Problem]:
    with mmindex.open(root, **options) as archive:
        return sorted(archive.problems(), key=lambda problem: (problem.path, problem.kind))


def kinds(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.path, problem.kind) for problem in problems]


run = partial(run_command, "check")
read_json_lines = partial(cli_runner.read_json_lines, "check")


# Two fragments of odd length, the second one twice as far into the file as its header says.
ODD = [b"\xff\xd8A\xff\xd9", b"\xff\xd8B\xff\xd9", b"\xff\xd8C\xff\xd9"]
CLEAN = {
    "a.dcm": image("1.1"),
    "ward/b.dcm": image("1.2", b"one.two."),
    "ward/report": dicom_file(element(SOP_INSTANCE_UID, "UI", "1.3")),
    "notes.txt": b"no DICOM",
    "empty": b"",
}


def test_a_clean_archive_has_no_problems(tmp_path: Path) -> None:
    """Files that are not DICOM, or have no pixel data, are no problem; it exits with 0."""
    root = build(tmp_path, CLEAN)
    assert problems_of(root) == []
    assert run(root, code=0).output == ""
    assert read_json_lines(root, code=0) == []


def test_a_file_that_is_gone_is_missing(tmp_path: Path) -> None:
    """Whether it was a file with frames or none, and where a folder is a file now."""
    root = build(tmp_path, CLEAN)
    (root / "a.dcm").unlink()
    (root / "empty").unlink()
    for name in ("b.dcm", "report"):
        (root / "ward" / name).unlink()
    (root / "ward").rmdir()
    (root / "ward").write_bytes(b"")
    found = problems_of(root)
    assert kinds(found) == [
        ("a.dcm", "missing"),
        ("empty", "missing"),
        ("ward", "new"),
        ("ward/b.dcm", "missing"),
        ("ward/report", "missing"),
    ]
    assert found[0].detail == os.strerror(2)
    assert all(problem.anomaly is None for problem in found)


@pytest.mark.parametrize("change", ["content", "time", "replaced"])
def test_a_file_that_changed_is_stale(tmp_path: Path, change: str) -> None:
    """By size, by time, or by being another file of the same size and time."""
    root = build(tmp_path, CLEAN)
    file = root / "a.dcm"
    status = file.stat()
    if change == "content":
        file.write_bytes(image("1.1", b"longer.."))
    elif change == "time":
        os.utime(file, ns=(0, status.st_mtime_ns + 1))
    else:
        (root / "other").write_bytes(image("1.1", b"efgh"))
        (root / "other").replace(file)
        os.utime(file, ns=(0, status.st_mtime_ns))
    (problem,) = problems_of(root)
    assert (problem.path, problem.kind) == ("a.dcm", "stale")
    assert "changed after it was indexed" in problem.detail
    mmindex.build(root, workers=1)
    assert problems_of(root) == []


def test_a_file_that_is_no_longer_readable_dicom_is_stale_too(tmp_path: Path) -> None:
    """A text file that changed is told as well: it may be DICOM now."""
    root = build(tmp_path, CLEAN)
    (root / "notes.txt").write_bytes(image("1.9"))
    assert kinds(problems_of(root)) == [("notes.txt", "stale")]


def test_an_unreadable_file_says_why(tmp_path: Path) -> None:
    """The error's name and reason are those of the scan."""
    cut = image("1.4")[:200]
    root = build(tmp_path, {**CLEAN, "cut": cut, "no-rows": image("1.5", rows=None)})
    problems = problems_of(root)
    assert kinds(problems) == [("cut", "unreadable"), ("no-rows", "unreadable")]
    assert problems[1].detail.startswith("FormatError: ")
    assert "Rows is absent" in problems[1].detail
    assert "@0x" in problems[0].detail


def test_an_unreadable_file_that_is_gone_is_both(tmp_path: Path) -> None:
    """One file may have several problems."""
    root = build(tmp_path, {"cut": image("1.4")[:200]})
    (root / "cut").unlink()
    assert kinds(problems_of(root)) == [("cut", "missing"), ("cut", "unreadable")]


def test_an_anomaly_has_code_offset_and_count(tmp_path: Path) -> None:
    """The offset is that of the first one; the count is left out of the text where it is one."""
    odd = encapsulated_file(ODD, 3)
    junk = encapsulated_file([b"\xff\xd8A\xff\xd9\0"], 1, delimiter=b"")
    root = build(tmp_path, {"odd.dcm": odd, "open.dcm": junk})
    first_item = odd.index(ODD[0]) - 8
    problems = problems_of(root)
    assert problems == [
        Problem(
            "odd.dcm",
            "anomaly",
            f"odd-fragment-length @0x{first_item:x} (3 times)",
            Anomaly("odd-fragment-length", first_item, 3),
        ),
        Problem(
            "open.dcm",
            "anomaly",
            f"missing-sequence-delimiter @0x{len(junk):x}",
            Anomaly("missing-sequence-delimiter", len(junk), 1),
        ),
    ]


def test_an_anomaly_of_a_file_that_is_unreadable_is_told_too(tmp_path: Path) -> None:
    """What was seen before the scan gave up is not lost."""
    ambiguous = encapsulated_file([*ODD, ODD[0]], 3)
    root = build(tmp_path, {"ambiguous": ambiguous})
    problems = problems_of(root)
    assert kinds(problems) == [("ambiguous", "anomaly"), ("ambiguous", "unreadable")]
    assert problems[1].detail.startswith("AmbiguousFramesError: ")


def test_files_with_one_uid_are_duplicates_of_each_other(tmp_path: Path) -> None:
    """Each of them is named once, and names one of the others: there may be thousands."""
    files = {name: image("1.7", name.encode() * 4) for name in "cab"}
    root = build(tmp_path, {**CLEAN, **files})
    problems = problems_of(root)
    assert kinds(problems) == [("a", "duplicate"), ("b", "duplicate"), ("c", "duplicate")]
    assert [problem.detail for problem in problems] == [
        "SOP Instance UID 1.7 is also that of b and 1 more",
        "SOP Instance UID 1.7 is also that of a",
        "SOP Instance UID 1.7 is also that of a",
    ]


def test_files_without_uid_are_no_duplicates(tmp_path: Path) -> None:
    """The absence of a UID is not a UID."""
    root = build(tmp_path, {name: image("") for name in "ab"})
    assert problems_of(root) == []


def test_every_kind_at_once_is_text_of_three_columns(tmp_path: Path) -> None:
    """Path, kind and detail are separated by tabs, one problem a line; it exits with 1."""
    root = build(
        tmp_path,
        {
            **CLEAN,
            "odd": encapsulated_file(ODD, 3),
            "cut": image("1.4")[:200],
            "twin-1": image("1.7"),
            "twin-2": image("1.7"),
        },
    )
    (root / "a.dcm").unlink()
    os.utime(root / "ward" / "b.dcm", ns=(0, 1))
    lines = [line.split("\t") for line in run(root, code=1).stdout.splitlines()]
    assert {tuple(line[:2]) for line in lines} == {
        ("a.dcm", "missing"),
        ("ward/b.dcm", "stale"),
        ("odd", "anomaly"),
        ("cut", "unreadable"),
        ("twin-1", "duplicate"),
        ("twin-2", "duplicate"),
    }
    assert all(len(line) == 3 for line in lines)
    as_json = read_json_lines(root, code=1)
    assert [[row["path"], row["kind"], row["detail"]] for row in as_json] == lines
    for row in as_json:
        assert ("code" in row) == (row["kind"] == "anomaly")
    (anomaly,) = (row for row in as_json if row["kind"] == "anomaly")
    offset = (root / "odd").read_bytes().index(ODD[0]) - 8
    assert (anomaly["code"], anomaly["offset"], anomaly["count"]) == (
        "odd-fragment-length",
        offset,
        3,
    )


def test_a_path_that_is_no_text_is_escaped_in_text_and_kept_in_json(tmp_path: Path) -> None:
    """A newline in a name can't make a second line; JSON gives the name back exactly."""
    name = os.fsdecode(b"line\nbreak\xff")
    try:
        root = build(tmp_path, {name: image("1.4")[:200]})
    except OSError as error:
        pytest.skip(f"no such names here: {error}")
    (line,) = run(root, code=1).stdout.splitlines()
    assert line.startswith(r"line\nbreak\udcff" + "\tunreadable\t")
    (row,) = read_json_lines(root, code=1)
    assert os.fsencode(row["path"]) == b"line\nbreak\xff"


def test_an_index_elsewhere_and_its_file_are_checked_alike(tmp_path: Path) -> None:
    """ROOT may be the index; the files are looked for under the archive's root."""
    root = build(tmp_path / "archive", CLEAN)
    mmindex.build(root, tmp_path / "index", workers=1)
    (root / "a.dcm").unlink()
    assert run(tmp_path / "index", code=1).stdout == f"a.dcm\tmissing\t{os.strerror(2)}\n"


def test_no_index_is_an_error_and_no_list(tmp_path: Path) -> None:
    """A folder without index exits with 1, with nothing on standard output."""
    result = run(tmp_path, code=1)
    assert result.stdout == ""
    assert "mmindex build" in result.stderr


def test_a_moved_archive_is_clean_where_it_is_now(tmp_path: Path) -> None:
    """Reading accepts other inodes of an archive that was copied; so does the check."""
    root = tmp_path / "archive"
    root.mkdir()
    (root / "a.dcm").write_bytes(image("1.1"))
    mmindex.build(root, tmp_path / "index", workers=1)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "a.dcm").write_bytes((root / "a.dcm").read_bytes())
    status = (root / "a.dcm").stat()
    os.utime(copy / "a.dcm", ns=(status.st_mtime_ns, status.st_mtime_ns))
    (root / "a.dcm").unlink()
    with mmindex.open(tmp_path / "index", archive_root=copy) as archive:
        assert archive.frame("1.1", 0) == b"abcd"
        assert list(archive.problems()) == []


def test_problems_come_as_they_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk is lazy: the first problem is there before the next batch of files is looked at."""
    root = build(tmp_path, {f"{number}": image(f"1.{number}") for number in range(20)})
    for number in range(20):
        os.utime(root / f"{number}", ns=(0, 1))
    looked_at = []
    walk_archive = changed_files.walk_archive

    def walk(*arguments: Any) -> Iterator[object]:
        for found in walk_archive(*arguments):
            looked_at.append(found)
            yield found

    monkeypatch.setattr(changed_files, "_LOOKED_UP", 1)
    monkeypatch.setattr(changed_files, "walk_archive", walk)
    with mmindex.open(root) as archive:
        problems: Iterator[Problem] = archive.problems()
        next(problems)
        assert len(looked_at) == 1
        assert len(list(problems)) == 19


@pytest.mark.parametrize("seconds", [300_000_000_000, -300_000_000_000])
def test_a_change_at_a_time_that_no_calendar_has_is_described(seconds: int) -> None:
    """Some file systems have the year 11476, which a datetime does not."""
    found = SimpleNamespace(
        st_size=5, st_ino=7, st_mtime=float(seconds), st_mtime_ns=seconds * 10**9
    )
    record = InstanceRecord(Status.INDEXED, fingerprint=Fingerprint(4, 0, 7))
    assert f"it has 5 bytes of {seconds} s since 1970" in describe_change(found, record)


def test_a_copy_of_a_file_of_a_far_year_is_described_as_one() -> None:
    """A time that comes round in 64 bits is the same time, as the index compares it."""
    seconds = 16_725_225_600  # the year 2500
    found = SimpleNamespace(
        st_size=5, st_ino=8, st_mtime=float(seconds), st_mtime_ns=seconds * 10**9
    )
    known = Fingerprint.of(found)._replace(inode=7)
    record = InstanceRecord(Status.INDEXED, fingerprint=known)
    assert "another one (by its inode)" in describe_change(found, record)


def test_a_check_goes_on_while_containers_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in a container that an update puts in after the check began are no problem."""
    (tmp_path / "a.dcm").write_bytes(image("1.1"))
    mmindex.build(tmp_path, workers=1)
    find = Store.find_all_members

    def update_and_find(store: Store) -> list[int]:
        monkeypatch.undo()
        (tmp_path / "s.zip").write_bytes(write_zip([("b.dcm", image("1.2"))]))
        mmindex.update(tmp_path, [tmp_path / "s.zip"])
        return find(store)

    monkeypatch.setattr(Store, "find_all_members", update_and_find)
    with mmindex.open(tmp_path) as archive:
        assert list(archive.problems()) == []
