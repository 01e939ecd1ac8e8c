"""FrameDataset and volumes: order, duplicates, splits, what is skipped, pickles."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dicom_bytes import (
    PIXEL_DATA,
    RLE_LOSSLESS,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)

import mmindex
from mmindex import FrameDataset
from mmindex.errors import FormatError, InstanceNotFoundError
from mmindex.image_numbers import ImageNumbers
from mmindex.model import InstanceRecord, Status
from mmindex.read.order import order_records

AXIAL = "1\\0\\0\\0\\1\\0"


def slice_file(at: int, z: float | None, *, orientation: str = AXIAL, **values: str) -> bytes:
    """Return a slice of 2 x 2 pixels, all of value `at`."""
    head = element(0x00080018, "UI", values.get("uid", f"1.2.{at}"))
    head += element(0x00100020, "LO", values.get("patient", "P"))
    head += element(0x0020000D, "UI", values.get("study", "1.1"))
    head += element(0x0020000E, "UI", values.get("series", "1.1.1"))
    head += element(0x00200013, "IS", values.get("number", str(at)))
    if z is not None:
        x = values.get("x", "-5")
        head += element(0x00200032, "DS", f"{x}\\-7\\{z}")
        head += element(0x00200037, "DS", orientation)
    head += image_attributes()
    if z is not None:
        head += element(0x00280030, "DS", "0.5\\0.25")
    return dicom_file(head + element(PIXEL_DATA, "OB", bytes([at] * 4)))


def archive_of(folder: Path, files: dict[str, bytes]) -> mmindex.Archive:
    """Write files, index them, open the archive."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    mmindex.build(folder, workers=1)
    return mmindex.open(folder)


def record(uid: str, number: int | None, z: float | None) -> InstanceRecord:
    """Return a record with these numbers."""
    numbers = ImageNumbers(
        instance_number=number,
        image_position_patient=None if z is None else (0.0, 0.0, z),
        image_orientation_patient=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    )
    return InstanceRecord(Status.INDEXED, sop_instance_uid=uid, image_numbers=numbers)


def test_records_are_ordered_by_position_number_and_uid() -> None:
    """Each where it was asked for, the next where a number is absent."""
    records = [record("1", 3, 5.0), record("2", 2, 9.0), record("3", 1, -1.0)]

    def order(records: list[InstanceRecord], by: Any) -> list[str]:
        return [each.sop_instance_uid for each in order_records(records, by)]

    assert order(records, "position") == ["3", "1", "2"]
    assert order(records, "instance-number") == ["3", "2", "1"]
    assert order(records[::-1], "uid") == ["1", "2", "3"]
    assert order([*records, record("0", 4, None)], "position") == ["3", "2", "1", "0"]
    assert order([*records, record("0", None, None)], "position") == ["0", "1", "2", "3"]


def test_a_volume_has_its_place_in_the_patient(tmp_path: Path) -> None:
    """Slices along the normal, whatever the order of files and UIDs."""
    places = [4.5, 1.5, 3.0, 0.0]
    files = {f"{at}.dcm": slice_file(at, z) for at, z in enumerate(places)}
    with archive_of(tmp_path, files) as archive:
        for threads in (None, 2):
            volume = archive.volume("1.1.1", threads=threads)
            assert volume.array[:, 0, 0].tolist() == [3, 1, 2, 0]
            assert volume.spacing == (1.5, 0.5, 0.25)
            assert volume.origin == (-5.0, -7.0, 0.0)
            assert volume.direction.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
        assert archive.volume("1.1.1", rescale=True).array.dtype == np.float32


