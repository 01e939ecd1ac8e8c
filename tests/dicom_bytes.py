"""Writes DICOM files byte by byte (PS3.5 section 7, PS3.10 section 7) for the tests.

Only struct and zlib, neither pydicom nor mmindex, so that a fixture shows its bytes and can be
wrong in any way a test needs. Nothing here checks anything.

`order` is struct's "<" or ">"; a tag is one number, 0x7FE00010.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
JPIP_REFERENCED = "1.2.840.10008.1.2.4.94"
HEVC = "1.2.840.10008.1.2.4.107"
JPEG_XL = "1.2.840.10008.1.2.4.112"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"
PRIVATE_SYNTAX = "1.2.3.4.5"

UNDEFINED = 0xFFFFFFFF
LONG_VRS = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
SHORT_VRS = {
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT"),
    *("PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
}

ICON_IMAGE_SEQUENCE = 0x00880200
PRIVATE_SEQUENCE = 0x00991010
PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA = 0x7FE00009
EXTENDED_OFFSET_TABLE = 0x7FE00001
EXTENDED_OFFSET_TABLE_LENGTHS = 0x7FE00002

JP2_BOX = b"\0\0\0\x0cjP  \r\n\x87\n"  # what frames of JPEG 2000 and JPEG XL in boxes begin with
JXL_BOX = b"\0\0\0\x0cJXL \r\n\x87\n"

SEQUENCE_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
ITEM_DELIMITER = b"\xfe\xff\x0d\xe0\0\0\0\0"


def pack_tag(tag: int, order: str = "<") -> bytes:
    """Return the four bytes of `tag`: group, then element."""
    return struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)


def element(
    tag: int,
    vr: str,
    value: bytes | str | int = b"",
    *,
    order: str = "<",
    implicit: bool = False,
    length: int | None = None,
) -> bytes:
    """Return a data element; `length` is written in place of the value's own.

    An int is written as two bytes, a str in ASCII with its padding. A VR that is in
    neither list is written in the 12-byte form.
    """
    if isinstance(value, int):
        value = struct.pack(f"{order}H", value)
    elif isinstance(value, str):
        padding = "\0" if vr == "UI" else " "
        value = (value + padding * (len(value) % 2)).encode("ascii")
    if length is None:
        length = len(value)
    if implicit:
        header = struct.pack(f"{order}I", length)
    elif vr in SHORT_VRS:
        header = vr.encode() + struct.pack(f"{order}H", length)
    else:
        header = vr.encode() + b"\0\0" + struct.pack(f"{order}I", length)
    return pack_tag(tag, order) + header + value


def item(value: bytes = b"", *, order: str = "<", undefined: bool = False) -> bytes:
    """Return an item of defined length, or of undefined length with its delimiter."""
    if not undefined:
        return pack_tag(0xFFFEE000, order) + struct.pack(f"{order}I", len(value)) + value
    end = pack_tag(0xFFFEE00D, order) + b"\0\0\0\0"
    return pack_tag(0xFFFEE000, order) + b"\xff\xff\xff\xff" + value + end


def sequence(
    tag: int,
    items: Sequence[bytes],
    *,
    order: str = "<",
    implicit: bool = False,
    undefined: bool = False,
    vr: str = "SQ",
) -> bytes:
    """Return a sequence of `items` that item() wrote."""
    value = b"".join(items)
    if not undefined:
        return element(tag, vr, value, order=order, implicit=implicit)
    value += pack_tag(0xFFFEE0DD, order) + b"\0\0\0\0"
    return element(tag, vr, value, order=order, implicit=implicit, length=UNDEFINED)


def file_meta(
    transfer_syntax_uid: str | None,
    *,
    group_length: int | str | None = "right",
    sop: tuple[str, str] | None = None,
) -> bytes:
    """Return File Meta Information: a group length that is right, as given, or absent (None).

    `sop` are SOP Class UID and SOP Instance UID, which are left out without it.
    """
    elements = element(0x00020001, "OB", b"\0\1")
    if sop is not None:
        elements += element(0x00020002, "UI", sop[0]) + element(0x00020003, "UI", sop[1])
    if transfer_syntax_uid is not None:
        elements += element(0x00020010, "UI", transfer_syntax_uid)
    if group_length is None:
        return elements
    length = len(elements) if group_length == "right" else group_length
    return element(0x00020000, "UL", struct.pack("<I", length)) + elements


def dicom_file(
    data_set: bytes,
    transfer_syntax_uid: str | None = EXPLICIT_VR_LITTLE_ENDIAN,
    *,
    group_length: int | str | None = "right",
) -> bytes:
    """Return preamble, prefix, File Meta Information and `data_set`."""
    return (
        bytes(128) + b"DICM" + file_meta(transfer_syntax_uid, group_length=group_length) + data_set
    )


def deflate(data: bytes) -> bytes:
    """Return a raw deflate stream (RFC 1951)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def deflated_file(data_set: bytes, *, after: bytes = b"") -> bytes:
    """Return a file whose data set is deflated (PS3.5 A.5), with bytes `after` the stream."""
    return dicom_file(deflate(data_set) + after, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


def image_attributes(
    *,
    rows: int | bytes | None = 2,
    columns: int | bytes | None = 2,
    samples: int | bytes | None = 1,
    bits: int | bytes | None = 8,
    number_of_frames: int | str | None = None,
    photometric: str = "MONOCHROME2",
    order: str = "<",
    implicit: bool = False,
) -> bytes:
    """Return the Image Pixel Module in tag order; an attribute that is None is left out."""
    frames = None if number_of_frames is None else str(number_of_frames)
    stored = bits if isinstance(bits, int) else None
    attributes = (
        (0x00280002, "US", samples),
        (0x00280004, "CS", photometric),
        (0x00280006, "US", 0 if samples == 3 else None),
        (0x00280008, "IS", frames),
        (0x00280010, "US", rows),
        (0x00280011, "US", columns),
        (0x00280100, "US", bits),
        (0x00280101, "US", stored),
        (0x00280102, "US", stored - 1 if stored else None),
        (0x00280103, "US", 0),
    )
    return b"".join(
        element(tag, vr, value, order=order, implicit=implicit)
        for tag, vr, value in attributes
        if value is not None
    )


def native_file(
    value: bytes,
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN,
    *,
    tag: int = PIXEL_DATA,
    vr: str = "OW",
    length: int | None = None,
    **attributes: int | bytes | str | None,
) -> bytes:
    """Return a file whose last bytes are `value`, the native pixel data."""
    order = ">" if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    data_set = image_attributes(order=order, implicit=implicit, **attributes)
    data_set += element(tag, vr, value, order=order, implicit=implicit, length=length)
    return dicom_file(data_set, transfer_syntax_uid)


def encapsulate(
    fragments: Sequence[bytes],
    *,
    bot: Sequence[int] | bytes = (),
    delimiter: bytes = SEQUENCE_DELIMITER,
    defined: bool = False,
    implicit: bool = False,
) -> bytes:
    """Return a Pixel Data element of a Basic Offset Table and `fragments` (PS3.5 A.4).

    The header is 12 bytes (implicit: 8), the table's item 8 and 4 an entry.
    """
    table = bot if isinstance(bot, bytes) else struct.pack(f"<{len(bot)}I", *bot)
    value = item(table) + b"".join(item(fragment) for fragment in fragments) + delimiter
    length = len(value) if defined else UNDEFINED
    return element(PIXEL_DATA, "OB", value, implicit=implicit, length=length)


def encapsulate_frames(frames: Sequence[bytes]) -> bytes:
    """Return Pixel Data of one fragment a frame, with its Basic Offset Table."""
    starts = accumulate((len(each) + 8 for each in frames[:-1]), initial=0)
    return encapsulate(frames, bot=list(starts))


def extended_offset_table(
    offsets: Sequence[int], lengths: Sequence[int] | None, *, implicit: bool = False
) -> bytes:
    """Return (7FE0,0001) and, unless `lengths` is None, (7FE0,0002)."""
    tables = [(EXTENDED_OFFSET_TABLE, offsets), (EXTENDED_OFFSET_TABLE_LENGTHS, lengths)]
    return b"".join(
        element(tag, "OV", struct.pack(f"<{len(entries)}Q", *entries), implicit=implicit)
        for tag, entries in tables
        if entries is not None
    )


def encapsulated_file(
    fragments: Sequence[bytes],
    number_of_frames: int | str | None = 1,
    transfer_syntax_uid: str = JPEG_BASELINE,
    *,
    bot: Sequence[int] | bytes = (),
    delimiter: bytes = SEQUENCE_DELIMITER,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Return a file of `fragments`, with elements or junk `before` and `after` Pixel Data."""
    data_set = image_attributes(number_of_frames=number_of_frames) + before
    data_set += encapsulate(fragments, bot=bot, delimiter=delimiter) + after
    return dicom_file(data_set, transfer_syntax_uid)


def written(folder: Path, data: bytes, name: str = "a.dcm") -> Path:
    """Write a file, and return where it is."""
    path = folder / name
    path.write_bytes(data)
    return path


def identified(data_set: bytes, uid: str = "1.2.3") -> bytes:
    """Return a file of this data set with a SOP Instance UID before it."""
    return dicom_file(element(0x00080018, "UI", uid) + data_set)


def four_bytes(value: bytes, uid: str = "1.2.3") -> bytes:
    """Return a file of one native frame of 2 by 2 pixels."""
    return identified(image_attributes() + element(PIXEL_DATA, "OB", value), uid)


def small_image(
    uid: str,
    pixels: bytes = b"abcd",
    *,
    study: str | None = None,
    sop_class: str | None = None,
    **attributes: int | bytes | str | None,
) -> bytes:
    """Return a file with frames of four bytes, 2 by 2 pixels, which say how many there are."""
    data_set = b"" if sop_class is None else element(0x00080016, "UI", sop_class)
    data_set += element(0x00080018, "UI", uid)
    if study is not None:
        data_set += element(0x0020000D, "UI", study)
    data_set += image_attributes(**{"number_of_frames": len(pixels) // 4, **attributes})
    return dicom_file(data_set + element(PIXEL_DATA, "OW", pixels))


def write_numbered(root: Path, number: int, uid: int | None = None) -> None:
    """Write a file of one study, of a series of its own, with the number as its pixels."""
    data_set = element(0x00080018, "UI", f"1.2.3.{number if uid is None else uid}")
    data_set += element(0x0020000D, "UI", "1.2.4") + element(0x0020000E, "UI", f"1.2.5.{number}")
    data_set += image_attributes(rows=1, columns=4) + element(PIXEL_DATA, "OB", b"%04d" % number)
    (root / f"{number:03}.dcm").write_bytes(dicom_file(data_set))
