"""SOURCE of a command: a file, an archive, an index, a pipe; and which index serves a file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shlex
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from cli_runner import (
    PROGRAM,
    ROOT,
    describe,
    new_runner,
    run,
    run_child,
)
from container_bytes import WRITERS, native
from dicom_bytes import (
    PIXEL_DATA,
    dicom_file,
    element,
    image_attributes,
    written,
)
from sample_archive import CINE, uid_of

import mmindex
from mmindex.cli import main


def test_an_archive_serves_an_instance_by_uid(archive, cine_frames, tmp_path):
    """SOURCE is an archive's folder or an index file with --instance."""
    uid = uid_of(archive / CINE)
    assert run("frame", archive, 5, "--instance", uid).stdout_bytes == cine_frames[4]
    index = archive / ".mmindex"
    assert run("frame", index, 5, "--instance", uid).stdout_bytes == cine_frames[4]


@pytest.mark.parametrize("name", ["", ".mmindex"])
def test_an_archive_without_instance_is_wrong_usage(archive, name):
    """Without --instance an archive does not say which frames are meant."""
    assert "--instance UID" in run("frame", archive / name, 1, code=2).stderr


def test_instance_with_a_file_is_wrong_usage(archive):
    """A file is one instance already."""
    result = run("info", archive / CINE, "--instance", "1.2.3", code=2)
    assert "is neither" in result.stderr


def test_an_unknown_instance_fails(archive):
    """A UID that the index does not have is one line and exit code 1."""
    result = run("frame", archive, 1, "--instance", "1.2.3", code=1)
    assert "the index has no SOP Instance UID '1.2.3'" in result.stderr


@pytest.mark.parametrize("command", [("ls",), ("frame", 1), ("info",)])
def test_a_folder_without_an_index_says_how_to_make_one(folder, command):
    """The remedy is the command itself."""
    name, *rest = command
    assert f"`mmindex build {folder}`" in run(name, folder, *rest, code=1).stderr


