"""How commands end: exit codes, and one line that says what was wrong."""

from __future__ import annotations

import errno
import os

import pytest
from cli_runner import (
    run,
    run_child,
)
from sample_archive import CINE

import mmindex


def test_interrupted_is_130(folder, monkeypatch):
    """Ctrl-C ends without a traceback."""

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mmindex, "build", interrupt)
    assert run("build", folder, code=130).stderr == "mmindex: interrupted\n"


def test_an_error_of_the_system_is_one_line(cine, monkeypatch):
    """A file that may not be read is told with its path, without a traceback."""

    def refuse(path: str, *, force: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(mmindex, "open_file", refuse)
    assert run("frame", cine, 1, code=1).stderr == f"mmindex: {cine}: Permission denied\n"


@pytest.mark.parametrize("command", ["frame", "sheet", "ranges", "info", "ls", "stats", "check"])
def test_nobody_reading_the_output_ends_quietly(archive, command):
    """A closed pipe, as of `| head`, is no failure; but half a frame is, and so is a problem."""
    (archive / "rtplan.dcm").unlink()  # for check to say something
    source = [archive] if command in ("ls", "stats", "check") else [archive / CINE]
    numbers = range(1, 31) if command in ("frame", "ranges") else []
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_child(command, *source, *numbers, stdout=writer)
    finally:
        os.close(writer)
    code = 1 if command in ("frame", "sheet", "check") else 0
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", [("frame", 1), ("info",)])
def test_a_full_disk_is_one_line(cine, command):
    """Output that cannot be written is a failure, told once."""
    name, *rest = command
    with open("/dev/full", "w") as full:
        done = run_child(name, cine, *rest, stdout=full)
    assert (done.returncode, done.stderr) == (1, f"mmindex: {os.strerror(errno.ENOSPC)}\n")


def test_exit_codes_of_the_process(cine, tmp_path):
    """0 done, 1 failed, 2 wrong usage."""
    assert run_child("info", cine).returncode == 0
    failed = run_child("info", tmp_path / "gone.dcm")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "Traceback" not in failed.stderr
    assert run_child("info", cine, "--nonsense").returncode == 2
    assert run_child("nonsense").returncode == 2