@pytest.mark.parametrize(
    "damaged",
    [
        element(0x3004000C, "FD", bytes(5)),  # Grid Frame Offset Vector
        element(0x00280030, "FD", bytes(5)),  # Pixel Spacing
        element(0x52009230, "OB", b"abcd"),  # Per-frame Functional Groups Sequence
    ],
)
def test_places_that_pydicom_cannot_read_make_no_volume(tmp_path: Path, damaged: bytes) -> None:
    """Half a number, and bytes where a sequence is expected."""
    head = element(0x00080018, "UI", "1.2") + element(0x0020000E, "UI", "1.1.1")
    pixels = image_attributes(number_of_frames=2) + damaged + element(PIXEL_DATA, "OB", bytes(8))
    (tmp_path / "a.dcm").write_bytes(dicom_file(head + pixels))
    mmindex.build(tmp_path, workers=1)
    with (
        mmindex.open(tmp_path) as archive,
        pytest.raises(FormatError, match=r"pydicom cannot read where the frames of 1\.2 lie"),
    ):
        archive.volume("1.1.1")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (lambda: slice_file(2, 4.5), "expected slices 1.500 mm"),
        (lambda: slice_file(2, 1.5), "two slices at 1.500 mm"),
        (lambda: slice_file(2, 3.0, orientation="1\\0\\0\\0\\0.9\\0.43589"), "not parallel"),
        (lambda: slice_file(2, 3.0, x="-4"), "shifted in their plane"),
        (lambda: slice_file(2, None), "no position in space"),
        (lambda: slice_file(2, 3.0, x="nan"), "no position in space"),
        (
            lambda: slice_file(2, 3.0, orientation="0\\0\\0\\0\\0\\0"),
            "unit vectors at right",
        ),
        (
            lambda: slice_file(2, 3.0, orientation="1\\0\\0\\1\\0\\0"),
            "unit vectors at right",
        ),
        (
            lambda: slice_file(2, 3.0, orientation="2\\0\\0\\0\\2\\0"),
            "unit vectors at right",
        ),
    ],
    ids=[
        *("missing", "double", "not-parallel", "shifted", "no-place"),
        *("not-a-number", "no-orientation", "one-axis", "long-axes"),
    ],
)
def test_slices_that_make_no_volume_are_refused(
    tmp_path: Path, changed: Callable[[], bytes], why: str
) -> None:
    """A gap, two in one place, a tilt, a shift, no place at all."""
    files = {f"{at}.dcm": slice_file(at, 1.5 * at) for at in (0, 1, 4)}
    files["3.dcm"] = slice_file(3, 4.5)
    files["4.dcm"] = slice_file(4, 6.0)
    files["2.dcm"] = changed()
    if why.startswith("expected"):
        files.pop("3.dcm")
    with archive_of(tmp_path, files) as archive, pytest.raises(FormatError, match=why):
        archive.volume("1.1.1")