@pytest.mark.parametrize("command", [("ls",), ("frame", 1), ("info",), ("ranges", 1), ("build",)])
def test_what_is_not_there_fails_in_one_line(tmp_path, command):
    """A path that does not exist is exit code 1 and a line with the path."""
    name, *rest = command
    result = run(name, tmp_path / "gone", *rest, code=1)
    assert result.stderr.startswith(f"mmindex: {tmp_path / 'gone'}: there is no such ")
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_dicom_fails_in_one_line(tmp_path):
    """What cannot be scanned is told without a traceback."""
    (tmp_path / "note.txt").write_text("hello")
    result = run("info", tmp_path / "note.txt", code=1)
    assert result.stderr.startswith(f"mmindex: {tmp_path / 'note.txt'}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("frame", 1), ("info",), ("ranges", 1)])
def test_force_reads_a_file_without_preamble_and_file_meta(tmp_path, command):
    """Without --force such a file is refused; it is read whether or not an index has it."""
    name, *rest = command
    path = tmp_path / "bare.dcm"
    path.write_bytes(image_attributes() + element(PIXEL_DATA, "OB", b"bare"))
    assert "force" in run(name, path, *rest, code=1).stderr
    printed = run(name, path, *rest, "--force").stdout
    mmindex.build(tmp_path, workers=1)
    assert "force" in run(name, path, *rest, code=1).stderr
    assert run(name, path, *rest, "--force").stdout == printed


def test_a_file_is_served_from_an_index_above_it(folder, tmp_path):
    """The index may be any number of folders above the file."""
    deep = folder / "ward" / "1"
    deep.mkdir(parents=True)
    shutil.move(folder / CINE, deep)
    assert describe(deep / CINE)["index"] is None
    mmindex.build(folder, workers=1)
    assert describe(deep / CINE)["index"] == str(folder / ".mmindex")


def test_the_nearest_index_that_knows_the_file_serves_it(folder):
    """An index that does not know the file is passed over for one further up."""
    near = folder / "ward"
    near.mkdir()
    mmindex.build(near, workers=1)
    shutil.move(folder / CINE, near)
    mmindex.build(folder, workers=1)
    assert describe(near / CINE)["index"] == str(folder / ".mmindex")
    mmindex.build(near, workers=1)
    assert describe(near / CINE)["index"] == str(near / ".mmindex")


def test_a_changed_file_is_scanned_instead(archive, cine_frames):
    """A stale index does not serve a file; what the file holds now is served."""
    path = archive / "rtplan.dcm"
    shutil.copyfile(archive / CINE, path)
    assert describe(path)["index"] is None
    assert run("frame", path, 30).stdout_bytes == cine_frames[29]


def test_a_file_that_was_mended_is_scanned_instead(folder, cine_frames):
    """That a file could not be read when it was indexed says nothing about it now."""
    path = folder / "bad.dcm"
    path.write_bytes(b"no DICOM file")
    mmindex.build(folder, workers=1)
    shutil.copyfile(folder / CINE, path)
    assert run("frame", path, 1).stdout_bytes == cine_frames[0]


@pytest.mark.parametrize("damage", [b"", b"garbage", "cut", "foreign", "folder"])
def test_an_index_that_cannot_be_used_is_passed_over(archive, cine_frames, damage):
    """A damaged or foreign .mmindex does not keep a file from being served."""
    index = archive / ".mmindex"
    content = index.read_bytes()
    index.unlink()
    if damage == "folder":
        index.mkdir()
    elif damage == "cut":
        index.write_bytes(content[:6000])
    elif damage == "foreign":
        index.write_bytes(content.replace(b"mmindex", b"another"))
    else:
        index.write_bytes(damage)
    assert describe(archive / CINE)["index"] is None
    assert run("frame", archive / CINE, 3).stdout_bytes == cine_frames[2]


def test_steps_up_out_of_a_linked_folder_lead_to_the_file_that_the_system_finds(
    archive, tmp_path_factory
):
    """In link/../a.dcm the step up starts from where the link leads."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "inner").mkdir()
    shutil.copyfile(archive / "rtdose.dcm", elsewhere / CINE)
    (archive / "link").symlink_to(elsewhere / "inner")
    described = describe(f"{archive}/link/../{CINE}")
    assert described["modality"] == "RTDOSE"
    assert described["index"] is None


def test_a_file_that_changed_since_it_was_indexed_is_said_to_be_stale(archive):
    """It is served all the same, as it is now."""
    index = archive / ".mmindex"
    os.utime(archive / CINE, ns=(1, 1))
    served = f"the file, scanned now: it is not as the index {index} has it"
    assert served in run("info", archive / CINE).stdout.splitlines()[1]


# pipes


@pytest.mark.parametrize("command", [("info", "--json"), ("ranges", 2), ("frame", 2)])
def test_standard_input_is_a_file(cine, command):
    """`-` says what the file itself says, but for its path."""
    name, *rest = command
    piped = run(name, "-", *rest, input=cine.read_bytes()).stdout_bytes
    assert piped == run(name, cine, *rest).stdout_bytes.replace(os.fsencode(cine), b"-")


def test_a_pipe_is_a_file(cine, cine_frames):
    """As the shell makes one of `<(...)`."""
    command = shlex.join(["frame", "/dev/fd/0", "3"])
    with cine.open("rb") as file:
        done = subprocess.run(
            ["sh", "-c", f"cat | {shlex.join(PROGRAM)} {command}"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=file,
            capture_output=True,
            check=True,
        )
    assert done.stdout == cine_frames[2]


def test_a_pipe_of_something_else_is_one_line(archive):
    """It is called by the name that it was given."""
    result = run("info", "-", input=b"no DICOM file", code=1)
    assert result.stderr.startswith("mmindex: - @0x80: no DICOM file")
    assert result.stderr.count("\n") == 1


def test_a_terminal_is_no_file(terminal):
    """Nobody types a DICOM file."""
    done = run_child("info", "-", stdin=terminal[1])
    assert done.returncode == 2
    assert "standard input is no file" in done.stderr


# duplicates


@pytest.mark.parametrize("command", [("frame", 1), ("info",), ("ranges", 1), ("sheet",)])
def test_a_uid_in_several_files_is_said(archive, command):
    """The file that is used is named, and one that is not; the output stays as it is."""
    if command[0] == "sheet":
        pytest.importorskip("PIL")
    name, *rest = command
    uid = uid_of(archive / CINE)
    before = run(name, archive, *rest, "--instance", uid)
    assert before.stderr == ""
    for copy in ("a copy.dcm", "b copy.dcm"):
        shutil.copy2(archive / CINE, archive / copy)
        os.utime(archive / copy, (1, 1))
    mmindex.build(archive, workers=1)
    result = run(name, archive, *rest, "--instance", uid)
    built = re.compile(rb"Last build .*")  # there was another one
    assert built.sub(b"", result.stdout_bytes) == built.sub(b"", before.stdout_bytes)
    assert result.stderr == (
        f"mmindex: SOP Instance UID {uid} is in 3 files: using {CINE}, not a copy.dcm and 1 more\n"
    )
    assert run(name, archive / "a copy.dcm", *rest).stderr == ""


UID = element(0x00080018, "UI", "1.2.3")


@pytest.mark.parametrize("at", [16, 24])
def test_a_preamble_with_the_magic_number_of_an_index_is_a_preamble(
    tmp_path: Path, at: int
) -> None:
    """A file that says DICM is a DICOM file, also where LMDB has its magic before that."""
    data = bytearray(dicom_file(UID + image_attributes() + element(PIXEL_DATA, "OB", b"abcd")))
    data[at : at + 4] = struct.pack("=I", 0xBEEF_C0DE)
    path = written(tmp_path, bytes(data))
    result = new_runner().invoke(main, ["info", str(path)], prog_name="mmindex")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1.2.3" in result.stdout
    frame = new_runner().invoke(main, ["frame", str(path), "1"], prog_name="mmindex")
    assert (frame.exit_code, frame.stdout_bytes) == (0, b"abcd")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_container_says_how_its_files_are_named(tmp_path, kind):
    """With an index above, and without."""
    path = tmp_path / "s.any"
    path.write_bytes(WRITERS[kind]([("a.dcm", native("1.1"))]))
    for _ in range(2):
        assert f"name a file in it, such as '{path}!/NAME'" in run("info", path, code=1).stderr
        run("build", tmp_path, "--workers", 1)
    assert run("frame", f"{path}!/a.dcm", 1).stdout == "abcd"


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_a_compressed_container_is_told_as_one(tmp_path, module):
    """A tar inside is not read in place: what to do instead is said, and not --force."""
    path = tmp_path / "study.tar.compressed"
    path.write_bytes(module.compress(bytes(10240)))
    stderr = run("info", path, code=1).stderr
    assert "a compressed file, as of gzip: decompress it" in stderr
    assert "--force" not in stderr
