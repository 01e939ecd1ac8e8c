"""How commands end: exit codes, and one line that says what was wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from cli_runner import PROGRAM, ROOT, run, run_child
from dicom_bytes import encapsulated_file, four_bytes
from sample_archive import CINE

import mmindex


def test_interrupted_is_130(folder, monkeypatch):
    """Ctrl-C ends without a traceback."""

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mmindex, "build", interrupt)
    assert run("build", folder, code=130).stderr == "mmindex: interrupted\n"


def test_interrupted_while_modules_are_imported_is_130():
    """Ctrl-C in the first moments of a command has no traceback either."""
    code = """
import sys
from mmindex.__main__ import run

class Module:
    def __getattr__(self, name):
        raise KeyboardInterrupt

sys.modules["mmindex.cli"] = Module()
run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_an_error_of_the_system_is_one_line(cine, monkeypatch):
    """A file that may not be read is told with its path, without a traceback."""

    def refuse(path: str, *, force: bool, prove: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(mmindex, "open_file", refuse)
    assert run("frame", cine, 1, code=1).stderr == f"mmindex: {cine}: Permission denied\n"


LISTINGS = [  # lists, of which a reader may want the head alone; check has problems to report
    *([name] for name in ("ls", "stats", "check", "verify", "export")),
    *([name, "--json"] for name in ("ls", "stats", "check", "verify")),
    ["export", "--format", "kerchunk"],
]
OF_A_FILE = [["frame", *range(1, 31)], ["sheet"], ["ranges", *range(1, 31)], ["info"]]


@pytest.mark.parametrize("command", [*LISTINGS, *OF_A_FILE], ids=str)
def test_nobody_reading_the_output_ends_quietly(archive, command):
    """A closed pipe, as of `| head`, is no failure; but half a frame is, and so is a problem."""
    (archive / "rtplan.dcm").unlink()  # for check to say something
    name, *rest = command
    source = archive if command in LISTINGS else archive / CINE
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_child(name, source, *rest, stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode == int(name in ("frame", "sheet", "check"))
    assert "Traceback" not in done.stderr
    assert "roken pipe" not in done.stderr
    if name not in ("export", "verify"):  # which count or warn
        assert done.stderr == ""


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_frame_that_cannot_be_decoded_is_a_failure_though_nobody_reads_the_list(
    tmp_path, options
):
    """As a problem that check finds is."""
    (tmp_path / "a.dcm").write_bytes(encapsulated_file([b"no picture"], 1))
    mmindex.build(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_child("verify", tmp_path, *options, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "1 frame tried in 1 file, 1 failed" in done.stderr


@pytest.mark.parametrize("command", ["--help", "--version", "build --help", "ls --help"])
def test_help_that_nobody_reads_ends_quietly(command):
    """`mmindex --help | head` is no failure, either."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_child(*command.split(), stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("command", "code"), [("export", 0), ("ls", 0), ("check", 1)])
def test_the_head_of_a_list_is_read_and_the_rest_is_not(tmp_path, command, code):
    """More output than a pipe holds: the reader closes it after a line, while more is written."""
    for number in range(1500):
        path = tmp_path / f"{number:04d}-{'long' * 40}.dcm"
        path.write_bytes(four_bytes(b"abcd", f"1.2.{number}"))
    mmindex.build(tmp_path)
    for path in tmp_path.glob("*.dcm"):
        path.unlink()  # for check to list them
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*PROGRAM, command, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert len(child.stdout.readline()) > 10
        child.stdout.close()
        assert (child.stderr.read(), child.wait()) == (b"", code)


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
