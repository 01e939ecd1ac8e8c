"""Beginnings of files: preambles, File Meta Information, deflated data sets."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    file_meta,
    image_attributes,
)
from outcomes import open_proved

import mmindex
from mmindex.errors import FormatError, NotDicomError

PIXELS = b"abcd"


def data_set(*, order: str = "<", implicit: bool = False) -> bytes:
    """Return an image of one frame."""
    attributes = image_attributes(order=order, implicit=implicit)
    return attributes + element(PIXEL_DATA, "OB", PIXELS, order=order, implicit=implicit)


EXPLICIT, IMPLICIT, BIG = data_set(), data_set(implicit=True), data_set(order=">")


def read(data: bytes, *, force: bool = False) -> tuple[list[bytes], list[str]]:
    """Return the frames and the codes of the anomalies."""
    with open_proved(io.BytesIO(data), force=force) as instance:
        return list(instance), [anomaly.code for anomaly in instance.record.anomalies]


@pytest.mark.parametrize("body", [EXPLICIT, IMPLICIT, BIG], ids=["explicit", "implicit", "big"])
@pytest.mark.parametrize("meta", [False, True])
def test_R47_a_file_that_begins_with_its_prefix_needs_force(body, meta):
    """DICM at byte 0, without a preamble."""
    uid = EXPLICIT_VR_BIG_ENDIAN if body is BIG else EXPLICIT_VR_LITTLE_ENDIAN
    data = b"DICM" + (file_meta(uid) if meta else b"") + body
    with pytest.raises(NotDicomError, match="force"):
        mmindex.scan(data)
    frames, codes = read(data, force=True)
    assert frames == [PIXELS]
    assert "no-file-meta" in codes


@pytest.mark.parametrize("implicit", [False, True])
def test_R47_a_prefix_within_a_value_begins_nothing(implicit):
    """DICM at byte 128 is text of an element, and the data set begins at byte 0."""
    first = element(0x00080008, "CS", "X" * (128 - 16), implicit=implicit)
    data = first + element(0x00081010, "SH", "DICMA1", implicit=implicit)
    data += IMPLICIT if implicit else EXPLICIT
    assert data[128:132] == b"DICM"
    frames, codes = read(data, force=True)
    assert (frames, "no-file-meta" in codes) == ([PIXELS], True)


def test_R47_a_preamble_without_prefix_needs_force():
    """File Meta Information at byte 132, behind something else than DICM."""
    data = bytes(132) + file_meta(EXPLICIT_VR_LITTLE_ENDIAN) + EXPLICIT
    with pytest.raises(NotDicomError, match="force"):
        mmindex.scan(data)
    assert read(data, force=True) == ([PIXELS], ["no-file-meta"])


def big_endian_meta(uid: str) -> bytes:
    elements = element(0x00020001, "OB", b"\0\1", order=">")
    elements += element(0x00020010, "UI", uid, order=">")
    return element(0x00020000, "UL", struct.pack(">I", len(elements)), order=">") + elements


def test_R47_file_meta_in_big_endian_needs_force():
    """The standard has it in Explicit VR Little Endian, always."""
    data = bytes(128) + b"DICM" + big_endian_meta(EXPLICIT_VR_BIG_ENDIAN) + BIG
    with pytest.raises(NotDicomError, match="force"):
        mmindex.scan(data)
    assert read(data, force=True) == ([PIXELS], ["file-meta-byte-order"])


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("window", [9, 12, 15])
def test_R47_a_deflated_data_set_may_have_a_zlib_header(level, window):
    """The two bytes of RFC 1950 before the stream, and a checksum behind it."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, window)
    stream = compressor.compress(EXPLICIT) + compressor.flush()
    data = dicom_file(stream, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    assert read(data) == ([PIXELS], ["deflate-wrapper"])
    assert mmindex.scan(data).status is mmindex.Status.DEFLATED


@pytest.mark.parametrize("level", [0, 9])
def test_R47_a_raw_deflate_stream_is_no_anomaly(level):
    """As the standard wants it."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    stream = compressor.compress(EXPLICIT) + compressor.flush()
    assert read(dicom_file(stream, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)) == ([PIXELS], [])


def test_R47_a_stored_block_that_begins_like_a_zlib_header_is_raw():
    """78 DA is a zlib header, and a stored block of 0xDA and more bytes with its length twice."""
    body = EXPLICIT[: -len(element(PIXEL_DATA, "OB", PIXELS))]
    pad = element(0x00291010, "OB", bytes(0x01DA - len(EXPLICIT) - 12))
    body += pad + element(PIXEL_DATA, "OB", PIXELS)
    assert len(body) == 0x01DA
    stream = (
        b"\x78" + struct.pack("<HH", len(body), len(body) ^ 0xFFFF) + body + b"\x01\0\0\xff\xff"
    )
    assert read(dicom_file(stream, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)) == ([PIXELS], [])


def test_R47_a_data_set_that_is_not_deflated_is_read_where_it_is():
    """Its frames have byte ranges in the file."""
    data = dicom_file(EXPLICIT, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    assert read(data) == ([PIXELS], ["deflate-wrapper"])
    record = mmindex.scan(data)
    assert record.status is mmindex.Status.INDEXED
    assert data[record.frames.value_offset :] == PIXELS


@pytest.mark.parametrize(
    "stream", [b"\x1f\x8b\x08\0" + bytes(40), b"\xff" * 40, b""], ids=["gzip", "ff", "empty"]
)
def test_R47_an_error_says_what_stands_in_place_of_a_deflate_stream(stream):
    """The first bytes are in the error, to tell what they are."""
    with pytest.raises(FormatError, match=r"found bytes|too early"):
        mmindex.scan(dicom_file(stream, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))


@pytest.mark.parametrize("with_preamble", [False, True])
@pytest.mark.parametrize("times", [1, 2])
def test_R56_the_first_of_two_file_metas_counts(with_preamble, times):
    """A file with a file inside: the outer transfer syntax is used, the rest skipped."""
    second = (bytes(128) + b"DICM") * with_preamble + file_meta(IMPLICIT_VR_LITTLE_ENDIAN)
    data = dicom_file(second * times + EXPLICIT, EXPLICIT_VR_LITTLE_ENDIAN)
    assert read(data) == ([PIXELS], ["file-meta-twice"])
    record = mmindex.scan(data)
    assert record.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    assert record.anomalies[0].count == times


def test_R56_a_second_file_meta_has_the_syntax_that_the_first_lacks():
    """The first value of an element counts, in whichever group it is."""
    data = dicom_file(file_meta(EXPLICIT_VR_BIG_ENDIAN) + BIG, None)
    assert read(data) == ([PIXELS], ["file-meta-twice"])


def test_R56_the_error_names_the_second_syntax_where_the_first_does_not_fit():
    """A Big Endian data set behind a first File Meta Information that says Little Endian."""
    data = dicom_file(file_meta(EXPLICIT_VR_BIG_ENDIAN) + BIG, EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(FormatError, match=r"stands twice.*Explicit VR Big Endian"):
        mmindex.scan(data)


@pytest.mark.parametrize("cut", range(1, 40))
def test_R56_a_file_that_is_cut_in_its_second_file_meta_ends(cut):
    """No loop, no frames."""
    second = file_meta(IMPLICIT_VR_LITTLE_ENDIAN)[:cut]
    data = dicom_file(second, EXPLICIT_VR_LITTLE_ENDIAN)
    with contextlib.suppress(FormatError):
        assert mmindex.scan(data).frames is None
