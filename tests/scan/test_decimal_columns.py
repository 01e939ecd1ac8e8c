"""Decimal Strings of many frames are the numbers that `float` returns, bit by bit."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from dicom_bytes import dicom_file, element, image_attributes, item, sequence

import mmindex
from mmindex.scan.decimal_columns import parse_columns
from mmindex.scan.item_starts import find_items
from mmindex.scan.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN


def parse(texts: list[bytes], width: int = 1) -> np.ndarray | None:
    data = b"xx" + b"".join(texts) + b"yy"
    lengths = np.array([len(text) for text in texts])
    offsets = 2 + np.concatenate(([0], lengths.cumsum()[:-1]))
    return parse_columns(np.frombuffer(data, "u1"), offsets, lengths, width)


def bits_of(numbers: list[float]) -> bytes:
    return struct.pack(f"{len(numbers)}d", *numbers)


def make_number(generator: random.Random) -> str:
    sign = generator.choice(["", "", "-", "+"])
    whole = "".join(generator.choices("0123456789", k=generator.randint(0, 9)))
    fraction = "".join(generator.choices("0123456789", k=generator.randint(0, 6)))
    point = "." if fraction or generator.random() < 0.2 else ""
    return sign + ((whole + point + fraction) if whole or fraction else "0")


@pytest.mark.parametrize("width", [1, 2, 3, 6])
@pytest.mark.parametrize("seed", range(6))
def test_numbers_are_those_of_float(width, seed):
    """Of every sign, length, and place of the point; texts may have one character of padding."""
    generator = random.Random(seed)
    rows = [[make_number(generator) for _ in range(width)] for _ in range(300)]
    texts = ["\\".join(row) + generator.choice(["", " ", "\0"]) for row in rows]
    found = parse([text.encode() for text in texts], width)
    assert found is not None
    assert found.shape == (300, width)
    expected = [float(each) for row in rows for each in row]
    assert bits_of(found.reshape(-1).tolist()) == bits_of(expected)


def test_numbers_that_are_alike_are_read_once():
    """Zero keeps its sign."""
    found = parse([b"-0.0\\12.5"] * 40, 2)
    assert bits_of(found.reshape(-1).tolist()) == bits_of([-0.0, 12.5] * 40)


@pytest.mark.parametrize(
    "text",
    [
        *(" ", "-", ".", "+.", "1.2.3", "--1", "1-", "1 2", "1e5", "1E-3", "nan", "inf", "1_0"),
        *("1\\2", "0x10", "1,5", "1234567890123456", "12345678901234567.5", " 1", "1  "),
    ],
)
def test_what_is_no_plain_number_is_left_to_float(text):
    """One among many."""
    texts = [b"1.5"] * 20 + [text.encode()] + [b"2.5"] * 20
    assert parse(texts) is None


@pytest.mark.parametrize("width", [1, 2, 4])
def test_texts_of_other_numbers_of_values_are_left_to_float(width):
    """Three values are neither one, two nor four."""
    assert parse([b"1\\2\\3"] * 20, width) is None


@pytest.mark.parametrize("text", ["1e2", " 1.5", "123456789012345678.25", "1.5"])
def test_a_column_of_all_kinds_is_that_of_float(text):
    """Through the frame table."""
    values = [f"{number}.25" for number in range(40)]
    values[17] = text
    groups = [
        item(sequence(0x00289145, [item(element(0x00281053, "DS", value))])) for value in values
    ]
    data = image_attributes(rows=1, columns=1, number_of_frames=40) + sequence(0x52009230, groups)
    data = dicom_file(data + element(0x7FE00010, "OB", bytes(40)), EXPLICIT_VR_LITTLE_ENDIAN)
    with mmindex.open_file(data) as instance:
        found = instance.frame_table()["rescale_slope"]
    assert found.tolist() == [float(value) for value in values]


@pytest.mark.parametrize("seed", range(8))
def test_items_of_any_lengths_are_found(seed):
    """In runs of one length, short and long."""
    from mmindex.scan.encoding import Encoding
    from mmindex.scan.header import scan_header

    generator = random.Random(seed)
    lengths: list[int] = []
    while len(lengths) < 400:
        run = generator.choice([1, 1, 2, 15, 17, 100]) if seed % 2 else 1
        lengths += [2 * generator.randint(0, 5)] * run
    data = b"ab" + b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, n) + bytes(n) for n in lengths)
    encoding: Encoding = scan_header(dicom_file(image_attributes())).encoding
    starts, end = find_items(data, 2, len(data), encoding, 10**6)
    expected = 2 + np.concatenate(([0], np.cumsum([8 + n for n in lengths[:-1]])))
    assert starts.tolist() == expected.tolist()
    assert end == len(data)
