"""`mmindex sheet`, its PNG read again by Pillow and its cells found by their colour."""

from __future__ import annotations

import io
import weakref
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cli_runner import run as run_command
from dicom_bytes import (
    FLOAT_PIXEL_DATA,
    HEVC,
    PIXEL_DATA,
    RLE_LOSSLESS,
    dicom_file,
    element,
    encapsulated_file,
    image_attributes,
    native_file,
)

import mmindex
from mmindex.read.pixels import read_array
from mmindex.render.sheet import MARK

image = pytest.importorskip("PIL.Image")
GAP = 6


run = partial(run_command, "sheet")


def draw(*arguments: object, code: int = 0) -> np.ndarray:
    """Return the sheet that goes to standard output: (height, width, 3)."""
    with image.open(io.BytesIO(run(*arguments, code=code).stdout_bytes)) as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        return np.asarray(sheet)


def gray_file(path: Path, *values: int, rows: int = 2, columns: int = 2) -> Path:
    """Write a file of frames that are each of one 8-bit value."""
    data = b"".join(bytes([value]) * (rows * columns) for value in values)
    path.write_bytes(
        native_file(data, vr="OB", rows=rows, columns=columns, number_of_frames=len(values))
    )
    return path


def value_of(sheet: np.ndarray, row: int, column: int, label_height: int, size: int = 16) -> int:
    """Return the gray value in the middle of a square cell."""
    top = GAP + row * (size + label_height + GAP)
    left = GAP + column * (size + GAP)
    cell = sheet[top : top + size, left : left + size]
    assert (cell == cell[0, 0]).all()
    return int(cell[0, 0, 0])


def label_height_of(sheet: np.ndarray, rows: int, size: int = 16) -> int:
    height, left = divmod(sheet.shape[0] - GAP - rows * (size + GAP), rows)
    assert left == 0
    assert height > 5
    return height


