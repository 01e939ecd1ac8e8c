"""Files of two studies with the same SOP Instance UIDs: who chose one never gets the other.

Two patients may have such files: a copy under other UIDs of study and series, or a writer that uses
UIDs again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes
from small_slides import make_slide, make_tile

import mmindex
from mmindex import Archive, FrameDataset
from mmindex.errors import FormatError, InstanceNotFoundError, StaleIndexError

ANNA, BERT = ("1.2", "1.2.1"), ("1.3", "1.3.1")  # study and series; Bert's files are newer
SERIES = pytest.mark.parametrize(("owner", "first"), [(ANNA, 10), (BERT, 100)])


def write(path: Path, uid: str, owner: tuple[str, str], value: int, place: int = 0) -> None:
    """Write a slice of 2 x 2 pixels of one value, whose time of change grows with the value."""
    data_set = b"".join(
        (
            element(0x00080018, "UI", uid),
            element(0x00100020, "LO", owner[0]),
            element(0x0020000D, "UI", owner[0]),
            element(0x0020000E, "UI", owner[1]),
            element(0x00200032, "DS", f"0\\0\\{place}"),
            element(0x00200037, "DS", "1\\0\\0\\0\\1\\0"),
            image_attributes(rows=2, columns=2).replace(
                element(0x00280100, "US", 8),
                element(0x00280030, "DS", "1\\1") + element(0x00280100, "US", 8),
            ),
            element(PIXEL_DATA, "OB", bytes([value]) * 4),
        )
    )
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(dicom_file(data_set))
    os.utime(path, ns=(value * 10**15, value * 10**15))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    for number in range(3):
        write(tmp_path / "anna" / str(number), f"1.9.{number}", ANNA, 10 + number, number)
        write(tmp_path / "bert" / str(number), f"1.9.{number}", BERT, 100 + number, number)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as opened:
        yield opened


@SERIES
def test_items_are_those_of_the_study_or_series(
    archive: Archive, owner: tuple[str, str], first: int
) -> None:
    study, series = owner
    for chosen in ({"study_instance_uid": study}, {"series_instance_uid": series}):
        dataset = FrameDataset(archive, **chosen)
        for _ in range(3):  # not open yet, opened, kept open
            assert [item[0, 0] for item in dataset] == [first, first + 1, first + 2]
        assert dataset.arrays()[:, 0, 0].tolist() == [first, first + 1, first + 2]
        assert [item[0, 0] for item in dataset.__getitems__([2, 0])] == [first + 2, first]
        stored = FrameDataset(archive, decoded=False, **chosen)
        for _ in range(3):
            assert [item[0] for item in stored] == [first, first + 1, first + 2]


@SERIES
def test_chosen_instances_of_a_series_are_its_own(
    archive: Archive, owner: tuple[str, str], first: int
) -> None:
    dataset = FrameDataset(archive, series_instance_uid=owner[1], sop_instance_uids=["1.9.2"])
    (part,) = dataset.split((1.0,), by="patient")
    assert [item[0, 0] for item in dataset] == [item[0, 0] for item in part] == [first + 2]


@SERIES
def test_a_volume_is_that_of_its_series(
    archive: Archive, owner: tuple[str, str], first: int
) -> None:
    assert archive.volume(owner[1]).array[:, 0, 0].tolist() == [first, first + 1, first + 2]


@SERIES
def test_a_dask_array_and_a_zarr_store_are_those_of_their_series(
    archive: Archive, owner: tuple[str, str], first: int
) -> None:
    pytest.importorskip("dask.array")
    zarr = pytest.importorskip("zarr")
    from mmindex.export import zarr as export

    frames = archive.to_dask(owner[1]).compute()
    assert frames[:, 0, 0].tolist() == [first, first + 1, first + 2]
    store = export.open(archive, series_uid=owner[1])
    found: Any = zarr.open_group(store, mode="r")["frames"]
    assert found[:, 0, 0].tolist() == [first, first + 1, first + 2]


def test_a_copy_that_comes_later_changes_no_dataset(tmp_path: Path) -> None:
    """Neither one whose files are open, nor one that has read nothing yet."""
    write(tmp_path / "anna" / "0", "1.9.0", ANNA, 10)
    write(tmp_path / "anna" / "1", "1.9.1", ANNA, 11, 1)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        dataset = FrameDataset(archive, series_instance_uid=ANNA[1])
        for _ in range(3):
            assert dataset[0][0, 0] == 10
        write(tmp_path / "bert" / "0", "1.9.0", BERT, 100)
        write(tmp_path / "bert" / "1", "1.9.1", BERT, 101, 1)
        mmindex.update(tmp_path, [tmp_path / "bert"])
        for _ in range(3):
            assert [item[0, 0] for item in dataset] == [10, 11]
        assert archive.array("1.9.0", 0)[0, 0] == 100


@pytest.mark.parametrize("decoded", [True, False])
def test_an_instance_that_is_in_another_series_now_is_an_error(
    tmp_path: Path, decoded: bool
) -> None:
    write(tmp_path / "anna" / "0", "1.9.0", ANNA, 10)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        dataset = FrameDataset(archive, study_instance_uid=ANNA[0], decoded=decoded)
        write(tmp_path / "anna" / "0", "1.9.0", BERT, 100)
        mmindex.build(tmp_path, workers=1)
        with pytest.raises(InstanceNotFoundError, match="in the study"):
            dataset[0]


def test_a_series_of_two_studies_is_no_volume(tmp_path: Path) -> None:
    """One slice of each: patients may differ."""
    write(tmp_path / "a" / "0", "1.9.0", ("1.2", "1.7"), 10, 0)
    write(tmp_path / "a" / "1", "1.9.1", ("1.3", "1.7"), 11, 1)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        for read in (archive.volume, archive.slide):
            with pytest.raises(FormatError, match=r"in one study, found studies 1\.2, 1\.3"):
                read("1.7")
        for study, value in (("1.2", 10), ("1.3", 11)):
            (item,) = FrameDataset(archive, study_instance_uid=study, series_instance_uid="1.7")
            assert item[0, 0] == value


def write_slide(path: Path, owner: tuple[str, str], value: int, **options: Any) -> None:
    tiles = [make_tile(value + number) for number in range(options.pop("tiles", 9))]
    data = make_slide(options.pop("uid", "1.7.1"), tiles, **options)
    for made, wanted in ((b"1.2.3\0", owner[0]), (b"1.2.4\0", owner[1])):
        assert made in data
        data = data.replace(made, wanted.encode() + b"\0")
    path.write_bytes(data)
    os.utime(path, ns=(value * 10**15, value * 10**15))


@pytest.mark.parametrize(("series", "first"), [("1.3.1", 10), ("1.4.1", 100)])
def test_a_slide_is_that_of_its_series(tmp_path: Path, series: str, first: int) -> None:
    write_slide(tmp_path / "a", ("1.3.9", "1.3.1"), 10)
    write_slide(tmp_path / "b", ("1.4.9", "1.4.1"), 100)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, archive.slide(series) as slide:
        assert slide.tile(0, 0, 0) == make_tile(first)
        assert np.unique(slide.read_region(0, 0, 0, 4, 2)).tolist() == [first]


def test_a_concatenation_is_that_of_its_series(tmp_path: Path) -> None:
    for name, owner, value in (("a", ("1.3.9", "1.3.1"), 10), ("b", ("1.4.9", "1.4.1"), 100)):
        for part in range(2):
            write_slide(
                tmp_path / f"{name}{part}",
                owner,
                value + 4 * part,
                uid=f"1.7.{part}",
                tiles=4 + part,
                part=("1.6.6", 4 * part),
                parts=2,
            )
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        with pytest.raises(FormatError, match="give series_instance_uid, too"):
            archive.concatenation("1.6.6")
        for series, value in (("1.3.1", 10), ("1.4.1", 100)):
            with archive.concatenation("1.6.6", series_instance_uid=series) as frames:
                assert [frames.frame(at)[0] for at in range(9)] == list(range(value, value + 9))


def test_a_concatenation_of_two_studies_is_an_error(tmp_path: Path) -> None:
    for part, owner in enumerate((("1.3.9", "1.3.1"), ("1.4.9", "1.4.1"))):
        options: Any = {"uid": f"1.7.{part}", "tiles": 4 + part, "part": ("1.6.6", 4 * part)}
        write_slide(tmp_path / str(part), owner, 10 + part, parts=2, **options)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, pytest.raises(FormatError, match="one series"):
        archive.concatenation("1.6.6")


@pytest.mark.parametrize("decoded", [True, False])
def test_files_that_changed_names_are_not_taken_for_each_other(
    tmp_path: Path, decoded: bool
) -> None:
    """duplicates="all" reads files by their paths, which others may have by now."""
    for number in range(2):
        write(tmp_path / "a" / str(number), f"1.9.{number}", ANNA, 10 + number, number)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        dataset = FrameDataset(archive, duplicates="all", decoded=decoded)
        assert [np.ravel(item)[0] if decoded else item[0] for item in dataset] == [10, 11]
        for number in range(2):
            write(tmp_path / "a" / str(number), f"1.9.{1 - number}", ANNA, 11 - number, 1 - number)
        mmindex.build(tmp_path, workers=1)
        with pytest.raises(StaleIndexError, match="select them again"):
            dataset[0]


def test_a_stack_of_frames_never_mixes_versions(tmp_path: Path) -> None:
    """Units, places and order of a store are those of the records it was opened with."""
    pytest.importorskip("zarr")
    from mmindex.read.frame_stack import stack_series

    for number in range(2):
        write(tmp_path / "a" / str(number), f"1.9.{number}", ANNA, 10 + number, number)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        stack = stack_series(archive, ANNA[1])
        assert stack.read(1)[0, 0] == 11
        write(tmp_path / "a" / "1", "1.9.1", ANNA, 50, 7)
        mmindex.build(tmp_path, workers=1)
        assert stack.read(0)[0, 0] == 10
        with pytest.raises(StaleIndexError, match="select them again"):
            stack.read(1)
        assert stack_series(archive, ANNA[1]).read(1)[0, 0] == 50
