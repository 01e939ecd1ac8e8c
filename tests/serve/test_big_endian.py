"""Bulk data of Explicit VR Big Endian become Little Endian (PS3.18 8.7.3.2), or are refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    dicom_file,
    element,
    image_attributes,
    item,
    sequence,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.tag import BaseTag
from serve.asgi_client import ask

import mmindex
from mmindex.serve import application
from mmindex.serve.pixel_data import CHUNK

OCTETS = "application/octet-stream"
UIDS = ("1.2.7", "1.2.7.1", "1.2.7.2")
PLACE = "/dicom-web/studies/1.2.7/series/1.2.7.1/instances/1.2.7.2"
LITTLE = f"{OCTETS}; transfer-syntax={EXPLICIT_VR_LITTLE_ENDIAN}"
BIG = f"{OCTETS}; transfer-syntax={EXPLICIT_VR_BIG_ENDIAN}"
PIXELS = "/bulkdata/7FE00010"


def big_endian(more: bytes) -> bytes:
    """Return a file of Big Endian with its UIDs and the elements given."""
    study, series, uid = UIDS
    data = element(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.7", order=">")
    data += element(0x00080018, "UI", uid, order=">") + element(0x0020000D, "UI", study, order=">")
    data += element(0x0020000E, "UI", series, order=">")
    return dicom_file(data + more, EXPLICIT_VR_BIG_ENDIAN)


def serve(folder: Path, more: bytes) -> Any:
    (folder / "x.dcm").write_bytes(big_endian(more))
    mmindex.build(folder, workers=1)
    return application(folder, page=False)


def image(value: bytes, vr: str = "OW", tag: int = 0x7FE00010, **attributes: Any) -> bytes:
    return image_attributes(order=">", **attributes) + element(tag, vr, value, order=">")


WORDS = {
    "OW": (2, "H"),
    "US": (2, "H"),
    "SS": (2, "h"),
    "UL": (4, "I"),
    "SL": (4, "i"),
    "FL": (4, "f"),
    "OL": (4, "I"),
    "OF": (4, "f"),
    "FD": (8, "d"),
    "OD": (8, "d"),
    "OV": (8, "Q"),
    "SV": (8, "q"),
    "UV": (8, "Q"),
}


@pytest.mark.parametrize("vr", WORDS)
def test_values_of_a_header_are_sent_in_little_endian(tmp_path, vr):
    """The numbers that are written in Big Endian are read from the answer in Little Endian."""
    _, code = WORDS[vr]
    numbers = [number * 3 + 1 for number in range(700)]
    value = struct.pack(f">700{code}", *numbers)
    app = serve(
        tmp_path,
        element(0x00290010, "LO", "TEST", order=">") + element(0x00291001, vr, value, order=">"),
    )
    found = ask(app, PLACE + "/bulkdata/00291001", accept=OCTETS)
    assert found.status_code == 200
    assert list(struct.unpack(f"<700{code}", found.content)) == numbers
    part = ask(app, PLACE + "/bulkdata/00291001", accept=OCTETS, range="bytes=3-20")
    assert (part.status_code, part.content) == (206, found.content[3:21])


def test_attribute_tags_are_swapped_word_by_word(tmp_path):
    """Group and element are words of their own, as pydicom reads and writes them."""
    value = struct.pack(">4H", 0x0010, 0x0020, 0x7FE0, 0x0010)
    app = serve(tmp_path, element(0x00280009, "AT", value, order=">"))
    found = ask(app, PLACE + "/bulkdata/00280009", accept=OCTETS).content
    assert found == struct.pack("<4H", 0x0010, 0x0020, 0x7FE0, 0x0010)
    tags = [BaseTag(tag) for tag in (0x00100020, 0x7FE00010)]
    assert pydicom.dcmread(tmp_path / "x.dcm")[0x00280009].value == tags


@pytest.mark.parametrize(("vr", "value"), [("OB", b"\1\2\3\4"), ("UN", b"abcd"), ("LO", b"text")])
def test_bytes_and_text_have_no_order(tmp_path, vr, value):
    """Values without words are sent as they are."""
    more = element(0x00290010, "LO", "TEST", order=">") + element(0x00291001, vr, value, order=">")
    app = serve(tmp_path, more)
    assert ask(app, PLACE + "/bulkdata/00291001", accept=OCTETS).content == value


def test_a_value_in_a_sequence_is_swapped_too(tmp_path):
    """Items of a data set in Big Endian are Big Endian."""
    inner = element(0x00291001, "OW", b"\1\2\3\4", order=">")
    app = serve(tmp_path, sequence(0x00081140, [item(inner, order=">")], order=">"))
    found = ask(app, PLACE + "/bulkdata/00081140/1/00291001", accept=OCTETS)
    assert found.content == b"\2\1\4\3"


@pytest.mark.parametrize(
    "more",
    [
        element(0x00287FE0, "UN", b"\1\2\3\4", order=">")
        + element(0x00280106, "UN", b"\1\2", order=">"),
        element(0x00280106, "US", b"\1\2\3\4\5\6"[:5] + b"", order=">", length=5),
    ],
    ids=["a known tag as UN", "a broken word"],
)
def test_what_is_not_certain_is_refused(tmp_path, more):
    """Bytes that may be of words of a size that nothing says are not guessed: 406."""
    app = serve(tmp_path, more)
    found = ask(app, PLACE + "/bulkdata/00280106", accept=OCTETS)
    assert (found.status_code, "Big Endian" in found.text) == (406, True)


@pytest.mark.parametrize(
    ("vr", "tag", "bits", "frames", "code"),
    [
        ("OW", 0x7FE00010, 16, None, "4H"),
        ("OW", 0x7FE00010, 16, 3, "12H"),
        ("OW", 0x7FE00010, 8, None, "2H"),
        ("OW", 0x7FE00010, 8, 3, "6H"),
        ("OB", 0x7FE00010, 8, None, "4B"),
        ("OF", 0x7FE00008, 32, 2, "8f"),
        ("OD", 0x7FE00009, 64, 2, "8d"),
    ],
)
def test_pixel_data_are_sent_in_little_endian(tmp_path, vr, tag, bits, frames, code):
    """Words in the other order, whole, by any range, bare and in a part; pydicom's pixels."""
    words = range(1, int(code[:-1]) + 1)
    value, expected = struct.pack(">" + code, *words), struct.pack("<" + code, *words)
    app = serve(tmp_path, image(value, vr, tag, bits=bits, number_of_frames=frames))
    pixels = pydicom.dcmread(tmp_path / "x.dcm").pixel_array
    assert pixels.astype(pixels.dtype.newbyteorder("<")).tobytes() == expected
    path = f"{PLACE}/bulkdata/{tag:08X}"
    for accept in (OCTETS, LITTLE, "*/*", f"image/png, {OCTETS}; q=0.5", f"{LITTLE}, {BIG}"):
        found = ask(app, path, accept=accept)
        assert (found.status_code, found.content) == (200, expected), accept
        assert found.headers["content-type"] == OCTETS
    for start in range(len(value)):
        for end in range(start, len(value)):
            part = ask(app, path, accept=OCTETS, range=f"bytes={start}-{end}")
            assert part.content == expected[start : end + 1]
    parts = ask(app, path, accept=f'multipart/related; type="{OCTETS}"')
    assert f"Content-Type: {OCTETS}\r\n\r\n".encode() + expected in parts.content
    stored = ask(app, path, accept=BIG)
    assert (stored.content, stored.headers["content-type"]) == (value, BIG)
    little = ask(app, path, accept=OCTETS)
    assert stored.headers["etag"] != little.headers["etag"]
    known = ask(app, path, accept=OCTETS, if_none_match=little.headers["etag"])
    assert known.status_code == 304
    other = ask(app, path, accept=BIG, if_none_match=little.headers["etag"])
    assert other.content == value


