"""NUMBER on the command line: single frames, ranges, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import run
from dicom_bytes import (
    DEFLATED_IMAGE_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    HTJ2K,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS,
    JPEG_XL,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    encapsulated_file,
    native_file,
)

import mmindex
from mmindex.read.pixels import read_array
from mmindex.render.shared_window import spread

FRAMES = [bytes([number]) * 4 for number in range(1, 13)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of twelve frames, each of four bytes that are its number."""
    path = tmp_path / "twelve.dcm"
    path.write_bytes(native_file(b"".join(FRAMES), vr="OB", number_of_frames=12))
    return path


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["5"], [5]),
        (["1-4"], [1, 2, 3, 4]),
        (["3-3"], [3]),
        (["1-3,12"], [1, 2, 3, 12]),
        (["10-"], [10, 11, 12]),
        (["12-"], [12]),
        (["12,1-2,1"], [12, 1, 2, 1]),
        (["2", "4-5", "11-,1"], [2, 4, 5, 11, 12, 1]),
        (["1-"], list(range(1, 13))),
    ],
)
def test_frames_are_asked_for_by_number_and_range(path, asked, expected):
    """Frames and ranges come in the order asked for, a range with its first and last frame."""
    data = run("frame", path, *asked).stdout_bytes
    assert data == b"".join(FRAMES[number - 1] for number in expected)
    ranges = json.loads(run("ranges", path, *asked).stdout)["frames"]
    assert [frame["number"] for frame in ranges] == expected


@pytest.mark.parametrize("command", ["frame", "ranges", "sheet"])
@pytest.mark.parametrize("asked", ["1-2000000000", "2000000000-", "1,999999999999999999", "13-"])
def test_a_range_beyond_the_last_frame_is_refused_by_the_number_of_frames(path, command, asked):
    """However large it is, it costs no more than a comparison."""
    stderr = run(command, path, asked, code=1).stderr
    assert stderr.startswith(f"mmindex: {path}: there is no frame ")
    assert stderr.endswith(": the instance has frames 1 to 12\n")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        *(("0", "frame numbers start at 1, found 0"), ("0-3", "start at 1, found 0-3")),
        ("4-3", "expected a range that goes up, found 4-3"),
        *(("a", "found 'a'"), ("1-a", "found '1-a'"), ("1,,2", "found ''"), ("1--2", "1--2")),
        *((" 1", "found ' 1'"), ("\u0663", "found '\u0663'"), ("1_0", "found '1_0'")),
        ("9" * 5000, "expected a frame number or range such as 5, 1-10 or 90-"),
    ],
)
@pytest.mark.parametrize("command", ["frame", "ranges", "sheet"])
def test_what_is_no_number_or_range_is_wrong_usage(path, command, asked, message):
    """It says what was expected and what was found, and writes nothing."""
    result = run(command, path, asked, code=2)
    assert message in result.stderr
    assert result.stdout == ""


def test_a_range_of_lost_frames_names_the_first_of_them(tmp_path):
    """Nothing is written, though the first frames of the range are there."""
    path = tmp_path / "cut.dcm"
    path.write_bytes(native_file(b"".join(FRAMES), vr="OB", number_of_frames=12)[:-8])
    result = run("frame", path, "9-", code=1)
    assert "frame 11 is missing: the pixel data ends after 10 of 12 frames" in result.stderr
    assert result.stdout == ""
    assert "frame 12 is missing" in run("frame", path, "12", code=1).stderr
    assert run("frame", path, "9-10").stdout_bytes == FRAMES[8] + FRAMES[9]


def test_a_range_goes_to_a_file_a_frame(path, tmp_path):
    """The template is filled in for every frame of the range."""
    run("frame", path, "9-", "-o", tmp_path / "frames" / "{number:06d}.{ext}")
    written = {file.name: file.read_bytes() for file in (tmp_path / "frames").iterdir()}
    assert written == {f"{number:06d}.raw": FRAMES[number - 1] for number in range(9, 13)}