def test_frames_are_drawn_row_by_row_in_the_order_asked_for(tmp_path):
    """Five frames in two columns: each cell has the value of its frame."""
    path = gray_file(tmp_path / "a.dcm", 10, 60, 110, 160, 210)
    sheet = draw(path, "--columns", 2, "--size", 16)
    assert sheet.shape[1] == 3 * GAP + 2 * 16
    label = label_height_of(sheet, 3)
    cells = [value_of(sheet, at // 2, at % 2, label) for at in range(5)]
    assert cells == [10, 60, 110, 160, 210]
    sheet = draw(path, "4-5,1", "--columns", 3, "--size", 16)
    assert [value_of(sheet, 0, at, label) for at in range(3)] == [160, 210, 10]


def test_a_frame_has_its_number_below_it(tmp_path):
    """The strip below a cell has ink, and other ink for another number."""
    path = gray_file(tmp_path / "a.dcm", *[0] * 9)
    sheet = draw(path, "1,8", "--columns", 2, "--size", 16)
    strips = [sheet[GAP + 16 : -GAP, left : left + 16] for left in (GAP, 2 * GAP + 16)]
    assert all((strip > 150).any() for strip in strips)
    assert (strips[0] != strips[1]).any()


def test_numbers_wider_than_frames_do_not_run_into_each_other(tmp_path):
    """Frames of 1 x 16 pixels are as far apart as their numbers need, each in its cell's middle."""
    path = gray_file(tmp_path / "a.dcm", *[200] * 255, rows=16, columns=1)
    sheet = draw(path, "200-202", "--columns", 3, "--size", 16)
    at = np.flatnonzero((sheet[GAP : GAP + 16] == 200).all(axis=(0, 2)))
    cell = (sheet.shape[1] - GAP) // 3 - GAP
    assert cell > 12
    assert at.tolist() == [GAP + (cell - 1) // 2 + column * (cell + GAP) for column in range(3)]
    inked = (sheet[GAP + 16 : -GAP] > 100).any(axis=(0, 2))
    assert not inked[: GAP - 1].any()
    assert all(not inked[(cell + GAP) * column + 1 :][: GAP - 2].any() for column in (1, 2, 3))


def test_the_shape_of_frames_is_kept(tmp_path):
    """A frame twice as wide as high is 64 by 32 pixels, larger than it is."""
    path = gray_file(tmp_path / "a.dcm", 200, rows=2, columns=4)
    sheet = draw(path, "--size", 64)
    frame = (sheet == 200).all(axis=2)
    assert np.flatnonzero(frame.any(axis=0)).tolist() == list(range(GAP, GAP + 64))
    assert np.flatnonzero(frame.any(axis=1)).tolist() == list(range(GAP, GAP + 32))


def test_a_frame_is_made_smaller_by_means_of_its_pixels(tmp_path):
    """Black and white pixels by turns are gray."""
    path = tmp_path / "a.dcm"
    path.write_bytes(native_file(b"\0\xff" * 512, vr="OB", rows=32, columns=32))
    cell = draw(path, "--size", 16)[GAP : GAP + 16, GAP : GAP + 16]
    assert set(np.unique(cell)) <= {127, 128}


def test_columns_make_a_sheet_of_4_to_3_unless_given(tmp_path):
    """48 square frames are neither one row nor one column; more columns than frames are not."""
    path = gray_file(tmp_path / "a.dcm", *range(48))
    height, width, _ = draw(path, "--size", 32).shape
    assert 1.1 < width / height < 1.6
    assert draw(path, 1, 2, "--columns", 50, "--size", 32).shape[1] == 3 * GAP + 2 * 32


@pytest.mark.parametrize(("asked", "last"), [((), 1240), (("1-1200",), 1200)])
def test_of_very_many_frames_some_at_even_steps_are_drawn(tmp_path, asked, last):
    """100 frames, the first and the last one of those asked for among them, and it says so."""
    path = tmp_path / "a.dcm"
    value = np.arange(1, 1241, dtype="<u2").repeat(4).tobytes()
    path.write_bytes(native_file(value, bits=16, number_of_frames=1240))
    output = tmp_path / "sheet.png"
    result = run(path, *asked, "-o", output, "--columns", 10, "--size", 32)
    assert result.stderr == f"mmindex: 100 of {last:,} frames\n"
    with image.open(output) as read:
        sheet = np.asarray(read)
    label = label_height_of(sheet, 10, 32)
    values = [value_of(sheet, at // 10, at % 10, label, 32) for at in range(100)]
    assert (values[0], values[-1]) == (0, 255)
    assert {later - earlier for earlier, later in pairwise(values)} <= {2, 3}


def test_deep_frames_are_in_one_window(tmp_path):
    """Frames of 100, 200 and 300 are black, gray and white beside each other."""
    path = tmp_path / "a.dcm"
    value = np.array([100, 200, 300], "<u2").repeat(4).tobytes()
    path.write_bytes(native_file(value, bits=16, number_of_frames=3))
    sheet = draw(path, "--columns", 3, "--size", 16)
    label = label_height_of(sheet, 1)
    assert [value_of(sheet, 0, at, label) for at in range(3)] == [0, 128, 255]


def windowed_file(path: Path, *windows: str) -> Path:
    """Write two frames of 0 and 1000, 2000 and 3000, with these windows: center, then width."""
    data_set = image_attributes(bits=16, number_of_frames=2)
    for tag, text in zip((0x00281050, 0x00281051), windows, strict=False):
        data_set += element(tag, "DS", text)
    data_set += element(0x00281052, "DS", "-100") + element(0x00281053, "DS", "1")
    value = np.array([0, 1000, 0, 1000, 2000, 3000, 2000, 3000], "<u2").tobytes()
    path.write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OW", value)))
    return path


@pytest.mark.parametrize("windows", [("900.5", "2001"), ("900.5\\0", "2001\\9")])
def test_frames_are_in_the_files_window(tmp_path, windows):
    """The first window, in rescaled units: -100 is black, 900 gray, 1900 and more white."""
    path = windowed_file(tmp_path / "a.dcm", *windows)
    for arguments in ((), ("--window", "file")):
        cells = draw(path, "--columns", 2, "--size", 16, *arguments)[GAP : GAP + 16]
        halves = [int(cells[0, GAP + at, 0]) for at in (1, 14, 1 + 16 + GAP, 14 + 16 + GAP)]
        assert halves == [0, 128, 255, 255]


@pytest.mark.parametrize(
    ("window", "expected"),
    [("auto", [0, 85, 170, 255]), ("1900.5,2001", [0, 0, 128, 255])],
)
def test_frames_are_in_the_window_that_is_asked_for(tmp_path, window, expected):
    """By the values of all frames together, or center and width in units, over the file's."""
    path = windowed_file(tmp_path / "a.dcm", "900", "10")
    cells = draw(path, "--columns", 2, "--size", 16, "--window", window)[GAP : GAP + 16]
    halves = [int(cells[0, GAP + at, 0]) for at in (1, 14, 1 + 16 + GAP, 14 + 16 + GAP)]
    assert halves == expected


def test_a_wrong_window_is_wrong_usage(tmp_path):
    """The message says what one looks like."""
    assert "CENTER,WIDTH" in run(tmp_path / "a.dcm", "--window", "40", code=2).stderr


def test_a_palette_is_in_its_colours(tmp_path):
    """A frame of indices is drawn as pydicom colours it, made smaller by means of pixels."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file
    from pydicom.pixels import apply_color_lut, pixel_array

    path = get_testdata_file("examples_palette.dcm", download=False)
    data_set = pydicom.dcmread(path)
    colours = apply_color_lut(pixel_array(data_set), data_set)
    colours = (colours >> 8).astype("u1") if colours.dtype.itemsize == 2 else colours
    rows, columns = colours.shape[:2]
    size = max(rows, columns)
    assert size <= 1024
    sheet = draw(path, "--size", 64)
    height, width = round(rows * 64 / size), round(columns * 64 / size)
    thumbnail = image.fromarray(colours).resize((width, height), image.Resampling.BOX)
    found = sheet[GAP : GAP + height, GAP : GAP + width]
    assert np.array_equal(found, np.asarray(thumbnail))


def rle_frame(value: int) -> bytes:
    """Return four pixels of a value in one RLE segment (PS3.5 G)."""
    header = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    return header + bytes([257 - 4, value])


def test_a_frame_that_cannot_be_decoded_is_crossed_out_and_told(tmp_path):
    """The others are drawn; the exit code is 1."""
    path = tmp_path / "a.dcm"
    frames = [rle_frame(90), rle_frame(90)[:64], rle_frame(180)]
    path.write_bytes(encapsulated_file([f + bytes(len(f) % 2) for f in frames], 3, RLE_LOSSLESS))
    output = tmp_path / "sheet.png"
    stderr = run(path, "-o", output, "--columns", 3, "--size", 16, code=1).stderr
    assert stderr.startswith(f"mmindex: {path}: frame 2: ")
    assert stderr.count("\n") == 1
    with image.open(output) as read:
        sheet = np.asarray(read)
    label = label_height_of(sheet, 1)
    assert [value_of(sheet, 0, at, label) for at in (0, 2)] == [90, 180]
    crossed = (sheet == MARK).all(axis=2)[GAP : GAP + 16]
    columns = np.flatnonzero(crossed.any(axis=0))
    assert (columns[0], columns[-1]) == (2 * GAP + 16, 2 * GAP + 31)
    assert crossed[0].sum() == 16


def test_a_frame_lost_with_the_end_of_the_file_is_told_by_its_number(tmp_path):
    """Frames before the cut are drawn, and have their window from each other."""
    path = tmp_path / "a.dcm"
    value = np.array([5, 9, 7], "<u2").repeat(4).tobytes()
    path.write_bytes(native_file(value, bits=16, number_of_frames=3)[:-8])
    stderr = run(path, "-o", tmp_path / "sheet.png", code=1).stderr
    assert stderr == (
        f"mmindex: {path}: frame 3: frame 3 is missing: the pixel data ends after 2 of 3 frames\n"
    )


def test_where_no_frame_can_be_decoded_there_is_no_sheet(tmp_path):
    """It is told once, and nothing is written."""
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated_file([b"no RLE at all."] * 3, 3, RLE_LOSSLESS))
    stderr = run(path, "-o", tmp_path / "sheet.png", code=1).stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dicom_file(image_attributes()), "the instance has no pixel data"),
        (encapsulated_file([b"\0\0\1\xb3 video"], 3, HEVC), "use `mmindex frame --stream`"),
        (
            native_file(bytes(4), vr="OB", photometric="PALETTE COLOR"),
            "cannot apply the palette: ",
        ),
    ],
)
def test_what_has_no_pictures_is_refused_with_what_to_do(tmp_path, data, reason):
    """One line, exit code 1 and no file."""
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    stderr = run(path, "-o", tmp_path / "sheet.png", code=1).stderr
    assert stderr.startswith(f"mmindex: {path}: ")
    assert reason in stderr
    assert not (tmp_path / "sheet.png").exists()


def test_an_instance_of_an_archive_is_drawn_by_its_uid(tmp_path):
    """--instance chooses it, as for a frame."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(get_testdata_file("rtdose.dcm", download=False))
    dataset.save_as(tmp_path / "dose.dcm")
    mmindex.build(tmp_path, workers=1)
    sheet = draw(tmp_path, "--instance", dataset.SOPInstanceUID, "--columns", 5, "--size", 20)
    assert sheet.shape[1] == 6 * GAP + 5 * 20
    np.testing.assert_array_equal(sheet, draw(tmp_path / "dose.dcm", "--columns", 5, "--size", 20))


def test_floats_with_nan_are_drawn(tmp_path):
    """NaN is black and has no part in the window."""
    path = tmp_path / "a.dcm"
    value = np.array([np.nan, 1, 2, 3], "<f4").repeat(4).tobytes()
    path.write_bytes(native_file(value, tag=FLOAT_PIXEL_DATA, vr="OF", bits=32, number_of_frames=4))
    sheet = draw(path, "--columns", 4, "--size", 16)
    label = label_height_of(sheet, 1)
    assert [value_of(sheet, 0, at, label) for at in range(4)] == [0, 0, 128, 255]


def test_one_frame_is_in_memory_at_a_time(tmp_path, monkeypatch):
    """A frame is let go of before the next but one is decoded."""
    path = tmp_path / "a.dcm"
    path.write_bytes(native_file(bytes(20 * 8), bits=16, number_of_frames=20))
    decoded: list[weakref.ref[np.ndarray]] = []
    most = 0

    def watch(instance: mmindex.Instance, frame_index: int, *, raw: bool) -> np.ndarray:
        nonlocal most
        found = read_array(instance, frame_index, raw=raw, copy=True)
        decoded.append(weakref.ref(found))
        most = max(most, sum(each() is not None for each in decoded))
        return found

    monkeypatch.setattr("mmindex.read.pictures.read_array", watch)
    draw(path, "--size", 16)
    assert 0 < most <= 2


def test_a_sheet_does_not_write_over_its_source(tmp_path):
    """The file that frames come from is no output."""
    path = gray_file(tmp_path / "a.dcm", 1)
    before = path.read_bytes()
    assert "the file that the frames come from" in run(path, "-o", path, code=2).stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", [("--size", 15), ("--size", 513), ("--columns", 0)])
def test_a_sheet_without_measure_is_wrong_usage(tmp_path, arguments):
    """Cells are 16 to 512 pixels, columns one or more."""
    path = gray_file(tmp_path / "a.dcm", 1)
    assert arguments[0] in run(path, *arguments, code=2).stderr
