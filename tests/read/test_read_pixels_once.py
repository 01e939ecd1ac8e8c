"""Archive.array of a file that is not open: decoded by its packed record, as by the whole one."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_bytes import PIXEL_DATA, dicom_file, element, identified, image_attributes, written
from pydicom_oracle import FOLDER, quiet_pydicom

import mmindex
from mmindex.errors import DecodeError, IndexFormatError, MMIndexError
from mmindex.frame_table import FrameTable, Layout
from mmindex.image_numbers import ImageNumbers
from mmindex.index.frame_location import find_pixels
from mmindex.index.record import pack_record, unpack_record
from mmindex.model import Fingerprint, ImagePixel, InstanceRecord, Status

UID = "1.2.3"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index the files of pydicom's wheel that have a UID of their own."""
    folder = tmp_path_factory.mktemp("files")
    for path in FOLDER.glob("*.dcm"):
        shutil.copy(path, folder)
    mmindex.build(folder, workers=1)
    return folder


@pytest.mark.parametrize(
    "options",
    [{}, {"raw": True}, {"copy": True}, {"rescale": True}, {"rescale": True, "copy": True}],
    ids=str,
)
def test_first_and_second_read_of_every_file_of_pydicom_are_the_same(
    root: Path, options: dict[str, Any]
) -> None:
    """Pixels, dtype, and whether they can be written to; or the same error."""
    with mmindex.open(root) as archive, quiet_pydicom():
        compared = 0
        for uid in archive:
            found: list[Any] = []
            for _ in range(2):
                try:
                    found.append(archive.array(uid, 0, **options))
                except MMIndexError as error:
                    found.append((type(error), error.message, error.path))
            if isinstance(found[0], tuple):
                assert found[0] == found[1]
                continue
            first, second = found
            assert first.dtype == second.dtype
            assert np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
            assert first.flags.writeable == second.flags.writeable or not options.get("copy")
            assert not options.get("copy") or first.flags.writeable
            compared += 1
        assert compared > 30


def slice_file(*, slope: str = "2") -> bytes:
    """Return a file of 16 bits with rescale slope and intercept."""
    data_set = element(0x00080018, "UI", UID) + image_attributes(bits=16, number_of_frames=2)
    at = data_set.index(element(0x00280103, "US", 0))
    rescale = element(0x00281052, "DS", "-10") + element(0x00281053, "DS", slope)
    data_set = data_set[: at + 10] + rescale + data_set[at + 10 :]
    value = struct.pack("<8H", *range(8))
    return dicom_file(data_set + element(PIXEL_DATA, "OW", value))


def test_an_item_that_is_read_once_opens_no_instance(
    tmp_path: Path, opened: list[InstanceRecord]
) -> None:
    """Of an array, of a dataset, in units where the record has them; the second read does."""
    written(tmp_path, slice_file())
    mmindex.build(tmp_path, workers=1)
    for options, expected in (({}, [[4, 5], [6, 7]]), ({"rescale": True}, [[-2, 0], [2, 4]])):
        opened.clear()
        with mmindex.open(tmp_path) as archive:
            assert mmindex.FrameDataset(archive, **options)[1].tolist() == expected
            assert not opened
            assert archive.array(UID, 1, **options).tolist() == expected
            assert len(opened) == 1
            assert archive.array(UID, 0, **options).tolist() != expected
            assert len(opened) == 1


def test_a_file_that_changed_gives_no_array_at_its_first_read(tmp_path: Path) -> None:
    """Its pixels would be those of other bytes."""
    path = written(tmp_path, slice_file())
    mmindex.build(tmp_path, workers=1)
    path.write_bytes(slice_file(slope="7"))
    with mmindex.open(tmp_path) as archive, pytest.raises(mmindex.errors.StaleIndexError):
        archive.array(UID, 0)


def test_an_error_at_the_first_read_names_the_file(tmp_path: Path) -> None:
    """As later ones do."""
    attributes = image_attributes(rows=1, columns=4, samples=4)
    path = written(tmp_path, identified(attributes + element(PIXEL_DATA, "OB", bytes(16)), UID))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, quiet_pydicom():
        for _ in range(2):
            with pytest.raises(DecodeError) as caught:
                archive.array(UID, 0)
            assert caught.value.path == str(path)


VERSION = Fingerprint(1 << 20, 5, 7)
RECORD = InstanceRecord(
    Status.INDEXED,
    sop_instance_uid=UID,
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    number_of_frames=3,
    frames=FrameTable(Layout.NATIVE, 3, 3, 0, 1000, 32),
    path=b"a/b.dcm",
    image_pixel=ImagePixel(rows=2, columns=2, bits_allocated=8, photometric_interpretation="RGB"),
)


@pytest.mark.parametrize(
    ("numbers", "rescale"),
    [
        ({}, None),
        ({"rescale_slope": 2.0}, None),
        ({"rescale_slope": 2.0, "rescale_intercept": -3.0}, (2.0, -3.0)),
        ({"instance_number": 7, "rescale_slope": 2.0, "rescale_intercept": 0.0}, (2.0, 0.0)),
        ({"instance_number": 7, "window_center": 1.0, "window_width": 2.0}, None),
    ],
)
def test_what_decodes_a_frame_is_that_of_the_whole_record(
    numbers: dict[str, Any], rescale: tuple[float, float] | None
) -> None:
    """Image attributes, transfer syntax, and slope and intercept whatever stands before them."""
    record = RECORD._replace(image_numbers=ImageNumbers(**numbers))
    for image in (record.image_pixel, ImagePixel(rows=2, photometric_interpretation="PALETTE")):
        packed = pack_record(record._replace(image_pixel=image), fingerprint=VERSION)
        found = find_pixels(packed, UID.encode(), 1)
        assert found is not None
        whole = unpack_record(packed)
        assert found.image == whole.image_pixel
        assert found.transfer_syntax_uid == whole.transfer_syntax_uid
        assert (found.location.offset, found.frame_bits, found.rescale) == (1004, 32, rescale)


def test_native_pixels_in_big_endian_are_left_to_the_whole_record() -> None:
    """How their samples lie takes more than the record's fixed part."""
    record = RECORD._replace(big_endian=True)
    assert find_pixels(pack_record(record, fingerprint=VERSION), UID.encode(), 0) is None


def test_a_damaged_record_decodes_nothing_else_than_the_whole_one() -> None:
    """Cut anywhere, or with changed bytes: an error, or what the whole record says, too."""
    numbers = ImageNumbers(instance_number=1, rescale_slope=2.0, rescale_intercept=3.0)
    packed = pack_record(RECORD._replace(image_numbers=numbers), fingerprint=VERSION)
    chance = random.Random(4)
    damaged = [packed[:length] for length in range(len(packed))]
    for _ in range(3000):
        changed = bytearray(packed)
        changed[chance.randrange(len(packed))] = chance.randrange(256)
        damaged.append(bytes(changed))
    for each in damaged:
        try:
            found = find_pixels(each, UID.encode(), 1)
            whole = unpack_record(each)
        except IndexFormatError:
            continue
        if found is not None:
            assert found.image == whole.image_pixel
            assert found.transfer_syntax_uid == whole.transfer_syntax_uid
