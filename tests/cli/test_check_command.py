"""`mmindex check` at a terminal."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import zipfile

import pytest
from cli_runner import (
    PROGRAM,
    ROOT,
    print_on_terminal,
    read_json_lines,
    read_terminal,
    run,
    run_child,
)
from dicom_bytes import (
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulated_file,
    image_attributes,
    native_file,
)
from sample_archive import NAMES

import mmindex
from mmindex.scan.anomalies import ANOMALIES


def test_check_on_a_terminal_is_sorted_under_a_heading(archive, terminal):
    """Off a terminal the same rows are separated by tabs."""
    for name in NAMES:
        (archive / name).unlink()
    ours, theirs = terminal
    assert run_child("check", archive, stdout=theirs).returncode == 1
    heading, *rows = read_terminal(ours, theirs).splitlines()
    assert heading.split() == ["Path", "Kind", "Problem"]
    assert [row.split()[0] for row in rows if " missing " in row] == sorted(NAMES)
    for name in ("Kind", "Problem"):
        column = heading.index(name)
        assert all(row[column - 1] == " " and row[column] != " " for row in rows)
    piped = [line.split("\t") for line in run("check", archive, code=1).stdout.splitlines()]
    assert sorted(map(tuple, piped)) == [tuple(row.split(None, 2)) for row in rows]


def test_check_on_a_terminal_says_that_all_is_well(tmp_path, terminal):
    """No problems are one line on standard error, and nothing off a terminal."""
    (tmp_path / "one.dcm").write_bytes(native_file(bytes(4), vr="OB"))
    mmindex.build(tmp_path, workers=1)
    assert run("check", tmp_path).output == ""
    ours, theirs = terminal
    done = run_child("check", tmp_path, stdout=theirs)
    assert (done.returncode, done.stderr) == (0, "mmindex: no problems\n")
    assert read_terminal(ours, theirs) == ""


LONG = "a-long-name-of-a-folder/and-another-one-inside-of-it/image.dcm"


def test_check_on_a_terminal_explains_each_anomaly_once(tmp_path, terminal):
    """Within its width, a line a file: paths are cut in the middle; duplicates stand by UID."""
    for name in ("a.dcm", LONG):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2))
    for name in ("b.dcm", f"{LONG}.copy"):
        data_set = element(0x00080018, "UI", "1.2." + "3" * 60) + image_attributes()
        (tmp_path / name).write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(4))))
    mmindex.build(tmp_path, workers=1)
    lines = print_on_terminal(terminal, "check", tmp_path)
    assert max(map(len, lines)) <= 80
    heading = lines.index("UID 1.2." + "3" * 60 + " in 2 files")
    assert lines[heading + 1 : heading + 3] == [f"  {LONG}.copy", "  b.dcm"]
    meaning = ANOMALIES["odd-fragment-length"].meaning
    assert " ".join(" ".join(lines).split()).count(meaning) == 1
    assert sum(line.startswith("a-long-") and "..." in line[:26] for line in lines) == 1
    piped = run("check", tmp_path).stdout
    assert meaning not in piped
    assert f"{LONG}\tanomaly\todd-fragment-length @0x" in piped


def test_check_fits_the_terminal_with_wide_characters_in_paths(tmp_path, terminal):
    """A Chinese character takes two columns; kinds and problems stand below each other."""
    folder = "影像归档/患者甲/2024年头部平扫与增强"
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes()
    data = dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(4)))
    for name in (f"{folder}/甲.dcm", f"{folder}/乙.dcm", "丙.dcm", f"{folder * 4}/a.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "丙.dcm").unlink()
    (tmp_path / folder / "甲.dcm").unlink()
    lines = print_on_terminal(terminal, "check", tmp_path, code=1)
    widths = [sum(2 if char > "\u2e80" else 1 for char in line) for line in lines]
    assert max(widths) <= 80
    heading, *rows = [line for line in lines if "  missing" in line or "  Kind" in line]
    assert len(rows) == 2
    for row in rows:
        before = row[: row.index("  missing")]
        assert sum(2 if char > "\u2e80" else 1 for char in before) == heading.index("  Kind")


@pytest.mark.parametrize("command", ["check", "stats", "compact"])
def test_progress_is_shown_on_a_terminal_and_wiped(archive, tmp_path, terminal, command):
    """On standard error, where results do not go through a pipe."""
    ours, theirs = terminal
    with (tmp_path / "printed").open("w") as stdout:
        done = run_child(command, archive, stdout=stdout, stderr=theirs)
    shown = read_terminal(ours, theirs)
    assert done.returncode == 0 if command != "check" else done.returncode in (0, 1)
    assert (" values, " if command == "compact" else "of 5 files") in shown
    assert shown.rstrip("\r").rpartition("\r")[2].strip() == ""


def unreadable(lacks):
    """Return a file without one of its attributes."""
    data_set = element(0x00080018, "UI", "1.2.99") + image_attributes(**{lacks: None})
    return dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(4)))


def make_problems(root):
    """Write an archive with a problem of each kind; return the kinds by file."""
    for name in ("gone", "changed", "odd", "twin-1", "twin-2", "late"):
        data_set = element(0x00080018, "UI", f"1.2.{len(name)}") + image_attributes()
        (root / name).write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(4))))
    (root / "odd").write_bytes(encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2))
    late = (root / "late").read_bytes()
    (root / "late").unlink()
    (root / "cut").write_bytes(unreadable("rows"))
    (root / "broken").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    mmindex.build(root, workers=1)
    (root / "gone").unlink()
    os.utime(root / "changed", ns=(0, 10**18))
    (root / "late").write_bytes(late)
    return {
        "gone": "missing",
        "changed": "stale",
        "odd": "anomaly",
        "twin-1": "duplicate",
        "twin-2": "duplicate",
        "cut": "unreadable",
        "broken": "unreadable",
        "pipe": "unreadable",
        "late": "new",
    }


def test_check_lists_every_kind_and_those_of_fail_on_fail(tmp_path):
    """Also what could not be looked at, and files that the index does not know."""
    kinds = make_problems(tmp_path)
    found = read_json_lines("check", tmp_path, code=1)
    assert {each["path"]: each["kind"] for each in found} == kinds
    failing = {each["path"] for each in found if each["fails"]}
    assert failing == {path for path, kind in kinds.items() if kind in DEFAULT}
    assert not any(each["accepted"] for each in found)
    assert {each.get("sop_instance_uid") for each in found} == {None, "1.2.6"}
    for kind in {*kinds.values()}:
        quiet = run("check", tmp_path, "--fail-on", kind, "-q", code=1).stdout.splitlines()
        assert {line.split("\t")[0] for line in quiet} == {
            path for path, each in kinds.items() if each == kind
        }
    run("check", tmp_path, "--fail-on", "", code=0)
    wrong = run("check", tmp_path, "--fail-on", "missing,nonsense", code=2)
    assert "found nonsense" in wrong.stderr


DEFAULT = ("unreadable", "stale", "missing")


def test_accepted_problems_fail_no_more_until_they_change(tmp_path):
    """They are listed all the same; a build, a compaction and a merge keep them."""
    root = tmp_path / "root"
    root.mkdir()
    make_problems(root)
    every = "unreadable,stale,missing,duplicate,anomaly,new"
    run("check", root, "--accept", code=0)
    assert run("check", root, "--fail-on", every, "-q", code=0).output == ""
    found = read_json_lines("check", root, "--fail-on", every)
    assert len(found) == 9
    assert all(each["accepted"] and not each["fails"] for each in found)
    assert run("check", root).stdout.count("\taccepted\n") == 9
    (root / "another").write_bytes(b"")
    assert run("check", root, "--fail-on", "new", "-q", code=1).stdout.startswith("another\tnew")
    assert run("build", root, "--strict", "-j", "1").stderr.count("(accepted)\n") == 2
    assert (
        run("build", root, "-j", "1", "-q").output == ""
    )  # the missing, stale and new ones are settled
    run("compact", root)
    mmindex.merge(tmp_path / "all", [root], root=root)
    for index in (root, tmp_path / "all"):
        found = read_json_lines("check", index, "--fail-on", every, code=0)
        assert {each["path"] for each in found if each["accepted"]} == {
            *("odd", "twin-1", "twin-2", "cut", "broken", "pipe")
        }
    os.utime(root / "changed", ns=(0, 2 * 10**18))
    (root / "cut").write_bytes(unreadable("columns"))
    (root / "broken").unlink()
    run("build", root, "--strict", "-j", "1", "-q", code=1)
    (root / "broken").symlink_to("nowhere")
    found = read_json_lines("check", root, code=1)
    assert {each["path"] for each in found if each["fails"]} == {"broken", "cut"}


def test_what_is_not_read_is_accepted_too(tmp_path):
    """Where whoever reads the list has seen enough."""
    for number in range(3000):
        (tmp_path / f"broken-{number}").symlink_to("nowhere")
    mmindex.build(tmp_path, workers=1)
    program = " ".join(map(shlex.quote, [*PROGRAM, "check", str(tmp_path), "--accept"]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", "-c", f"{program} | head -n 1"], env=environment, check=True)
    assert run("check", tmp_path, "-q").output == ""


def test_a_problem_that_comes_back_was_not_accepted(tmp_path):
    """An update of the file forgets it, as a build does."""
    make_problems(tmp_path)
    run("check", tmp_path, "--accept")
    cut, late = tmp_path / "cut", tmp_path / "late"
    bad = cut.read_bytes()
    cut.write_bytes(late.read_bytes())
    run("update", tmp_path, cut)
    cut.write_bytes(bad)
    run("update", tmp_path, cut)
    (tmp_path / "pipe").unlink()
    run("update", tmp_path, tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe")
    found = read_json_lines("check", tmp_path, code=1)
    assert {each["path"] for each in found if each["fails"]} == {"cut", "pipe"}


def test_build_strict_fails_on_what_was_not_accepted(tmp_path):
    """By kind: unreadable unless told; the JSON names what is new."""
    make_problems(tmp_path)
    mmindex.build(tmp_path, workers=1)
    report = json.loads(run("build", tmp_path, "--strict", "--json", code=1).stdout)
    assert {each["path"] for each in report["failing"]} == {"cut", "broken", "pipe"}
    assert report["failing_count"] == 3
    run("check", tmp_path, "--accept", "-q")
    report = json.loads(run("build", tmp_path, "--strict", "--json", code=0).stdout)
    assert (report["failing"], report["failing_count"]) == ([], 0)
    for name in ("twin-2", "twin-1"):
        (tmp_path / f"{name}-copy").write_bytes((tmp_path / name).read_bytes())
    run("build", tmp_path, "--strict", code=0)
    report = run("build", tmp_path, "--strict", "--fail-on", "duplicate", "--json", code=1).stdout
    assert {each["kind"] for each in json.loads(report)["failing"]} == {"duplicate"}


def test_files_that_are_being_written_are_no_problems_with_min_age(tmp_path):
    """Neither new, nor stale, nor unreadable, nor missing of a folder that changed lately."""
    for name in ("changed", "half", "stays"):
        (tmp_path / name).write_bytes(native_file(bytes(4), vr="OB"))
    (tmp_path / "half").write_bytes(native_file(bytes(4), vr="OB")[:-30])
    mmindex.build(tmp_path, workers=1)
    for name in ("changed", "new"):
        (tmp_path / name).write_bytes(native_file(bytes(8), vr="OB"))
    (tmp_path / "stays").unlink()
    kinds = {"changed": "stale", "half": "unreadable", "new": "new", "stays": "missing"}
    every = ("--fail-on", "unreadable,stale,missing,new")
    for path, options in ((tmp_path, ()), (tmp_path, ("--min-age", "0"))):
        found = read_json_lines("check", path, *every, *options, code=1)
        assert {each["path"]: each["kind"] for each in found} == kinds
    assert read_json_lines("check", tmp_path, *every, "--min-age", "60", code=0) == []
    for name in ("changed", "half", "new", "."):
        os.utime(tmp_path / name, (1, 1))
    found = read_json_lines("check", tmp_path, *every, "--min-age", "60", code=1)
    assert {each["path"]: each["kind"] for each in found} == {
        **kinds,
        "half": "unreadable",
    }


def test_files_of_a_container_are_as_young_as_that_is(tmp_path):
    """Not as the folder in which it lies, to which files come all day."""
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as container:
        container.writestr("half.dcm", native_file(bytes(4), vr="OB")[:-30])
    mmindex.build(tmp_path, workers=1)
    path = "study.zip!/half.dcm"
    assert read_json_lines("check", tmp_path, "--min-age", "60", code=0) == []
    os.utime(tmp_path / "study.zip", (1, 1))
    mmindex.build(tmp_path, workers=1)
    found = read_json_lines("check", tmp_path, "--min-age", "60", code=1)
    assert {each["path"]: each["kind"] for each in found} == {path: "unreadable"}


def test_a_file_in_a_folder_without_permission_is_unreadable_and_not_missing(tmp_path, monkeypatch):
    """Accepted, it stays so through a build; a file that is gone is missing."""
    (tmp_path / "ward").mkdir()
    for name in ("ward/a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(native_file(bytes(4), vr="OB"))
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "b.dcm").unlink()
    stat, scandir = os.stat, os.scandir
    ward = os.fsencode(tmp_path / "ward")

    def refuse(path, *arguments, **options):
        if isinstance(path, (str, bytes)) and os.fsencode(path).startswith(ward + b"/"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, *arguments, **options)

    def refuse_folder(path):
        if path == ward:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "scandir", refuse_folder)
    with mmindex.open(tmp_path) as archive:
        problems = {problem.path: (problem.kind, problem.detail) for problem in archive.problems()}
        assert problems["ward/a.dcm"] == ("unreadable", "cannot access it: Permission denied")
        assert problems["b.dcm"][0] == "missing"
        archive.accept(list(archive.problems()))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert {problem.path: problem.accepted for problem in archive.problems()} == {
            "ward/a.dcm": True,
            "ward": True,
        }
