"""Long lists at a terminal go through its pager."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from cli_runner import read_terminal, run_child
from dicom_bytes import encapsulated_file, native_file

import mmindex

COMMANDS = ["ls", "check", "verify"]
LINES = 12  # of the terminal


def write_archive(folder: Path, count: int) -> Path:
    """Write and index so many files, each of which `check` and `verify` complain about."""
    folder.mkdir()
    for number in range(count):
        damaged = encapsulated_file([b"\xff\xd8no picture\xff\xd9"], 1)
        (folder / f"{number:02d}.dcm").write_bytes(damaged)
        (folder / f"gone-{number:02d}.dcm").write_bytes(native_file(bytes(4), vr="OB"))
    mmindex.build(folder, workers=1)
    for number in range(count):
        (folder / f"gone-{number:02d}.dcm").unlink()
    return folder


def run_with_pager(
    terminal: tuple[int, int], tmp_path: Path, *arguments: object, **environment: str
) -> tuple[subprocess.CompletedProcess[str], str, str | None]:
    """Run a command at a terminal, and return what it printed there and to its pager, if at all."""
    seen = tmp_path / "seen"
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {shlex.quote(str(seen))}\n")
    pager.chmod(0o755)
    ours, theirs = terminal
    variables = {"PAGER": str(pager), "TERM": "xterm", "COLUMNS": "80", "LINES": str(LINES)}
    done = run_child(*arguments, stdin=theirs, stdout=theirs, environment=variables | environment)
    shown = read_terminal(ours, theirs)
    return done, shown, seen.read_text() if seen.exists() else None


@pytest.mark.parametrize("command", COMMANDS)
def test_a_list_longer_than_the_screen_goes_to_the_pager(
    tmp_path: Path, terminal: tuple[int, int], command: str
) -> None:
    """All of it, in colour, and nothing of it to the terminal itself."""
    archive = write_archive(tmp_path / "archive", LINES)
    done, shown, paged = run_with_pager(terminal, tmp_path, command, archive)
    assert done.returncode == (0 if command == "ls" else 1)
    assert shown.strip() == ""
    assert paged is not None
    assert "\x1b[" in paged
    prefix = "gone-" if command == "check" else ""
    for number in range(LINES):
        assert f"{prefix}{number:02d}.dcm" in paged


@pytest.mark.parametrize("command", COMMANDS)
def test_a_list_that_fits_the_screen_needs_no_pager(
    tmp_path: Path, terminal: tuple[int, int], command: str
) -> None:
    """It stays on the terminal when the command is done."""
    archive = write_archive(tmp_path / "archive", 1)
    _, shown, paged = run_with_pager(terminal, tmp_path, command, archive, LINES="40")
    assert paged is None
    assert ("gone-00.dcm" if command == "check" else "00.dcm") in shown


def test_what_goes_to_the_pager_has_no_colour_where_none_is_wanted(
    tmp_path: Path, terminal: tuple[int, int]
) -> None:
    """NO_COLOR is heard there, too."""
    archive = write_archive(tmp_path / "archive", LINES)
    _, _, paged = run_with_pager(terminal, tmp_path, "ls", archive, NO_COLOR="1")
    assert paged is not None
    assert "\x1b" not in paged


def test_a_terminal_that_can_do_nothing_has_neither_pager_nor_colour(
    tmp_path: Path, terminal: tuple[int, int]
) -> None:
    """TERM=dumb is what editors and logs set; a PAGER that is named is used all the same."""
    archive = write_archive(tmp_path / "archive", LINES)
    _, shown, paged = run_with_pager(terminal, tmp_path, "ls", archive, TERM="dumb", PAGER="")
    assert paged is None
    assert "\x1b" not in shown
    assert f"{LINES - 1:02d}.dcm" in shown


def test_a_list_off_a_terminal_has_no_pager(tmp_path: Path) -> None:
    """A program that reads it gets all of it."""
    archive = write_archive(tmp_path / "archive", LINES)
    done = run_child("ls", archive, environment={"PAGER": "false", "TERM": "xterm"})
    assert len(done.stdout.splitlines()) == 2 * LINES
