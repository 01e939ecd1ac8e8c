"""Headers, values in units and pictures, held against pydicom's own functions."""

from __future__ import annotations

import copy
import io
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_bytes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    file_meta,
    image_attributes,
)
from pydicom.dataset import Dataset
from pydicom.pixels import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi_lut,
    pixel_array,
)
from pydicom.sequence import Sequence
from pydicom_oracle import FOLDER, quiet_pydicom, read_data_set

import mmindex
from mmindex.errors import DecodeError, FormatError
from mmindex.read.pictures import read_values
from mmindex.render.png import walk_pictures


def written(data_set: pydicom.FileDataset, path: Path) -> Path:
    """Write a data set to a file."""
    with quiet_pydicom():
        data_set.save_as(path)
    return path


def expected_window(data_set: pydicom.FileDataset) -> np.ndarray:
    """Return what pydicom's functions make of a gray image, in its output range as 0 to 255."""
    values = apply_voi_lut(apply_modality_lut(pixel_array(data_set), data_set), data_set)
    bits, slope, cut = data_set.BitsStored, 1.0, 0.0
    if "RescaleSlope" in data_set:
        slope, cut = float(data_set.RescaleSlope), float(data_set.RescaleIntercept)
    signed = data_set.PixelRepresentation
    least = -(2 ** (bits - 1)) if signed else 0
    greatest = (2 ** (bits - 1) if signed else 2**bits) - 1
    low, high = least * slope + cut, greatest * slope + cut
    return ((values - low) / (high - low) * 255).clip(0, 255).round()


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "RG3_J2KI.dcm"])
def test_a_header_is_that_of_pydicom_without_pixel_data(name: str) -> None:
    """Every element before the pixel data, and none after."""
    if not (FOLDER / name).is_file():
        pytest.skip("not in this wheel")
    theirs = read_data_set(FOLDER / name)
    with mmindex.open_file(FOLDER / name) as instance:
        ours = instance.dataset()
    assert "PixelData" not in ours
    tags = [tag for tag in theirs.keys() if tag < 0x7FE00000]  # noqa: SIM118
    assert list(ours.keys()) == tags
    assert ours.file_meta == theirs.file_meta


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [0, 1])
def test_the_files_window_is_applied_as_pydicom_does(
    tmp_path: Path, function: str | None, signed: int
) -> None:
    """Rescale, then the window by its function."""
    data_set = read_data_set(FOLDER / "CT_small.dcm")
    data_set.WindowCenter, data_set.WindowWidth = [40, 50], [400, 350]
    data_set.PixelRepresentation = signed
    if function:
        data_set.VOILUTFunction = function
    with mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance, quiet_pydicom():
        found = instance.picture(0)
        assert np.abs(found - expected_window(data_set)).max() <= 1
        units = instance.array(0, rescale=True)
        assert units.dtype == np.float32
        theirs = apply_modality_lut(pixel_array(data_set), data_set).astype("f4")
        assert np.array_equal(units, theirs)
        assert np.array_equal(instance.arrays([0], rescale=True)[0], theirs)
        assert not np.array_equal(instance.picture(0, window="auto"), found)
        chosen = instance.picture(0, window=(40.0, 400.0))
        assert function is None or function == "LINEAR" or not np.array_equal(chosen, 0)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    """Its least value is white (PS3.3 C.7.6.3.1.2)."""
    data_set = read_data_set(FOLDER / "CT_small.dcm")
    data_set.WindowCenter, data_set.WindowWidth = 40, 400
    with mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance:
        plain = instance.picture(0)
    data_set.PhotometricInterpretation = "MONOCHROME1"
    with mmindex.open_file(written(data_set, tmp_path / "b.dcm")) as instance:
        assert np.array_equal(instance.picture(0), 255 - plain)


