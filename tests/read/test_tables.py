"""Lookup tables where pydicom's functions wrap or raise; what is expected is counted by hand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes
from pydicom import Dataset

import mmindex
from mmindex.errors import DecodeError
from mmindex.read.tables import read_table

VOI, MODALITY = 0x00283010, 0x00283000
RED = 0x00281101
ITEM, ITEMS_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def pack_table(length: int, first: int, bits: int, data: bytes, vr: str = "OW") -> bytes:
    """Return the elements of a table: its descriptor and data."""
    sign = "SS" if first < 0 else "US"
    descriptor = np.array([length % 65536, first, bits]).astype("<u2").tobytes()
    return element(0x00283002, sign, descriptor) + element(0x00283006, vr, data)


def in_sequence(tag: int, item: bytes) -> bytes:
    """Return a sequence of one item."""
    return element(tag, "SQ", ITEM + len(item).to_bytes(4, "little") + item)


def open_image(pixels: np.ndarray, tables: bytes, **attributes: Any) -> mmindex.Instance:
    """Return an instance of one native image with such tables."""
    described = image_attributes(
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        bits=8 * pixels.itemsize,
        **attributes,
    )
    if pixels.dtype.kind == "i":
        unsigned, signed = (element(0x00280103, "US", number) for number in (0, 1))
        described = described.replace(unsigned, signed)
    data = dicom_file(described + tables + element(PIXEL_DATA, "OW", pixels.tobytes()))
    return mmindex.open_file(io.BytesIO(data))


@pytest.mark.parametrize("form", ["two a word", "one a word", "numbers"])
def test_a_voi_lut_of_8_bits_maps_values_of_16(form: str) -> None:
    """A table of 4,096 entries: pydicom counts values in the 8 bits of an entry (C.11.2.1.1)."""
    entries = (np.arange(4096) // 16).astype("u1")
    data = entries.tobytes() if form == "two a word" else entries.astype("<u2").tobytes()
    table = pack_table(4096, 100, 8, data, "US" if form == "numbers" else "OW")
    pixels = np.array([[0, 99, 100, 355], [356, 4195, 4196, 65535]], "<u2")
    with open_image(pixels, in_sequence(VOI, table)) as instance:
        assert instance.picture(0).tolist() == [[0, 0, 0, 15], [16, 255, 255, 255]]


def test_a_modality_lut_maps_signed_values_far_above_its_first() -> None:
    """pydicom wraps 32,000 - (-2,000) in the 16 bits of a pixel (C.11.1.1)."""
    table = pack_table(3, -2000, 16, np.array([7, 8, 9], "<u2").tobytes())
    pixels = np.array([[-32768, -2001, -2000], [-1999, -1998, 32000]], "<i2")
    with open_image(pixels, in_sequence(MODALITY, table)) as instance:
        assert instance.array(0, rescale=True).tolist() == [[7, 7, 7], [8, 9, 9]]


def test_a_modality_lut_of_12_bits_is_applied() -> None:
    """numpy has no integers of 12 bits."""
    table = pack_table(2, 0, 12, np.array([1, 4095], "<u2").tobytes())
    with open_image(np.array([[0, 1, 2]], "<u2"), in_sequence(MODALITY, table)) as instance:
        assert instance.array(0, rescale=True).tolist() == [[1, 4095, 4095]]


def test_a_table_of_65536_entries_has_0_in_its_descriptor() -> None:
    """The first number has 16 bits (C.11.1.1.1)."""
    table = pack_table(65536, 0, 16, np.arange(65536, dtype="<u2")[::-1].tobytes())
    with open_image(np.array([[0, 65535]], "<u2"), in_sequence(VOI, table)) as instance:
        assert instance.picture(0).tolist() == [[255, 0]]


def test_a_table_of_one_entry_maps_all_values_to_it() -> None:
    """pydicom reads its data as one number."""
    table = pack_table(1, 5, 8, b"\x11\0", "US")
    with open_image(np.array([[0, 5, 9]], "<u2"), in_sequence(VOI, table)) as instance:
        assert instance.picture(0).tolist() == [[0x11] * 3]


@pytest.mark.parametrize("bits", [0, 7, 17])
def test_entries_of_other_widths_are_an_error(bits: int) -> None:
    """The standard has 8 to 16 bits."""
    table = pack_table(2, 0, bits, bytes(4))
    with (
        open_image(np.array([[0, 1]], "<u2"), in_sequence(VOI, table)) as instance,
        pytest.raises(DecodeError, match="expected a table of 8 to 16 bits"),
    ):
        instance.picture(0)


@pytest.mark.parametrize("tag", [VOI, MODALITY])
def test_a_table_that_is_too_short_is_an_error(tag: int) -> None:
    """Fewer bytes than entries."""
    table = pack_table(9, 0, 8, bytes(8))
    with (
        open_image(np.array([[0, 1]], "<u2"), in_sequence(tag, table)) as instance,
        pytest.raises(DecodeError, match="expected 9 entries of a table"),
    ):
        instance.picture(0)


def palette(descriptor: list[int], *tables: bytes) -> bytes:
    """Return the palette of three colours."""
    packed = np.array(descriptor, "<u2").tobytes()
    return b"".join(element(RED + at, "US", packed) for at in range(3)) + b"".join(
        element(RED + 0x100 + at, "OW", table) for at, table in enumerate(tables)
    )


@pytest.mark.parametrize(
    ("descriptor", "data", "expected"),
    [
        ([3, 1, 8], b"\x0a\x14\x1e\0", [10, 10, 20, 30, 30]),  # an odd number of bytes, and its pad
        ([3, 1, 8], b"\x0a\0\x14\0\x1e\0", [10, 10, 20, 30, 30]),  # a word each
        ([3, 1, 8], b"\0\x0a\0\x14\0\x1e", [10, 10, 20, 30, 30]),  # 16 bits, whatever is said
        ([3, 1, 16], b"\0\x0a\0\x14\0\x1e", [10, 10, 20, 30, 30]),
        ([4, 1, 16], b"\x0a\x14\x1e\x28", [10, 10, 20, 30, 40]),  # 8 bits, whatever is said
    ],
)
def test_palettes_are_read_by_their_length(
    descriptor: list[int], data: bytes, expected: list[int]
) -> None:
    """Files differ in how they store entries of 8 bits (PS3.3 C.7.6.3.1.5)."""
    pixels = np.array([[0, 1, 2, 3, 4]], "<u2")
    tables = palette(descriptor, data, data, data)
    with open_image(pixels, tables, photometric="PALETTE COLOR") as instance:
        assert instance.picture(0)[..., 1].tolist() == [expected]


def test_a_palette_of_8_bits_has_more_entries_than_8_bits_count() -> None:
    """Indices of 12 bits; those above the table get its last colour."""
    data = (np.arange(4096) // 16).astype("u1").tobytes()
    pixels = np.array([[0, 255, 256, 4095, 4096, 65535]], "<u2")
    tables = palette([4096, 0, 8], data, data, bytes(4096))
    with open_image(pixels, tables, photometric="PALETTE COLOR") as instance:
        shown = instance.picture(0)
    assert shown[..., 0].tolist() == [[0, 15, 16, 255, 255, 255]]
    assert not shown[..., 2].any()


def test_words_of_a_big_endian_file_are_swapped() -> None:
    """Also where each holds two entries: the first one is in the low byte (PS3.5 7.3)."""
    item = Dataset()
    item.set_original_encoding(False, False)
    item.add_new(0x00283002, "US", [4, 0, 8])
    item.add_new(0x00283006, "OW", b"\2\1\4\3")
    assert read_table(item).entries.tolist() == [1, 2, 3, 4]
    item.add_new(0x00283002, "US", [2, 0, 16])
    assert read_table(item).entries.tolist() == [0x0201, 0x0403]
