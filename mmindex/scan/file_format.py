"""What stands before the data set of a DICOM file, and how the data set is encoded.

Preamble and File Meta Information are those of PS3.10 section 7.1; deflated data sets of
PS3.5 A.5.
"""

from __future__ import annotations

import struct
import zlib

from mmindex.errors import FormatError, NotDicomError
from mmindex.model import Anomaly, Buffer
from mmindex.scan import tags
from mmindex.scan.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    DataSet,
    Element,
    Encoding,
    check_vr,
    read_value,
)

PREAMBLE_LENGTH = 128
MAX_INFLATION = 1000  # times the file
MAX_INFLATED_LENGTH = 1 << 31  # bytes
_LONGEST_UID = 256  # bytes; PS3.5 9.1 allows 64
_LAST_FIRST_GROUP = 0x0030  # data sets begin with identification, at the latest with an image


def inflate_data_set(buffer: Buffer) -> bytes:
    """Return the data set of a deflated file, inflated.

    Raises
    ------
    FormatError
        As `scan`.
    """
    _, start = scan_file_meta(buffer, find_start(buffer, True, []), True, [])
    return inflate(buffer, start)


def find_start(buffer: Buffer, force: bool, anomalies: list[Anomaly]) -> int:
    """Return where the File Meta Information begins, or without it the data set."""
    if bytes(buffer[PREAMBLE_LENGTH : PREAMBLE_LENGTH + 4]) == b"DICM":
        return PREAMBLE_LENGTH + 4
    if not force:
        found = bytes(buffer[PREAMBLE_LENGTH : PREAMBLE_LENGTH + 4])
        raise NotDicomError(
            f"no DICOM file: expected 'DICM' after a preamble of 128 bytes, found {found!r}; "
            "force=True (--force) reads files that have neither",
            offset=PREAMBLE_LENGTH,
        )
    anomalies.append(Anomaly("no-file-meta", 0))
    return 0


def scan_file_meta(
    buffer: Buffer, start: int, force: bool, anomalies: list[Anomaly]
) -> tuple[str, int]:
    """Return the Transfer Syntax UID, empty where it is absent, and where the data set begins.

    The group ends where its elements do: a group length that says otherwise is an anomaly.
    """
    if bytes(buffer[start : start + 2]) != b"\x02\x00":
        if not force:
            raise NotDicomError(
                "no DICOM file: expected File Meta Information (0002,xxxx), found none; "
                "force=True (--force) reads files that have none",
                offset=start,
            )
        if start:
            anomalies.append(Anomaly("no-file-meta", start))
        return "", start
    encoding = detect_vr(buffer, start, EXPLICIT_LITTLE)
    if encoding is not EXPLICIT_LITTLE:
        anomalies.append(Anomaly("vr-mismatch", start))
    meta, end = _walk_file_meta(buffer, start, encoding)
    length = read_value(buffer, meta, tags.FILE_META_GROUP_LENGTH)
    element = meta.elements.get(tags.FILE_META_GROUP_LENGTH)
    counted_from = element.value_offset + 4 if element else start
    if len(length) != 4 or struct.unpack("<I", length)[0] != end - counted_from:
        anomalies.append(Anomaly("file-meta-group-length", start))
    uid = read_value(buffer, meta, tags.TRANSFER_SYNTAX_UID)
    if len(uid) > _LONGEST_UID:
        raise FormatError(f"expected a Transfer Syntax UID, found {len(uid)} bytes", offset=start)
    return uid.strip(b" \0").decode("latin-1"), end


def _walk_file_meta(buffer: Buffer, start: int, encoding: Encoding) -> tuple[DataSet, int]:
    """Return the wanted elements of group 0002, and the offset of the first of another group."""
    unpack, short_vrs, wanted = encoding.header.unpack_from, encoding.short_vrs, encoding.wanted
    found: dict[int, Element] = {}
    position, end = start, len(buffer)
    while position + 8 <= end:
        raw_tag, vr, length = unpack(buffer, position)
        if raw_tag & 0xFFFF != 0x0002:
            break
        value_offset = position + 8
        if encoding.implicit:
            length = vr | length << 16
        elif vr not in short_vrs:
            check_vr(encoding, raw_tag, vr, position)
            value_offset = position + 12
            if value_offset > end:
                break
            (length,) = encoding.length.unpack_from(buffer, position + 8)
        if raw_tag in wanted:
            tag = wanted[raw_tag]
            found[tag] = Element(tag, encoding.vr_of(vr), position, value_offset, length)
        position = value_offset + length
    if position > end:
        raise FormatError("the File Meta Information runs past the end", offset=start)
    return DataSet(found), position


def encoding_of(*, implicit: bool, big_endian: bool) -> Encoding:
    """Return the encoding of a data set as its transfer syntax declares it."""
    if implicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if big_endian else EXPLICIT_LITTLE


def detect_vr(buffer: Buffer, start: int, declared: Encoding) -> Encoding:
    """Return the encoding that the first element shows: as declared, or the other VR form.

    Two letters of a value representation, read as the length of a first element in Implicit VR,
    would be at least 16,705 bytes, which no first element of a data set has.
    """
    if start + 8 > len(buffer):
        return declared
    _, vr, _ = EXPLICIT_LITTLE.header.unpack_from(buffer, start)
    if vr in EXPLICIT_LITTLE.vr_names:
        return EXPLICIT_LITTLE if declared.implicit else declared
    if declared.implicit:
        return declared
    letters = bytes(buffer[start + 4 : start + 6])
    if letters.isalpha() and letters.isupper():
        return declared
    return IMPLICIT_LITTLE if _implicit_length_fits(buffer, start) else declared


def detect_encoding(buffer: Buffer, start: int) -> Encoding:
    """Return the encoding of a data set that no transfer syntax describes.

    Raises
    ------
    NotDicomError
        The bytes do not begin like a data set.
    """
    if start + 8 <= len(buffer):
        for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG):
            raw_tag, vr, _ = encoding.header.unpack_from(buffer, start)
            if vr in encoding.vr_names and encoding.tag_of(raw_tag) >> 16 < _LAST_FIRST_GROUP:
                return encoding
        raw_tag, _, _ = IMPLICIT_LITTLE.header.unpack_from(buffer, start)
        group = IMPLICIT_LITTLE.tag_of(raw_tag) >> 16
        if 0 < group < _LAST_FIRST_GROUP and _implicit_length_fits(buffer, start):
            return IMPLICIT_LITTLE
    raise NotDicomError("no DICOM file: expected a data set, found something else", offset=start)


def _implicit_length_fits(buffer: Buffer, start: int) -> bool:
    """Return whether an element in Implicit VR may stand here."""
    length: int = struct.unpack_from("<I", buffer, start + 4)[0]
    return length == UNDEFINED_LENGTH or start + 8 + length <= len(buffer)


def inflate(buffer: Buffer, start: int) -> bytes:
    """Return the inflated data set (PS3.5 A.5).

    Raises
    ------
    FormatError
        It is no deflate stream, or it inflates beyond all measure.
    """
    limit = min(MAX_INFLATION * len(buffer), MAX_INFLATED_LENGTH)
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        with memoryview(buffer) as view, view[start:] as deflated:
            inflated = decompressor.decompress(deflated, limit)
    except zlib.error as error:
        raise FormatError(f"expected a deflated data set: {error}", offset=start) from error
    if decompressor.unconsumed_tail and not decompressor.eof:
        raise FormatError(f"the data set inflates to over {limit} bytes", offset=start)
    if not decompressor.eof:
        raise FormatError("the deflated data set ends too early", offset=len(buffer))
    return inflated