def test_a_voi_lut_goes_before_a_window(tmp_path: Path) -> None:
    """Its entries are the gray values, as wide as it says."""
    data_set = read_data_set(FOLDER / "MR_small.dcm")
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [1000, 100, 12])
    item.add_new("LUTData", "US", [at * 4095 // 999 for at in range(1000)])
    data_set.VOILUTSequence = Sequence([item])
    with mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance, quiet_pydicom():
        theirs = apply_voi_lut(pixel_array(data_set), data_set)
        assert np.array_equal(instance.picture(0), (theirs * (255 / 4095)).round())


def test_a_frames_own_groups_go_first(tmp_path: Path) -> None:
    """Per-frame functional groups over shared ones over the top level (PS3.3 C.7.6.16)."""
    data_set = read_data_set(FOLDER / "MR_small.dcm")
    data_set.PixelData, data_set.NumberOfFrames = data_set.PixelData * 10, 10
    shared, frames = Dataset(), []
    for at in range(10):
        group, rescale, window = Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = at + 1, -at
        window.WindowCenter, window.WindowWidth = 100 * (at + 1), 300
        group.PixelValueTransformationSequence = Sequence([rescale])
        group.FrameVOILUTSequence = Sequence([window])
        frames.append(group)
    data_set.SharedFunctionalGroupsSequence = Sequence([shared])
    data_set.PerFrameFunctionalGroupsSequence = Sequence(frames)
    with mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance, quiet_pydicom():
        for at in (0, 3, 9):
            stored = pixel_array(data_set, index=at).astype("f8")
            values = stored * (at + 1) - at
            assert np.array_equal(instance.array(at, rescale=True), values.astype("f4"))
            center, width = 100 * (at + 1) - 0.5, 299
            expected = (((values - center) / width + 0.5) * 255).clip(0, 255)
            assert np.abs(instance.picture(at) - expected).max() <= 1


def test_a_palette_is_applied_as_pydicom_does() -> None:
    """Sixteen-bit entries by their upper byte; indices as gray where no palette is asked for."""
    data_set = read_data_set(FOLDER / "examples_palette.dcm")
    with mmindex.open_file(FOLDER / "examples_palette.dcm") as instance:
        theirs = apply_color_lut(pixel_array(data_set), data_set)
        theirs = theirs >> 8 if theirs.dtype.itemsize == 2 else theirs
        assert np.array_equal(instance.picture(0), theirs)
        assert instance.picture(0, apply_palette=False).ndim == 2


def test_a_segmented_palette_is_expanded(tmp_path: Path) -> None:
    """Discrete and linear segments (PS3.3 C.7.9.2)."""
    data_set = copy.deepcopy(read_data_set(FOLDER / "examples_palette.dcm"))
    for number, colour in enumerate(("Red", "Green", "Blue")):
        del data_set[f"{colour}PaletteColorLookupTableData"]
        setattr(data_set, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        segments = np.array([0, 2, 0, 100 * number, 1, 254, 65535 - number], "<u2").tobytes()
        setattr(data_set, f"Segmented{colour}PaletteColorLookupTableData", segments)
    with mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance:
        theirs = apply_color_lut(pixel_array(data_set), data_set)
        assert np.array_equal(instance.picture(0), theirs >> 8)


def test_a_damaged_palette_is_a_decode_error(tmp_path: Path) -> None:
    """The error names the file."""
    data_set = read_data_set(FOLDER / "examples_palette.dcm")
    data_set.RedPaletteColorLookupTableData = b"\1\2\3\4"
    path = written(data_set, tmp_path / "a.dcm")
    with mmindex.open_file(path) as instance:
        with pytest.raises(DecodeError, match="cannot apply the palette") as caught:
            instance.picture(0)
        assert caught.value.path == str(path)


@pytest.mark.parametrize(
    "window", ["fiel", "", None, 40, (40,), (40, 0), (40, -1), (math.nan, 1), (1, math.inf), "40"]
)
def test_a_window_without_meaning_is_refused(window: Any) -> None:
    """It does not become a picture without a window."""
    for name in ("rtdose.dcm", "examples_ybr_color.dcm"):
        with mmindex.open_file(FOLDER / name) as instance:
            with pytest.raises(ValueError, match="expected a window of file, auto or"):
                instance.picture(0, window=window)
            with pytest.raises(ValueError, match="expected a window of file, auto or"):
                next(walk_pictures(instance, [range(2)], window=window))


def test_a_window_narrower_than_1_is_that_of_exact_values(tmp_path: Path) -> None:
    """Doses and ratios lie close together (PS3.3 C.11.2.1.3.2); a list is as good as a tuple."""
    data_set = read_data_set(FOLDER / "CT_small.dcm")
    data_set.RescaleSlope, data_set.RescaleIntercept = 0.0005, 0
    with mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance:
        values = instance.array(0).astype("f8") * 0.0005
        expected = ((values - 0.5) / 0.8 + 0.5).clip(0, 1) * 255
        choice: Any = [0.5, 0.8]
        assert np.abs(instance.picture(0, window=choice) - expected).max() <= 1
        assert np.abs(instance.picture(0, window=(0.5, 0.8)) - expected).max() <= 1


SLOPPY: dict[str, dict[str, Any]] = {  # a window that shows nothing is none
    "width of 0": {"WindowCenter": 40, "WindowWidth": 0},
    "negative width": {"WindowCenter": 40, "WindowWidth": -400},
    "no width": {"WindowCenter": 40},
    "no center": {"WindowWidth": 400},
    "empty": {"WindowCenter": None, "WindowWidth": None},
    "empty width": {"WindowCenter": 40, "WindowWidth": None},
    "no width of several": {"WindowCenter": [40, 50], "WindowWidth": [0, 400]},
}


@pytest.mark.parametrize("values", SLOPPY.values(), ids=SLOPPY)
def test_a_window_that_shows_nothing_is_left_out(tmp_path: Path, values: dict[str, Any]) -> None:
    """A picture by the values of the frame, as of a file without a window; the same for many."""
    data_set = read_data_set(FOLDER / "CT_small.dcm")
    with mmindex.open_file(written(data_set, tmp_path / "plain.dcm")) as instance:
        expected = instance.picture(0, window="auto")
    for name, value in values.items():
        setattr(data_set, name, value)
    with mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance:
        assert np.array_equal(instance.picture(0), expected)
        assert len(np.unique(expected)) > 50
        assert read_values(instance, 0, "file") is not None


def test_a_window_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    """Text where a number belongs, as some writers leave it."""
    data_set = read_data_set(FOLDER / "CT_small.dcm")
    data_set.WindowCenter, data_set.WindowWidth = 40, 4321
    data = written(data_set, tmp_path / "a.dcm").read_bytes()
    assert data.count(b"4321") == 1
    with mmindex.open_file(data.replace(b"4321", b"wide")) as instance, quiet_pydicom():
        assert np.array_equal(instance.picture(0), instance.picture(0, window="auto"))


@pytest.mark.parametrize("function", [None, "", "LINEAR"])
@pytest.mark.parametrize(("center", "width"), [(0.5, 0.8), (40, 400), (40, 1)])
def test_a_narrow_window_of_a_file_is_linear_exact(
    tmp_path: Path, function: str | None, center: float, width: float
) -> None:
    """LINEAR is of widths from 1 on (PS3.3 C.11.2.1.2.1); an empty function is LINEAR."""
    data_set = read_data_set(FOLDER / "CT_small.dcm")
    data_set.RescaleIntercept, data_set.RescaleSlope = -1, 0.001
    data_set.WindowCenter, data_set.WindowWidth = center, width
    data_set.VOILUTFunction = "LINEAR" if width >= 1 else "LINEAR_EXACT"
    expected = expected_window(data_set)
    del data_set.VOILUTFunction
    if function is not None:
        data_set.VOILUTFunction = function
    with mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance, quiet_pydicom():
        assert np.abs(instance.picture(0) - expected).max() <= 1
        assert read_values(instance, 0, "file") is None


def test_a_function_that_the_standard_does_not_have_is_an_error(tmp_path: Path) -> None:
    """What the gray values would be is not known."""
    data_set = read_data_set(FOLDER / "CT_small.dcm")
    data_set.WindowCenter, data_set.WindowWidth, data_set.VOILUTFunction = 40, 400, "LOG"
    with (
        mmindex.open_file(written(data_set, tmp_path / "a.dcm")) as instance,
        pytest.raises(DecodeError, match="VOI LUT Function"),
    ):
        instance.picture(0)


LONG_GROUP_LENGTH = (
    bytes(128)
    + b"DICM"
    + element(0x00020000, "UL", bytes(6))
    + file_meta(EXPLICIT_VR_LITTLE_ENDIAN, group_length=None)
    + image_attributes()
    + element(PIXEL_DATA, "OB", b"abcd")
)


def test_a_header_that_pydicom_cannot_read_is_a_format_error() -> None:
    """Whatever pydicom raises: its own errors are no ValueErrors."""
    with mmindex.open_file(io.BytesIO(LONG_GROUP_LENGTH), force=True) as instance:
        assert instance.frame(0) == b"abcd"
        for read in (instance.dataset, partial(instance.picture, 0)):
            with pytest.raises(FormatError, match="pydicom cannot read the header"):
                read()


def test_a_table_of_half_a_number_is_a_decode_error() -> None:
    """A descriptor of 5 bytes."""
    palette = b"".join(
        element(tag, "US", bytes(5)) + element(tag + 0x100, "OW", bytes(4))
        for tag in (0x00281101, 0x00281102, 0x00281103)
    )
    attributes = image_attributes(photometric="PALETTE COLOR")
    data = dicom_file(attributes + palette + element(PIXEL_DATA, "OB", b"abcd"))
    with (
        mmindex.open_file(io.BytesIO(data)) as instance,
        pytest.raises(DecodeError, match="cannot apply the palette"),
    ):
        instance.picture(0)
