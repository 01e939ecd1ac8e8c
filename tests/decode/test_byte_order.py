"""Native pixels of either byte order, in words and bits, and of private transfer syntaxes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    PIXEL_DATA,
    PRIVATE_SYNTAX,
    dicom_file,
    element,
    image_attributes,
    written,
)

import mmindex
from mmindex.errors import (
    DecodeError,
)


def big_endian(value: bytes, *, bits: int = 16, vr: str = "OW", **attributes: Any) -> bytes:
    data_set = element(0x00080018, "UI", "1.2.3", order=">")
    data_set += image_attributes(order=">", bits=bits, **attributes)
    return data_set + element(PIXEL_DATA, vr, value, order=">")


def implicit(value: bytes, *, bits: int = 16) -> bytes:
    data_set = element(0x00080018, "UI", "1.2.3", implicit=True)
    data_set += image_attributes(implicit=True, bits=bits)
    return data_set + element(PIXEL_DATA, "OW", value, implicit=True)


WORDS = {
    "Big Endian": dicom_file(big_endian(struct.pack(">4H", 1, 2, 3, 4)), EXPLICIT_VR_BIG_ENDIAN),
    "Big Endian, not said": dicom_file(big_endian(struct.pack(">4H", 1, 2, 3, 4)), None),
    "Big Endian, no meta": big_endian(struct.pack(">4H", 1, 2, 3, 4)),
    "implicit, called Big Endian": dicom_file(
        implicit(struct.pack("<4H", 1, 2, 3, 4)), EXPLICIT_VR_BIG_ENDIAN
    ),
    "implicit, not said": dicom_file(implicit(struct.pack("<4H", 1, 2, 3, 4)), None),
    "implicit, no meta": implicit(struct.pack("<4H", 1, 2, 3, 4)),
    "swapped pairs": dicom_file(big_endian(b"\2\1\4\3", bits=8), EXPLICIT_VR_BIG_ENDIAN),
    "swapped pairs, not said": dicom_file(big_endian(b"\2\1\4\3", bits=8), None),
    "swapped pairs, no meta": big_endian(b"\2\1\4\3", bits=8),
    "OB in Big Endian, not said": dicom_file(big_endian(b"\1\2\3\4", bits=8, vr="OB"), None),
    "bytes, called Big Endian": dicom_file(implicit(b"\1\2\3\4", bits=8), EXPLICIT_VR_BIG_ENDIAN),
}


@pytest.mark.parametrize("indexed", [False, True], ids=["file", "archive"])
@pytest.mark.parametrize("data", WORDS.values(), ids=WORDS)
def test_R33_pixels_have_the_byte_order_that_was_found(
    tmp_path: Path, data: bytes, indexed: bool
) -> None:
    """What the transfer syntax is called does not change a pixel, with an index or without."""
    path = written(tmp_path, data)
    if indexed:
        mmindex.build(tmp_path, workers=1, force=True)
        with mmindex.open(tmp_path) as archive:
            pixels = [archive.array("1.2.3", 0), archive.arrays([("1.2.3", 0)])[0]]
    else:
        with mmindex.open_file(path, force=True) as instance:
            pixels = [instance.array(0), instance.array(0, copy=True), instance.arrays()[0]]
    for array in pixels:
        assert array.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("with_meta", [True, False])
def test_R31_bits_of_Big_Endian_words_follow_the_byte_order_that_was_found(
    tmp_path: Path, with_meta: bool
) -> None:
    """Frames of 1 bit in swapped words are right where no transfer syntax says Big Endian."""
    bits = np.array([1, 0, 0, 1, 1, 1, 0, 1, 0] * 3, np.uint8)
    packed = np.packbits(np.append(bits, np.zeros(5, np.uint8)), bitorder="little")
    swapped = packed.reshape(-1, 2)[:, ::-1].tobytes()
    data = big_endian(swapped, bits=1, rows=3, columns=3, number_of_frames=3)
    path = written(tmp_path, dicom_file(data, None) if with_meta else data)
    with mmindex.open_file(path, force=not with_meta) as instance:
        for index in range(3):
            assert instance.array(index).ravel().tolist() == bits[:9].tolist()
            assert instance.frame(index) == np.packbits(bits[:9], bitorder="little").tobytes()


@pytest.mark.parametrize("syntax", [PRIVATE_SYNTAX, "1.2.840.113619.5.2"])
def test_R2_native_frames_of_a_private_transfer_syntax_are_bytes_only(
    tmp_path: Path, syntax: str
) -> None:
    """How its samples lie is not known: frames are served as stored, and no pixels."""
    stored = struct.pack(">4H", 1, 2, 3, 4)
    with mmindex.open_file(written(tmp_path, dicom_file(implicit(stored), syntax))) as instance:
        assert instance.frame(0) == stored
        for read in (instance.array, lambda index: instance.arrays([index])):
            with pytest.raises(DecodeError, match="private transfer syntax"):
                read(0)
