"""What is read as one series, slide or concatenation is of one study, and of one patient."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import dicom_file, element, image_attributes

import mmindex
from mmindex import Archive
from mmindex.errors import FormatError

SERIES = "1.2.1"


def write_slice(path: Path, uid: str, study: str, position: int, value: int) -> None:
    """Write a slice of 2 x 2 pixels of one value."""
    data_set = element(0x00080018, "UI", uid)
    data_set += element(0x0020000D, "UI", study) if study else b""
    data_set += element(0x0020000E, "UI", SERIES)
    data_set += element(0x00200032, "DS", f"0\\0\\{position}")
    data_set += element(0x00200037, "DS", "1\\0\\0\\0\\1\\0")
    data_set += image_attributes(number_of_frames=1)
    data_set = data_set.replace(
        element(0x00280100, "US", struct.pack("<H", 8)),
        element(0x00280030, "DS", "1\\1") + element(0x00280100, "US", struct.pack("<H", 8)),
    )
    path.write_bytes(dicom_file(data_set + element(0x7FE00010, "OB", bytes([value] * 4))))


def write_series(root: Path, *studies: str) -> None:
    """Write two slices a study, all of one Series Instance UID, one above the other."""
    for at, study in enumerate(studies):
        for number in range(2):
            position = 2 * at + number
            name = f"{study or 'none'}-{number}.dcm"
            write_slice(root / name, f"1.9.{position}", study, position, position)


DOORS: dict[str, Callable[[Archive], object]] = {
    "volume": lambda archive: archive.volume(SERIES),
    "to_dask": lambda archive: archive.to_dask(SERIES),
    "slide": lambda archive: archive.slide(SERIES),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_series_of_two_studies_is_not_read_as_one(
    tmp_path: Path, door: Callable[[Archive], object]
) -> None:
    """Both studies are named; slices of two patients make no volume (PS3.3 A.1.2)."""
    write_series(tmp_path, "1.2", "1.3")
    mmindex.build(tmp_path, workers=1)
    with (
        mmindex.open(tmp_path) as archive,
        pytest.raises(FormatError, match=r"found studies 1\.2, 1\.3: .*study"),
    ):
        door(archive)


@pytest.mark.parametrize("studies", [("1.2",), ("",), ("1.2", "")])
def test_a_series_of_one_study_is_a_volume(tmp_path: Path, studies: tuple[str, ...]) -> None:
    """A file that names no study belongs to the series all the same."""
    write_series(tmp_path, *studies)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        found = archive.volume(SERIES).array[:, 0, 0]
    np.testing.assert_array_equal(found, range(2 * len(studies)))


def write_part(path: Path, uid: str, study: str, series: str, first: int) -> None:
    """Write a part of a concatenation: two frames from a number on."""
    data_set = element(0x00080018, "UI", uid) + element(0x0020000D, "UI", study)
    data_set += element(0x0020000E, "UI", series) + element(0x00209161, "UI", "1.7")
    data_set += element(0x00209228, "UL", struct.pack("<I", first))
    data_set += image_attributes(number_of_frames=2)
    path.write_bytes(dicom_file(data_set + element(0x7FE00010, "OB", bytes([first] * 8))))


@pytest.mark.parametrize(
    ("places", "match"),
    [
        ([("1.2", "1.2.1"), ("1.3", "1.3.1")], r"found series 1\.2\.1, 1\.3\.1"),
        ([("1.2", "1.2.1"), ("1.2", "1.2.2")], r"found series 1\.2\.1, 1\.2\.2"),
        ([("1.2", "1.2.1"), ("1.3", "1.2.1")], r"found studies 1\.2, 1\.3"),
    ],
)
def test_parts_of_several_series_are_no_concatenation(
    tmp_path: Path, places: list[tuple[str, str]], match: str
) -> None:
    """A copy under other UIDs keeps the Concatenation UID: the parts are not joined."""
    for at, (study, series) in enumerate(places):
        write_part(tmp_path / f"{at}.dcm", f"1.9.{at}", study, series, 2 * at)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, pytest.raises(FormatError, match=match):
        archive.concatenation("1.7")