@pytest.mark.parametrize(
    ("vr", "attributes", "value"),
    [
        ("OW", {"bits": 32}, bytes(range(16))),
        ("OB", {"bits": 16}, bytes(range(8))),
        ("UN", {"bits": 16}, bytes(range(8))),
        ("OW", {"rows": 3, "columns": 3}, bytes(range(10))),
    ],
    ids=["double words as OW", "words as OB", "words as UN", "a padded word"],
)
def test_pixel_data_of_uncertain_words_are_refused(tmp_path, vr, attributes, value):
    """Who asks for Little Endian gets 406; as stored they are sent."""
    app = serve(tmp_path, image(value, vr, **attributes))
    for accept in (OCTETS, "*/*", LITTLE):
        assert ask(app, PLACE + PIXELS, accept=accept).status_code == 406
    assert ask(app, PLACE + PIXELS, accept=f"{OCTETS}; transfer-syntax=*").status_code == 200


def test_other_media_types_and_syntaxes_are_refused(tmp_path):
    """Native samples are no picture, and no other transfer syntax."""
    app = serve(tmp_path, image(bytes(8), bits=16))
    for accept in ("image/jpeg", f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.4.50"):
        assert ask(app, PLACE + PIXELS, accept=accept).status_code == 406


SIDE = 700  # more than a chunk of what is read at a time


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, bytes]:
    """Serve a long image, and return its words in Little Endian."""
    folder = tmp_path_factory.mktemp("long")
    count = SIDE * SIDE
    words = [number * 7 % 65536 for number in range(count)]
    app = serve(folder, image(struct.pack(f">{count}H", *words), bits=16, rows=SIDE, columns=SIDE))
    assert 2 * count > 2 * CHUNK
    return app, struct.pack(f"<{count}H", *words)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=st.integers(0, 2 * SIDE * SIDE - 1), length=st.integers(1, 2 * SIDE * SIDE))
def test_ranges_of_a_long_value_are_swapped_piece_by_piece(long, start, length):
    """Wherever a range begins and ends, its bytes are those of the whole."""
    app, expected = long
    found = ask(app, PLACE + PIXELS, accept=OCTETS, range=f"bytes={start}-{start + length - 1}")
    assert (found.status_code, found.content) == (206, expected[start : start + length])
