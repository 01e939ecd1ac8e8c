"""`mmindex check` at a terminal."""

from __future__ import annotations

from cli_runner import (
    read_terminal,
    run,
    run_child,
)
from dicom_bytes import (
    native_file,
)
from sample_archive import NAMES

import mmindex


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
