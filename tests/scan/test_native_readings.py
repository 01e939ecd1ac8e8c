"""Rules R32, R35, R40, R41, R46, R49 and R54: what the length of a native value decides."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    image_attributes,
)

import mmindex
from mmindex.errors import NotContiguousError

UIDS = element(0x00080018, "UI", "1.2.3")


def codes(data: bytes) -> list[str]:
    return sorted(anomaly.code for anomaly in mmindex.scan(data).anomalies)


def deflated(value: bytes, vr: str = "OW", **attributes: Any) -> bytes:
    data_set = UIDS + image_attributes(**attributes) + element(PIXEL_DATA, vr, value)
    squeeze = zlib.compressobj(wbits=-15)
    return dicom_file(
        squeeze.compress(data_set) + squeeze.flush(), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    )


def indexed(value: bytes, vr: str = "OW", **attributes: Any) -> bytes:
    data_set = UIDS + image_attributes(**attributes) + element(PIXEL_DATA, vr, value)
    return dicom_file(data_set)


def assert_served(tmp_path: Path, frames: list[bytes], value: bytes, **attributes: Any) -> None:
    """Assert that every way of reading gives `frames`: memory, file, deflated, index, batch."""
    for data in (indexed(value, **attributes), deflated(value, **attributes)):
        path = tmp_path / "a.dcm"
        path.write_bytes(data)
        with mmindex.open_file(io.BytesIO(data)) as instance:
            assert list(instance) == frames
        with mmindex.open_file(path) as instance:
            assert list(instance) == frames
            assert instance.frames() == frames
            assert instance.frames(range(len(frames) - 1, -1, -1)) == frames[::-1]
        mmindex.build(tmp_path, workers=1)
        with mmindex.open(tmp_path) as archive:
            assert [archive.frame("1.2.3", index) for index in range(len(frames))] == frames
            pairs = [("1.2.3", index) for index in reversed(range(len(frames)))]
            assert archive.frames(pairs) == frames[::-1]
            assert archive["1.2.3"].record.frames == mmindex.scan(data).frames


NINE = [b"abcdefghi", b"ABCDEFGHI", b"123456789"]
THREE_SAMPLES = [bytes(range(27)), bytes(range(100, 127))]
PADDED = {
    "8 bits, odd, to 2 bytes": (
        b"abcdefghi\0ABCDEFGHI\0" + b"123456789\0",
        NINE,
        {"rows": 3, "columns": 3, "number_of_frames": 3},
    ),
    "8 bits, one row, to 4 bytes": (
        b"abcdefghi\0\0\0ABCDEFGHI\0\0\0",
        [b"abcdefghi", b"ABCDEFGHI"],
        {"rows": 1, "columns": 9, "number_of_frames": 2},
    ),
    "padding that is not zero": (
        b"abcdefghi?ABCDEFGHI!",
        NINE[:2],
        {"rows": 3, "columns": 3, "number_of_frames": 2},
    ),
    "3 samples, to 2 bytes": (
        THREE_SAMPLES[0] + b"\0" + THREE_SAMPLES[1] + b"\0",
        THREE_SAMPLES,
        {"rows": 3, "columns": 3, "samples": 3, "photometric": "RGB", "number_of_frames": 2},
    ),
    "16 bits, odd pixels, to 4 bytes": (
        b"aabbccddeeffgghhii\0\0AABBCCDDEEFFGGHHII\0\0",
        [b"aabbccddeeffgghhii", b"AABBCCDDEEFFGGHHII"],
        {"rows": 3, "columns": 3, "bits": 16, "number_of_frames": 2},
    ),
    "1 bit, to bytes": (
        b"\xff\xff\xff\xff\x01\xaa\x55\xaa\x55\x00\x0f\xf0\x0f\xf0\x01\0",
        [b"\xff\xff\xff\xff\x01", b"\xaa\x55\xaa\x55\x00", b"\x0f\xf0\x0f\xf0\x01"],
        {"rows": 1, "columns": 33, "bits": 1, "number_of_frames": 3},
    ),
    "1 bit, to words": (
        b"\xff\xff\xff\xff\x01\0\xaa\x55\xaa\x55\x00\0",
        [b"\xff\xff\xff\xff\x01", b"\xaa\x55\xaa\x55\x00"],
        {"rows": 1, "columns": 33, "bits": 1, "number_of_frames": 2},
    ),
}


@pytest.mark.parametrize(("value", "frames", "attributes"), PADDED.values(), ids=PADDED)
def test_R40_frames_that_are_padded_one_by_one_lie_at_the_padded_stride(
    value: bytes, frames: list[bytes], attributes: dict[str, Any], tmp_path: Path
) -> None:
    """N times the padded frame is no standard length: the padding is in no frame."""
    data = indexed(value, **attributes)
    assert codes(data) == ["frame-padding"]
    assert_served(tmp_path, frames, value, **attributes)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        for index in range(len(frames)):
            ((offset, length),) = instance.byte_ranges(index)
            assert length == len(frames[index])
            assert offset == len(data) - len(value) + index * (len(value) // len(frames))
            if attributes.get("bits") == 1:  # its last bits share a byte with the padding
                with pytest.raises(NotContiguousError):
                    instance.view(index)
            else:
                assert bytes(instance.view(index)) == frames[index]
