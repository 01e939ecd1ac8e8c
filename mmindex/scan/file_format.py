"""Preamble and File Meta Information of a DICOM file, and the encoding of its data set.

Preamble and File Meta Information are those of PS3.10 section 7.1; deflated data sets of
PS3.5 A.5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from mmindex.errors import FormatError, NotDicomError
from mmindex.model import Anomaly, Buffer
from mmindex.scan import tags
from mmindex.scan.element import Element
from mmindex.scan.element_headers import chain_follows
from mmindex.scan.encoding import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    Encoding,
)
from mmindex.scan.inflate import MAX_INFLATED_LENGTH, inflate_up_to

PREAMBLE_LENGTH = 128
_PREAMBLE_END = PREAMBLE_LENGTH + 4  # after its prefix, DICM
MAX_INFLATION = 1000  # times the file
_LONGEST_UID = 256  # bytes; PS3.5 9.1 allows 64
_LAST_FIRST_GROUP = 0x0030  # data sets begin with identification, at the latest with an image


class FileMeta(NamedTuple):
    """The values of the File Meta Information, and the beginning of the data set.

    Attributes
    ----------
    transfer_syntax_uid : str
        The first one; empty where there is none.
    second_transfer_syntax_uid : str
        That of a second File Meta Information; empty where there is none.
    """

    transfer_syntax_uid: str
    data_set_offset: int
    second_transfer_syntax_uid: str = ""


def inflate_data_set(buffer: Buffer) -> bytes | memoryview | None:
    """Return the data set of a deflated file, inflated; None where it is not deflated at all.

    Raises
    ------
    FormatError
        As `scan`.
    """
    meta = scan_file_meta(buffer, find_start(buffer, True, []), True, [])
    return unwrap_deflated(buffer, meta.data_set_offset, [])


def find_start(buffer: Buffer, force: bool, anomalies: list[Anomaly]) -> int:
    """Return where the File Meta Information begins, or without it the data set.

    With `force`: byte 132 after a preamble, else byte 4 where the file begins with DICM, else
    byte 0; the first of them that begins like a data set.
    """
    prefix = bytes(buffer[PREAMBLE_LENGTH:_PREAMBLE_END])
    if prefix == b"DICM" and (not force or _begins_data_set(buffer, _PREAMBLE_END)):
        return _PREAMBLE_END
    if not force:
        raise NotDicomError(
            f"no DICOM file: expected 'DICM' after a preamble of 128 bytes, found {prefix!r}; "
            "force=True (--force) reads files that have neither",
            offset=PREAMBLE_LENGTH,
        )
    found = _PREAMBLE_END if prefix == b"DICM" else 0
    if bytes(buffer[:4]) == b"DICM" and _begins_data_set(buffer, 4):
        found = 4
    elif _begins_data_set(buffer, 0):
        found = 0
    elif _begins_file_meta(buffer, _PREAMBLE_END) is not None:
        found = _PREAMBLE_END  # behind a prefix that is not DICM
    if found != _PREAMBLE_END or prefix != b"DICM":
        anomalies.append(Anomaly("no-file-meta", 0))
    return found


def _begins_data_set(buffer: Buffer, position: int) -> bool:
    """Return whether File Meta Information or a data set begins at `position`."""
    if _begins_file_meta(buffer, position) is not None:
        return True
    encoding = _find_encoding(buffer, position)
    return encoding is not None and chain_follows(buffer, position, len(buffer), encoding)


def _begins_file_meta(buffer: Buffer, position: int) -> Encoding | None:
    """Return the encoding of the File Meta Information at `position`, None where none is there."""
    group = bytes(buffer[position : position + 2])
    if group == b"\x02\x00":
        return detect_vr(buffer, position, EXPLICIT_LITTLE)
    if group == b"\x00\x02" and position + 8 <= len(buffer):
        _, vr, _ = EXPLICIT_BIG.header.unpack_from(buffer, position)
        if vr in EXPLICIT_BIG.vr_names:
            return EXPLICIT_BIG
    return None


def scan_file_meta(buffer: Buffer, start: int, force: bool, anomalies: list[Anomaly]) -> FileMeta:
    """Return what the File Meta Information says; of what stands there twice, the first.

    The group ends where its elements do: a group length that says otherwise is an anomaly.
    """
    encoding = _begins_file_meta(buffer, start)
    if encoding is None or (encoding.big_endian and not force):
        if not force:
            raise NotDicomError(
                "no DICOM file: expected File Meta Information (0002,xxxx), found none; "
                "force=True (--force) reads files that have none",
                offset=start,
            )
        if start == _PREAMBLE_END and not anomalies:
            anomalies.append(Anomaly("no-file-meta", start))
        return FileMeta("", start)
    if encoding.big_endian:
        anomalies.append(Anomaly("file-meta-byte-order", start))
    elif encoding.implicit:
        anomalies.append(Anomaly("vr-mismatch", start))
    meta, end = _walk_file_meta(buffer, start, encoding)
    element = meta.get(tags.FILE_META_GROUP_LENGTH)
    counted: int | None = None
    if element is not None and element.length == 4:
        counted = encoding.length.unpack_from(buffer, element.value_offset)[0]
    if element is None or counted != end - element.value_offset - 4:
        anomalies.append(Anomaly("file-meta-group-length", start))
    uid = _read_transfer_syntax_uid(buffer, meta, start)
    repeats: list[int] = []
    second_uid = ""
    while (repeated := _find_repeated(buffer, end)) is not None:
        start, encoding = repeated
        meta, end = _walk_file_meta(buffer, start, encoding)
        if end == start:
            break  # the file was cut in the first header
        repeats.append(start)
        second_uid = second_uid or _read_transfer_syntax_uid(buffer, meta, start)
    if repeats:
        anomalies.append(Anomaly("file-meta-twice", repeats[0], len(repeats)))
    return FileMeta(uid or second_uid, end, second_uid)


def _find_repeated(buffer: Buffer, position: int) -> tuple[int, Encoding] | None:
    """Return where a second File Meta Information begins, with or without its own preamble."""
    prefix = position + PREAMBLE_LENGTH
    encoding = _begins_file_meta(buffer, position)
    if encoding is None and bytes(buffer[prefix : prefix + 4]) == b"DICM":
        position = prefix + 4
        encoding = _begins_file_meta(buffer, position)
    return None if encoding is None else (position, encoding)


def _read_transfer_syntax_uid(buffer: Buffer, meta: dict[int, Element], start: int) -> str:
    element = meta.get(tags.TRANSFER_SYNTAX_UID)
    if element is None:
        return ""
    _, _, _, value_offset, length = element
    if length > _LONGEST_UID:
        raise FormatError(f"expected a Transfer Syntax UID, found {length} bytes", offset=start)
    uid = bytes(buffer[value_offset : value_offset + length])
    return uid.strip(b" \0\t\r\n").decode("latin-1")


def _walk_file_meta(
    buffer: Buffer, start: int, encoding: Encoding
) -> tuple[dict[int, Element], int]:
    """Return the wanted elements of group 0002, and the offset after its last element.

    An element that was there before begins a second File Meta Information.
    """
    unpack, short_vrs, wanted = encoding.header.unpack_from, encoding.short_vrs, encoding.wanted
    new = tuple.__new__
    found: dict[int, Element] = {}
    position, end = start, len(buffer)
    group_shift = 16 if encoding.big_endian else 0  # where the group is in a raw tag
    seen: set[int] = set()
    while position + 8 <= end:
        raw_tag, vr, length = unpack(buffer, position)
        if raw_tag >> group_shift & 0xFFFF != 0x0002 or raw_tag in seen:
            break
        seen.add(raw_tag)
        value_offset = position + 8
        if encoding.implicit:
            length = vr | length << 16
        elif vr not in short_vrs:
            if not encoding.is_vr(vr):
                raise FormatError(
                    "expected a value representation in "
                    f"{tags.format_tag(encoding.tag_of(raw_tag))}, "
                    f"found {encoding.vr_of(vr)!r}",
                    offset=position,
                )
            value_offset = position + 12
            if value_offset > end:
                break
            (length,) = encoding.length.unpack_from(buffer, position + 8)
        if raw_tag in wanted:
            tag = wanted[raw_tag]
            place = (tag, encoding.vr_of(vr), position, value_offset, length)
            found[tag] = new(Element, place)
        position = value_offset + length
    if position > end:
        raise FormatError("the File Meta Information runs past the end", offset=start)
    return found, position


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
    encoding = _find_encoding(buffer, start)
    if encoding is None:
        raise NotDicomError(
            "no DICOM file: expected a data set, found something else", offset=start
        )
    return encoding


def _find_encoding(buffer: Buffer, start: int) -> Encoding | None:
    """Return the encoding that the first element shows, None where it shows none."""
    if start + 8 > len(buffer):
        return None
    for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG):
        raw_tag, vr, _ = encoding.header.unpack_from(buffer, start)
        if vr in encoding.vr_names and encoding.tag_of(raw_tag) >> 16 < _LAST_FIRST_GROUP:
            return encoding
    raw_tag, _, _ = IMPLICIT_LITTLE.header.unpack_from(buffer, start)
    group = IMPLICIT_LITTLE.tag_of(raw_tag) >> 16
    if 0 < group < _LAST_FIRST_GROUP and _implicit_length_fits(buffer, start):
        return IMPLICIT_LITTLE
    return None


def _implicit_length_fits(buffer: Buffer, start: int) -> bool:
    """Return whether an element in Implicit VR may stand here."""
    length: int = struct.unpack_from("<I", buffer, start + 4)[0]
    return length == UNDEFINED_LENGTH or start + 8 + length <= len(buffer)


def unwrap_deflated(
    buffer: Buffer,
    start: int,
    anomalies: list[Anomaly],
    begin_long: Callable[[], object] = lambda: None,
) -> bytes | memoryview | None:
    """Return the inflated data set (PS3.5 A.5), None where it is not deflated at all.

    The first bytes tell a deflate stream with a zlib header (RFC 1950) and a data set that is not
    deflated; all else is a deflate stream as the standard wants it.

    Parameters
    ----------
    begin_long : callable
        Called once before a data set takes more memory than `LONG_INFLATED`.

    Raises
    ------
    FormatError
        There is no deflate stream, or it inflates beyond all measure.
    """
    head = bytes(buffer[start : start + 5])
    encoding = _find_encoding(buffer, start)
    if encoding is not None and chain_follows(buffer, start, len(buffer), encoding):
        anomalies.append(Anomaly("deflate-wrapper", start))
        return None
    if not _begins_zlib(head):
        return _inflate(buffer, start, -zlib.MAX_WBITS, begin_long)
    inflated = _inflate(buffer, start, zlib.MAX_WBITS, begin_long)
    anomalies.append(Anomaly("deflate-wrapper", start))
    return inflated


def _begins_zlib(head: bytes) -> bool:
    """Return whether these bytes begin with a zlib header, and with no deflate block.

    The first byte of a zlib header is also that of a stored block, which has its length twice, the
    second time with all bits turned (RFC 1951 3.2.4).
    """
    if len(head) < 5 or head[0] & 0x8F != 0x08 or int.from_bytes(head[:2], "big") % 31:
        return False
    length, turned = struct.unpack_from("<HH", head, 1)
    return not head[1] & 0x20 and length ^ turned != 0xFFFF  # 0x20: a preset dictionary


def _inflate(
    buffer: Buffer, start: int, window_bits: int, begin_long: Callable[[], object]
) -> bytes | memoryview:
    limit = min(MAX_INFLATION * len(buffer), MAX_INFLATED_LENGTH)
    decompressor = zlib.decompressobj(window_bits)
    try:
        with memoryview(buffer) as view, view[start:] as deflated:
            inflated = inflate_up_to(decompressor, deflated, limit, begin_long)
    except zlib.error as error:
        found = bytes(buffer[start : start + 8]).hex(" ") or "nothing"
        raise FormatError(
            f"expected a deflated data set, found bytes {found}: {error}", offset=start
        ) from error
    if not decompressor.eof and len(inflated) == limit:
        raise FormatError(f"the data set inflates to over {limit} bytes", offset=start)
    if not decompressor.eof:
        raise FormatError("the deflated data set ends too early", offset=len(buffer))
    return inflated
