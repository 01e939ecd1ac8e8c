"""`mmindex check` at a terminal."""

from __future__ import annotations

import pytest
from cli_runner import (
    print_on_terminal,
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
    """Within its width: paths are cut in the middle, long problems go on below."""
    for name in ("a.dcm", LONG):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2))
    for name in ("b.dcm", f"{LONG}.copy"):
        data_set = element(0x00080018, "UI", "1.2." + "3" * 60) + image_attributes()
        (tmp_path / name).write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(4))))
    mmindex.build(tmp_path, workers=1)
    lines = print_on_terminal(terminal, "check", tmp_path, code=1)
    assert max(map(len, lines)) <= 80
    meaning = ANOMALIES["odd-fragment-length"].meaning
    assert " ".join(" ".join(lines).split()).count(meaning) == 1
    assert sum(line.startswith("a-long-") and "..." in line[:26] for line in lines) == 2
    piped = run("check", tmp_path, code=1).stdout
    assert meaning not in piped
    assert f"{LONG}\tanomaly\todd-fragment-length @0x" in piped


@pytest.mark.parametrize("command", ["check", "stats"])
def test_progress_is_shown_on_a_terminal_and_wiped(archive, tmp_path, terminal, command):
    """On standard error, where results do not go through a pipe."""
    ours, theirs = terminal
    with (tmp_path / "printed").open("w") as stdout:
        done = run_child(command, archive, stdout=stdout, stderr=theirs)
    shown = read_terminal(ours, theirs)
    assert done.returncode == 0 if command == "stats" else done.returncode in (0, 1)
    assert "of 5 files" in shown
    assert shown.rstrip("\r").rpartition("\r")[2].strip() == ""