def dose_file(z: float, offsets: str, orientation: str = AXIAL) -> bytes:
    """Return a dose of three planes of 2 x 2 pixels, of the values 0, 1 and 2."""
    head = element(0x00080018, "UI", "1.2.1") + element(0x0020000E, "UI", "1.1.1")
    head += element(0x00200032, "DS", f"-5\\-7\\{z}") + element(0x00200037, "DS", orientation)
    head += image_attributes(number_of_frames=3) + element(0x00280030, "DS", "0.5\\0.25")
    head += element(0x3004000C, "DS", offsets)
    return dicom_file(head + element(PIXEL_DATA, "OB", bytes(at // 4 for at in range(12))))


@pytest.mark.parametrize(
    ("offsets", "z", "orientation", "values", "origin"),
    [
        ("0\\2\\4", 10, AXIAL, [0, 1, 2], 10),
        ("0\\-2\\-4", 10, AXIAL, [2, 1, 0], 6),
        ("10\\12\\14", 10, AXIAL, [0, 1, 2], 10),
        ("10\\12\\14", 10, "1\\0\\0\\0\\-1\\0", [2, 1, 0], 14),
        ("0\\2\\4", 10, "1\\0\\0\\0\\-1\\0", [2, 1, 0][::-1], 10),
    ],
    ids=["relative", "downwards", "absolute", "absolute-flipped", "relative-flipped"],
)
def test_a_dose_is_a_volume_by_its_grid_frame_offset_vector(
    tmp_path: Path, offsets: str, z: float, orientation: str, values: list[int], origin: float
) -> None:
    """PS3.3 C.8.8.3.2: along the normal from the first plane, or z where they begin with its z."""
    with archive_of(tmp_path, {"dose": dose_file(z, offsets, orientation)}) as archive:
        volume = archive.volume("1.1.1")
    assert volume.array[:, 0, 0].tolist() == values
    assert volume.spacing == (2.0, 0.5, 0.25)
    assert volume.origin == (-5.0, -7.0, origin)


@pytest.mark.parametrize("offsets", ["0\\2", "0\\2\\4\\6", "1\\2\\3", "0\\2\\5", "0\\2\\nan"])
def test_a_dose_whose_offsets_place_no_planes_is_refused(tmp_path: Path, offsets: str) -> None:
    """As many offsets as frames, from 0 or from the first plane's z, at even steps."""
    with (
        archive_of(tmp_path, {"dose": dose_file(10, offsets)}) as archive,
        pytest.raises(FormatError, match=r"Grid Frame Offset Vector|expected slices"),
    ):
        archive.volume("1.1.1")


def test_items_have_ids_and_are_transformed(tmp_path: Path) -> None:
    """One UID may stand for a list of one."""
    files = {"a": slice_file(7, 0.0)}
    with archive_of(tmp_path, files) as archive:
        dataset = mmindex.FrameDataset(archive, with_ids=True, transform=lambda a: a.sum())
        assert dataset[0] == (28, "1.2.7", 0)
        assert mmindex.FrameDataset(archive, sop_instance_uids="1.2.7")[0].shape == (2, 2)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_frame_that_cannot_be_decoded_is_skipped_and_told(tmp_path: Path, on_error: Any) -> None:
    """The next one takes its place, with a warning."""
    good = b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\3\1\2\3\4\0"
    head = element(0x00080018, "UI", "1.2") + image_attributes(number_of_frames=2)
    data = dicom_file(head + encapsulate([good[:64] + b"\1\1\2\0", good]), RLE_LOSSLESS)
    with archive_of(tmp_path, {"a": data}) as archive:
        dataset = mmindex.FrameDataset(archive, on_error=on_error, with_ids=True)
        if on_error == "raise":
            with pytest.raises(mmindex.errors.DecodeError):
                dataset[0]
            return
        with pytest.warns(RuntimeWarning, match="item 0 is skipped"):
            assert dataset[0][1:] == ("1.2", 1)
        assert list(dataset.skipped) == [0]
        assert dataset[0][1:] == ("1.2", 1)


def test_of_files_with_one_uid_one_all_or_none_is_taken(tmp_path: Path) -> None:
    """The newest is the one that the archive serves."""
    files = {name: slice_file(at, 0.0, uid="1.2") for at, name in enumerate("ab")}
    for at, (name, data) in enumerate(files.items()):
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, ns=(10**18, 10**18 + at))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert [int(a[0, 0]) for a in mmindex.FrameDataset(archive)] == [1]
        every = mmindex.FrameDataset(archive, duplicates="all")
        assert sorted(int(a[0, 0]) for a in every) == [0, 1]
        with pytest.raises(InstanceNotFoundError, match="several files"):
            mmindex.FrameDataset(archive, duplicates="raise")


@pytest.mark.parametrize("by", ["patient", "study"])
def test_a_split_divides_no_patient_and_no_study(tmp_path: Path, by: Any) -> None:
    """Parts share none, cover all, and are the same for the same seed."""
    files = {
        f"{at}": slice_file(at, None, study=f"1.{at % 10}", patient=f"P{at % 5}", series="1.1")
        for at in range(30)
    }
    with archive_of(tmp_path, files) as archive:
        dataset = mmindex.FrameDataset(archive, with_ids=True)
        parts = dataset.split((0.6, 0.2, 0.2), by=by, seed=4)
        groups = [
            {int(uid.split(".")[-1]) % (5 if by == "patient" else 10) for _, uid, _ in part}
            for part in parts
        ]
        assert [len(group) for group in groups] == ([3, 1, 1] if by == "patient" else [6, 2, 2])
        assert sum(map(len, groups)) == len(set().union(*groups))
        assert sum(map(len, parts)) == 30
        again = dataset.split((0.6, 0.2, 0.2), by=by, seed=4)
        copied = pickle.loads(pickle.dumps(parts[0]))
        for first, second in ((parts[1], again[1]), (parts[0], copied)):
            assert [item[1:] for item in first] == [item[1:] for item in second]
        copied.archive.close()
        nested = parts[0].split((0.5, 0.5), by="study")
        assert sum(map(len, nested)) == len(parts[0])
        with pytest.raises(ValueError, match="at most 1"):
            dataset.split((0.9, 0.2))


@pytest.mark.parametrize(
    ("name", "value"),
    [("order", "number"), ("duplicates", "first"), ("on_error", "ignore"), ("by", "series")],
)
def test_a_choice_without_meaning_is_refused(tmp_path: Path, name: str, value: str) -> None:
    """A slip in an option does not train on other data than was meant."""
    wrong: Any = {name: value}
    with archive_of(tmp_path, {"a": slice_file(7, 0.0)}) as archive:
        dataset = mmindex.FrameDataset(archive)
        calls: dict[str, list[Callable[[], object]]] = {
            "by": [lambda: dataset.split((0.5, 0.5), **wrong)],
            "on_error": [lambda: archive["1.2.7"].arrays(**wrong)],
        }
        for call in calls.get(name, []):
            with pytest.raises(ValueError, match=f"{name}: expected one of .*, found '{value}'"):
                call()
        if name != "by":
            with pytest.raises(ValueError, match=f"{name}: expected one of .*, found '{value}'"):
                mmindex.FrameDataset(archive, **wrong)


def test_files_without_a_study_are_divided_by_their_own_patients(tmp_path: Path) -> None:
    """Each may be of another patient: one header does not speak for the others."""
    files = {
        f"{at}": slice_file(at, None, study="" if at < 8 else "1.9", patient=f"P{at % 4}")
        for at in range(12)
    }
    files |= {f"{at}": slice_file(at, None, study=f"1.{at}", patient=f"P{at % 4}") for at in (8, 9)}
    with archive_of(tmp_path, files) as archive:
        dataset = mmindex.FrameDataset(archive, with_ids=True)
        parts = dataset.split((0.5, 0.5), seed=2)
        found = [{int(uid.split(".")[-1]) for _, uid, _ in part} for part in parts]
        without = [{at % 4 for at in each if at < 10} for each in found]
        assert not without[0] & without[1]
        assert sum(map(len, parts)) == 12


RECORDS: list[Any] = []


class Selected:
    """An archive of many one-frame instances, which pickles."""

    path = "index"

    def instances(self, **_: object) -> list[Any]:
        if not RECORDS:
            RECORDS.extend(self.make_records())
        return RECORDS

    def make_records(self) -> list[Any]:
        return [
            SimpleNamespace(
                sop_instance_uid=f"1.2.840.113619.2.55.3.604688119.971.{at:010}",
                study_instance_uid=f"1.{at // 1000}",
                number_of_frames=1,
                path=b"",
                key=b"folder/%06d.dcm" % at,
                image_numbers=ImageNumbers(),
                fingerprint=None,
                frames=None,
            )
            for at in range(200_000)
        ]


UIDS_OF_MANY = [record.sop_instance_uid for record in Selected().instances()]
CONSTRUCTED: dict[str, dict[str, Any]] = {
    "all": {},
    "a study": {"study_instance_uid": "1.1"},
    "a series": {"series_instance_uid": "1.1"},
    "every file": {"duplicates": "all"},
    "by Instance Number": {"order": "instance-number"},
    "UIDs in order": {"sop_instance_uids": UIDS_OF_MANY},
    "UIDs in reverse": {"sop_instance_uids": UIDS_OF_MANY[::-1]},
    "every third UID": {"sop_instance_uids": UIDS_OF_MANY[::3]},
    "half of the UIDs": {"sop_instance_uids": sorted(random.Random(1).sample(UIDS_OF_MANY, 10**5))},
    "few UIDs": {"sop_instance_uids": UIDS_OF_MANY[:200]},
}


@pytest.mark.parametrize("options", CONSTRUCTED.values(), ids=CONSTRUCTED)
def test_a_dataset_of_many_frames_pickles_small(options: dict[str, Any]) -> None:
    """200,000 frames and parts of them: under 100 kB, with the same items after."""
    archive: Any = Selected()
    dataset = mmindex.FrameDataset(archive, **options)
    parts = dataset.split((0.5, 0.5), by="study", seed=1)
    for each in (dataset, *parts, *dataset.split((0.005, 0.8), by="study")):
        pickled = pickle.dumps(each)
        assert len(pickled) < 100_000
        copied = pickle.loads(pickled)
        assert (copied._items.uids, copied._items.ends) == (each._items.uids, each._items.ends)


def test_an_order_of_many_uids_that_nothing_else_knows_takes_few_bytes_each() -> None:
    """200,000 in an order of chance cannot take less than 2.02 bytes each: log2(200000!)."""
    shuffled = random.Random(2).sample(UIDS_OF_MANY, len(UIDS_OF_MANY))
    archive: Any = Selected()
    pickled = pickle.dumps(mmindex.FrameDataset(archive, sop_instance_uids=shuffled))
    assert len(pickled) < 2.5 * len(shuffled)
    assert pickle.loads(pickled)._items.uids == shuffled


@pytest.mark.parametrize("declared", [5, 70_000, (1 << 31) - 1])
@pytest.mark.parametrize("decoded", [True, False])
def test_frames_that_are_only_declared_are_skipped_at_once(
    tmp_path: Path, declared: int, decoded: bool
) -> None:
    """A file of some hundred bytes can declare any number: the next item is the next file's."""
    for number, frames in enumerate((declared, 2)):
        stored = 3 if frames == declared else 2
        data_set = element(0x00080018, "UI", f"1.9.{number}")
        data_set += image_attributes(rows=2, columns=2, number_of_frames=frames)
        values = b"".join(bytes([10 * number + at]) * 4 for at in range(stored))
        (tmp_path / f"{number}").write_bytes(
            dicom_file(data_set + element(PIXEL_DATA, "OW", values))
        )
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        dataset = FrameDataset(archive, decoded=decoded, on_error="skip")
        assert len(dataset) == declared + 2

        def read(index: int) -> int:
            return int(np.ravel(dataset[index])[0]) if decoded else dataset[index][0]

        assert [read(index) for index in (0, 2, declared)] == [0, 2, 10]
        for index in sorted({3, declared - 1, declared // 2 + 2}):
            with pytest.warns(RuntimeWarning, match=f"item {index} is skipped"):
                assert read(index) == 10
        (tmp_path / "1").unlink()
        with pytest.warns(RuntimeWarning):
            assert read(declared) == 0  # the first one, all around
        assert len(dataset.skipped) <= 6
        if declared > 1 << 20:
            with pytest.raises(FormatError, match="Number of Frames"):
                dataset.arrays()


@pytest.mark.parametrize("stored", [0, 2])
@pytest.mark.parametrize("index", [0, 1, 5, 10, 19])
def test_a_dataset_of_which_nothing_can_be_read_says_so(
    tmp_path: Path, stored: int, index: int
) -> None:
    """Whether the item is a frame that the file has, or one that it only declares."""
    data_set = element(0x00080018, "UI", "1.9.1")
    data_set += image_attributes(rows=2, columns=2, number_of_frames=20)
    data = dicom_file(data_set + element(PIXEL_DATA, "OW", bytes(80)))
    (tmp_path / "a").write_bytes(data[: len(data) - 80 + 4 * stored])
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        dataset = FrameDataset(archive, on_error="skip")
        (tmp_path / "a").unlink()
        with pytest.raises(FormatError, match="no frame"), pytest.warns(RuntimeWarning):
            dataset[index]
