"""Bytes that record each anomaly, by hand: every code of the table needs an example here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    PIXEL_DATA,
    RLE_LOSSLESS,
    SEQUENCE_DELIMITER,
    dicom_file,
    element,
    encapsulate,
    encapsulated_file,
    extended_offset_table,
    file_meta,
    image_attributes,
    item,
    native_file,
)

JPEGS = [b"\xff\xd8ab\xff\xd9", b"\xff\xd8cdef\xff\xd9", b"\xff\xd8ghijkl\xff\xd9"]
HALVES = [b"\xff\xd8ab", b"cd\xff\xd9", b"\xff\xd8ef", b"gh\xff\xd9"]  # of two frames
RLE = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x03abcd\0"
NATIVE = image_attributes() + element(PIXEL_DATA, "OB", b"abcd")


def starts(fragments: Sequence[bytes], *chosen: int) -> list[int]:
    """Return where the items of some fragments, or of all, are."""
    return [
        sum(8 + len(fragment) for fragment in fragments[:at])
        for at in chosen or range(len(fragments))
    ]


def with_table(offsets: Sequence[int], *, lengths: Sequence[int] | None = None) -> bytes:
    """Return three frames with an Extended Offset Table."""
    lengths = list(map(len, JPEGS)) if lengths is None else lengths
    tables = extended_offset_table(offsets, lengths[: len(offsets)])
    return encapsulated_file(JPEGS, 3, before=tables)


def with_bot(offsets: Sequence[int]) -> bytes:
    """Return three frames with a Basic Offset Table."""
    return encapsulated_file(JPEGS, 3, bot=offsets)


def damaged_item() -> bytes:
    """Return three frames with both tables, and an item whose length is wrong."""
    tables = extended_offset_table(starts(JPEGS), list(map(len, JPEGS)))
    data = bytearray(encapsulated_file(JPEGS, 3, before=tables, bot=starts(JPEGS)))
    struct.pack_into("<I", data, data.index(JPEGS[1]) - 4, len(JPEGS[1]) + 2)
    return bytes(data)


def big_endian_meta() -> bytes:
    """Return a file in Big Endian, its File Meta Information too."""
    meta = element(0x00020001, "OB", b"\0\1", order=">")
    meta += element(0x00020010, "UI", EXPLICIT_VR_BIG_ENDIAN, order=">")
    meta = element(0x00020000, "UL", struct.pack(">I", len(meta)), order=">") + meta
    value = element(PIXEL_DATA, "OB", b"abcd", order=">")
    return bytes(128) + b"DICM" + meta + image_attributes(order=">") + value


def in_one_item(value: bytes) -> bytes:
    """Return a native file whose value is a fragment."""
    return dicom_file(image_attributes() + encapsulate([value]), EXPLICIT_VR_LITTLE_ENDIAN)


FORCED = {"no-file-meta", "file-meta-byte-order"}  # read with `force` alone
OVER_4_GIB = {"length-wrapped", "bot-wrapped"}  # in sparse files, by tests of their own

EXAMPLES: dict[str, bytes] = {
    "no-file-meta": image_attributes() + element(PIXEL_DATA, "OB", b"abcd"),
    "file-meta-group-length": dicom_file(NATIVE, group_length=None),
    "file-meta-byte-order": big_endian_meta(),
    "file-meta-twice": dicom_file(file_meta(EXPLICIT_VR_LITTLE_ENDIAN) + NATIVE),
    "no-transfer-syntax": dicom_file(NATIVE, None),
    "deflate-wrapper": dicom_file(zlib.compress(NATIVE), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
    "vr-mismatch": dicom_file(NATIVE, IMPLICIT_VR_LITTLE_ENDIAN),
    "stray-item": dicom_file(element(0x00080050, "SH", "A1") + SEQUENCE_DELIMITER + NATIVE),
    "sequence-length": dicom_file(
        element(0x00081140, "SQ", item(element(0x00080050, "SH", "A1")), length=16) + NATIVE
    ),
    "zeros-after-data-set": dicom_file(element(0x00080060, "CS", "SR") + bytes((1 << 16) + 2)),
    "pixel-data-missing": dicom_file(image_attributes()),
    "number-of-frames": native_file(b"abcd", number_of_frames="0"),
    "samples-per-pixel": native_file(b"abcd", samples=None),
    "photometric-length": native_file(bytes(12), samples=3, photometric="YBR_FULL_422"),
    "frame-padding": native_file(b"abc\0" * 2, rows=1, columns=3, number_of_frames=2),
    "bits-in-words": native_file(struct.pack("<4H", 1, 2, 3, 4), bits=12),
    "pixel-data-short": native_file(b"abcdef", number_of_frames=2),
    "pixel-data-excess": native_file(b"one.two.more", number_of_frames=2),
    "native-in-fragment": in_one_item(b"abcd"),
    "native-under-encapsulated": native_file(b"abcd", JPEG_BASELINE, vr="OB"),
    "encapsulated-under-native": in_one_item(JPEGS[0]),
    "defined-length-encapsulated": dicom_file(
        image_attributes() + encapsulate(JPEGS[:1], defined=True), JPEG_BASELINE
    ),
    "bare-codestream": native_file(JPEGS[1] + bytes(8), JPEG_BASELINE, vr="OB"),
    "no-basic-offset-table": dicom_file(
        image_attributes()
        + element(PIXEL_DATA, "OB", item(JPEGS[0]) + SEQUENCE_DELIMITER, length=0xFFFFFFFF),
        JPEG_BASELINE,
    ),
    "eot-length": with_table(starts(JPEGS), lengths=[len(JPEGS[0]), 3, len(JPEGS[2])]),
    "eot-with-bot": encapsulated_file(
        JPEGS,
        3,
        before=extended_offset_table(starts(JPEGS), list(map(len, JPEGS))),
        bot=starts(JPEGS),
    ),
    "start-markers": encapsulated_file([*HALVES[:2], b"no", b"mark"], 2, bot=starts(HALVES, 0, 2)),
    "item-length": damaged_item(),
    "fragmented-rle": encapsulated_file([RLE[:64], RLE[64:]], 1, RLE_LOSSLESS),
    "odd-fragment-length": encapsulated_file([JPEGS[0] + b"\0"], 1),
    "empty-fragment": encapsulated_file([JPEGS[0], b""], 1),
    "missing-sequence-delimiter": encapsulated_file(JPEGS, 3, delimiter=b""),
    "junk-after-fragments": encapsulated_file(JPEGS, 3, delimiter=b"junk at the end"),
    "truncated-fragment": encapsulated_file(JPEGS, 3, delimiter=b"")[:-4],
    "bot-count": with_bot(starts(JPEGS)[:2]),
    "bot-order": with_bot([0, 0, 0]),
    "bot-off-item": with_bot([0, 6, 20]),
    "bot-off-frame": encapsulated_file(HALVES, 2, bot=starts(HALVES, 0, 1)),
    "bot-fragments": encapsulated_file(
        [RLE[:64], RLE[64:], RLE[:64], RLE[64:]], 2, RLE_LOSSLESS, bot=[0, 72]
    ),
    "eot-count": with_table(starts(JPEGS)[:2]),
    "eot-order": with_table([0, 30, 14]),
    "eot-off-item": with_table([0, 6, 20]),
    # Cut after frame 1, where the Basic Offset Table and the start markers have its two fragments.
    "eot-off-frame": encapsulated_file(
        HALVES[:2],
        2,
        before=extended_offset_table(starts(HALVES, 0, 1), [4, 4]),
        bot=starts(HALVES, 0, 2),
        delimiter=b"",
    ),
    "eot-fragments": encapsulated_file(
        HALVES, 2, before=extended_offset_table(starts(HALVES, 0, 2), [8, 8])
    ),
}
