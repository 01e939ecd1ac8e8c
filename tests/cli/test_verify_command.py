"""`mmindex verify`: frames that cannot be decoded are listed, and a second run goes on."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from cli_runner import new_runner, print_on_terminal, read_terminal, run_child
from dicom_bytes import RLE_LOSSLESS, dicom_file, element, encapsulate, image_attributes

import mmindex
from mmindex.cli import main
from mmindex.cli.commands import verify
from mmindex.read.verify import Verified

BAD = b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\1\1\2\0"
GOOD = b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\3\1\2\3\4\0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write an archive of two files, one of which has a frame that cannot be decoded."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, frames in {"good": [GOOD] * 3, "bad": [GOOD, BAD, GOOD]}.items():
        write_file(folder / f"{name}.dcm", frames)
    mmindex.build(folder, workers=1)
    return folder


def write_file(path: Path, frames: list[bytes]) -> None:
    """Write a file of three frames."""
    header = element(0x00080018, "UI", f"1.2.{len(path.stem)}")
    header += image_attributes(number_of_frames=3)
    path.write_bytes(dicom_file(header + encapsulate(frames), RLE_LOSSLESS))


def test_a_frame_that_cannot_be_decoded_is_listed(root: Path) -> None:
    """The exit code is 1, and JSON has path, number and reason."""
    done = new_runner().invoke(main, ["verify", str(root), "--json"])
    assert done.exit_code == 1
    (failure,) = map(json.loads, done.stdout.splitlines())
    assert (failure["path"], failure["frame"]) == ("bad.dcm", 2)
    assert "cannot decode the frame" in failure["error"]
    assert "6 frames tried in 2 files, 1 failed" in done.stderr


def test_frames_that_have_no_rgb_are_listed(tmp_path: Path) -> None:
    """What `array` refuses is no success: YBR_FULL of 16 bits cannot become RGB."""
    attributes = image_attributes(rows=1, columns=4, samples=3, bits=16, photometric="YBR_FULL")
    segments = 6
    offsets = [64 + 6 * at for at in range(segments)] + [0] * (15 - segments)
    frame = struct.pack("<16I", segments, *offsets) + (b"\3\1\2\3\4\0") * segments
    header = element(0x00080018, "UI", "1.2") + attributes
    (tmp_path / "a.dcm").write_bytes(dicom_file(header + encapsulate([frame]), RLE_LOSSLESS))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.array("1.2", 0, raw=True).shape == (1, 4, 3)
        with pytest.raises(mmindex.errors.DecodeError):
            archive.array("1.2", 0)
    done = new_runner().invoke(main, ["verify", str(tmp_path), "--json"])
    assert done.exit_code == 1
    (failure,) = map(json.loads, done.stdout.splitlines())
    assert (failure["path"], failure["frame"]) == ("a.dcm", 1)


def test_a_sample_looks_at_some_frames(root: Path) -> None:
    """Two of three are the first and the last, which are whole."""
    done = new_runner().invoke(main, ["verify", str(root), "--sample", "2"])
    assert done.exit_code == 0
    assert "4 frames tried in 2 files, 0 failed" in done.stderr


def test_a_second_run_goes_on_where_the_first_ended(root: Path, tmp_path: Path) -> None:
    """Unchanged files are left out, their failures told again; a changed one is decoded."""
    state = tmp_path / "state.jsonl"
    arguments = ["verify", str(root), "--state", str(state)]
    first = new_runner().invoke(main, arguments)
    state.write_text(state.read_text() + '["cut')
    second = new_runner().invoke(main, arguments)
    assert first.exit_code == second.exit_code == 1
    assert first.stdout == second.stdout
    assert "0 frames tried in 0 files, 1 failed" in second.stderr
    os.utime(root / "good.dcm", ns=(1, 1))
    mmindex.build(root, workers=1)
    assert "3 frames tried in 1 file, 1 failed" in new_runner().invoke(main, arguments).stderr


def test_failures_of_a_file_that_was_replaced_or_is_gone_are_forgotten(
    root: Path, tmp_path: Path
) -> None:
    """A state knows a file as it was: what failed then says nothing of the file there now."""
    arguments = ["verify", str(root), "--state", str(tmp_path / "state.jsonl")]
    assert new_runner().invoke(main, arguments).exit_code == 1
    bad = root / "bad.dcm"
    write_file(bad, [GOOD] * 3)
    mmindex.build(root, workers=1)
    done = new_runner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (0, "")
    bad.unlink()
    mmindex.build(root, workers=1)
    assert "0 frames tried in 0 files, 0 failed" in new_runner().invoke(main, arguments).stderr


def test_a_sample_does_not_stand_for_all_frames(root: Path, tmp_path: Path) -> None:
    """A run of all frames decodes files of which a sample was decoded; the reverse need not."""
    arguments = ["verify", str(root), "--state", str(tmp_path / "state.jsonl")]
    sampled = [*arguments, "--sample", "2"]
    assert "4 frames tried in 2 files, 0 failed" in new_runner().invoke(main, sampled).stderr
    assert "0 frames tried in 0 files, 0 failed" in new_runner().invoke(main, sampled).stderr
    assert "6 frames tried in 2 files, 1 failed" in new_runner().invoke(main, arguments).stderr
    assert "0 frames tried in 0 files, 1 failed" in new_runner().invoke(main, sampled).stderr


def test_lines_of_a_state_that_no_run_wrote_are_left_out(root: Path, tmp_path: Path) -> None:
    """Other JSON, other text and other bytes neither end a run nor count as failures."""
    state = tmp_path / "state.jsonl"
    state.write_bytes(b'7\nnull\n{"a": 1, "b": 2}\n["x", 3]\n["x", [4]]\n\xff\xfe\n[]\n"ab"\n')
    done = new_runner().invoke(main, ["verify", str(root), "--state", str(state)])
    assert done.exit_code == 1
    assert "6 frames tried in 2 files, 1 failed" in done.stderr


def test_a_file_that_the_system_cannot_open_is_listed(root: Path) -> None:
    """A link to itself, say; the other files are decoded."""
    (root / "bad.dcm").unlink()
    (root / "bad.dcm").symlink_to("bad.dcm")
    done = new_runner().invoke(main, ["verify", str(root), "--json"])
    assert done.exit_code == 1
    (failure,) = map(json.loads, done.stdout.splitlines())
    assert (failure["path"], failure["frame"]) == ("bad.dcm", None)
    assert "3 frames tried in 2 files, 1 failed" in done.stderr


@pytest.mark.parametrize("option", [(), ("-v",)])
def test_failures_stand_in_a_table_on_a_terminal(
    root: Path, terminal: tuple[int, int], option: tuple[str, ...]
) -> None:
    """Each line fits 80 columns, and --verbose continues a long problem in the next one."""
    heading, row, *more = print_on_terminal(terminal, "verify", root, *option, code=1)
    assert heading.split() == ["Path", "Frame", "Problem"]
    assert row.startswith("bad.dcm  2")
    assert max(map(len, (heading, row, *more))) <= 80
    assert bool(more) == bool(option)
    assert ("..." in row) != bool(option)


def test_progress_leaves_no_trace_among_the_failures(
    root: Path, tmp_path: Path, terminal: tuple[int, int]
) -> None:
    """The line of progress is wiped before anything is printed."""
    ours, theirs = terminal
    with (tmp_path / "printed").open("w") as stdout:
        run_child("verify", root, stdout=stdout, stderr=theirs)
    shown = read_terminal(ours, theirs)
    assert "of 2 files" in shown
    assert shown.splitlines()[-1].rpartition("\r")[2] == (
        "mmindex: 6 frames tried in 2 files, 1 failed"
    )


def test_an_error_stands_as_it_is() -> None:
    """Its words are those that the library raises, whatever they say."""
    why = "frame index 1 is out of range: a value that a file may hold"
    verified = Verified(b"bad.dcm", 3, ((1, why),))
    assert [failure["error"] for failure in verify._describe(verified)] == [why]