@pytest.mark.parametrize(
    ("asked", "count"), [("1-3", "3"), ("11-", "several"), ("1,2", "2"), ("1,11-", "several")]
)
def test_a_range_in_one_file_is_wrong_usage(path, tmp_path, asked, count):
    """It says how many frames there are, as far as it is known, and how to write them."""
    stderr = run("frame", path, asked, "-o", tmp_path / "one.raw", code=2).stderr
    assert f"{count} frames need an output each, such as -o 'frames/" in stderr


def test_a_folder_as_output_is_wrong_usage(path, tmp_path):
    """It says what goes into the folder."""
    stderr = run("frame", path, "1-", "-o", tmp_path, code=2).stderr
    assert f"such as -o '{tmp_path}/{{number:06d}}.{{ext}}'" in stderr


def test_npy_stacks_a_range(path, tmp_path):
    """Four frames of 2 x 2 are one array."""
    run("frame", path, "9-", "--format", "npy", "-o", tmp_path / "stack.npy")
    stack = np.load(tmp_path / "stack.npy")
    assert stack.tolist() == [[[number] * 2] * 2 for number in range(9, 13)]


@pytest.mark.parametrize(
    ("uid", "extension"),
    [
        *((JPEG_BASELINE, "jpg"), (JPEG_LS, "jls"), (JPEG_2000, "j2k"), (HTJ2K, "j2k")),
        *((JPEG_XL, "jxl"), (RLE_LOSSLESS, "rle"), (DEFLATED_IMAGE_FRAME, "deflate")),
        *((ENCAPSULATED_UNCOMPRESSED, "raw"), (PRIVATE_SYNTAX, "raw")),
    ],
)
def test_the_extension_fits_the_transfer_syntax(tmp_path, uid, extension):
    """{ext} is what programs know the codec's files by."""
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated_file([b"frame1", b"frame2"], 2, uid))
    run("frame", path, "1-2", "-o", tmp_path / "out" / "{number}.{ext}")
    written = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert written == [f"1.{extension}", f"2.{extension}"]


def test_pictures_of_a_range_are_in_one_window(tmp_path):
    """A frame that is darker than the others is so in its picture."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "deep.dcm"
    value = np.array([0, 100, 300, 400], "<u2").repeat(4).tobytes()
    path.write_bytes(native_file(value, bits=16, number_of_frames=4))
    run("frame", path, "1-", "--format", "png", "-o", tmp_path / "{number}.{ext}")
    shades = [np.unique(np.asarray(image.open(tmp_path / f"{at}.png"))) for at in range(1, 5)]
    assert [shade.tolist() for shade in shades] == [[0], [64], [191], [255]]


def test_a_single_picture_is_decoded_once(tmp_path, monkeypatch):
    """The frame that the window was found in is the one that is drawn."""
    path = tmp_path / "deep.dcm"
    path.write_bytes(native_file(bytes(16), bits=16, number_of_frames=2))
    decoded = []

    def watch(instance: mmindex.Instance, frame_index: int, *, raw: bool) -> np.ndarray:
        decoded.append(frame_index)
        return read_array(instance, frame_index, raw=raw)

    monkeypatch.setattr("mmindex.read.pictures.read_array", watch)
    run("frame", path, 2, "--format", "png")
    assert decoded == [1]


@pytest.mark.parametrize(
    ("ranges", "most", "expected"),
    [
        ([range(1, 5)], 4, [1, 2, 3, 4]),
        ([range(1, 6)], 2, [1, 5]),
        ([range(1, 8)], 3, [1, 4, 7]),
        ([range(10, 12), range(1, 4)], 3, [10, 1, 3]),
        ([range(1, 10**15)], 3, [1, 5 * 10**14, 10**15 - 1]),
    ],
)
def test_numbers_are_thinned_out_at_even_steps(ranges, most, expected):
    """First and last are kept, and no list of all is made."""
    assert spread(ranges, most) == expected
