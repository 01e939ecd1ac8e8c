"""Members of an uncompressed tar file: ustar, GNU and pax headers (POSIX.1-2017, pax).

The walk reads one header of 512 bytes a member and skips the data. Links, folders and devices
have no data and are no members here; sparse files are not put together. Of pax records, the walk
keeps the path, the size and whether the file is sparse: a member costs the same after any others.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

from mmindex.errors import FormatError, TruncatedFrameError
from mmindex.sources.base import ByteSource
from mmindex.sources.member import LONGEST_NAME, STORED, FoundMember, check_name

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAX_EXTENSION = 1 << 20  # bytes of a long name or of pax records
_FILES = b"0\0007S"  # the last one is a GNU sparse file
_EXTENSIONS = b"xgLKX"  # of the members that follow
_NO_DATA = b"123456"  # links, devices, folders, FIFOs: whatever their size says
_SPARSE, _COMMON, _LONG_NAME, _OWN = ord("S"), ord("g"), ord("L"), b"xX"
# Name; size, 11 digits and what ends them; checksum; kind; magic; the first byte of the prefix.
_HEADER = struct.Struct("100s24x11sB12x8sB100x6s82xB166x")
_ENDS = b"\0 "
_PAX_RECORD = re.compile(rb"([0-9]{1,11}) ([^=]*)=")
_ADLER = 65521
_NEWLINE = ord("\n")


class _Pax(NamedTuple):
    """The pax records that the walk needs; None where there is none of a keyword."""

    path: bytes | None
    size: bytes | None
    is_sparse: bool

    def over(self, other: _Pax | None) -> _Pax:
        """Return these records, and those of others where there are none."""
        if other is None:
            return self
        path = other.path if self.path is None else self.path
        size = other.size if self.size is None else self.size
        return _Pax(path, size, self.is_sparse or other.is_sparse)


_NO_RECORDS = _Pax(None, None, False)


def is_tar(head: bytes) -> bool:
    """Return whether the first 512 bytes of a file are a header of tar."""
    return len(head) >= BLOCK and head[257:262] == b"ustar" and _has_checksum(head[:BLOCK])


def walk_tar(container: ByteSource) -> Iterator[FoundMember]:
    """Yield the files of a tar container, in its order; of two with one name the last counts.

    Raises
    ------
    FormatError
        A header is damaged: what follows it cannot be found.
    StaleIndexError, MissingFileError
        As `ByteSource.read`.
    """
    size, last = container.size, container.size - BLOCK
    read, unpack, new = container.read, _HEADER.unpack, tuple.__new__
    common: _Pax | None = None  # records of all members that follow
    own: _Pax | None = None  # of the next one
    position = 0
    while position <= last:
        header = read(position, BLOCK)
        name, digits, end, checksum, kind, magic, prefix = unpack(header)
        if adler32(header) & 0xFFFF != _expect_adler(checksum):
            if header == _ZEROS:
                return
            if not _has_signed_checksum(header):
                raise _damaged(container, position, "its checksum is wrong")
        try:
            length = int(digits, 8) if end in _ENDS else -1
        except ValueError:
            length = -1
        if length < 0:
            length = _parse_number(container, position, header[124:136])
        data = position + BLOCK
        if kind in _EXTENSIONS:
            value = _read_extension(container, position, length)
            if kind == _COMMON:
                common = _parse_common(container, position, value).over(common)
            elif kind in _OWN:
                own = _parse_pax(container, position, value).over(own)
            elif kind == _LONG_NAME:
                own = _Pax(value.partition(b"\0")[0], None, False).over(own)
            position = data + (length + BLOCK - 1 & -BLOCK)
            continue
        name = name.partition(b"\0")[0]
        if prefix and magic == b"ustar\0":  # GNU's own headers have times there
            name = header[345:500].partition(b"\0")[0] + b"/" + name
        is_sparse = kind == _SPARSE
        if own is not None or common is not None:
            path, digits, is_listed_sparse = (_NO_RECORDS if own is None else own).over(common)
            name, is_sparse, own = path or name, is_sparse or is_listed_sparse, None
            if digits is not None:
                length = _parse_decimal(container, position, digits)
        if kind in _NO_DATA:
            position = data
            continue
        if kind == _SPARSE:
            data = _skip_sparse_map(container, header, data)
        position = data + (length + BLOCK - 1 & -BLOCK)
        if kind in _FILES and name[-1:] != b"/":
            name, reason = check_name(name)
            if is_sparse:
                reason = "the member is a sparse file, which is not put together"
            if data + length > size:
                reason = f"the member runs past the end of the container: expected {length} bytes"
            yield new(FoundMember, (name, data, length, length, STORED, 0, reason))


def _has_checksum(header: bytes) -> bool:
    """Return whether a header's bytes add up to its checksum field, which counts as blanks."""
    expected = _expect_adler(header[148:156])
    return adler32(header) & 0xFFFF == expected or _has_signed_checksum(header)


@lru_cache(1 << 12)
def _expect_adler(field: bytes) -> int:
    """Return the lower half of the Adler-32 of a header with this checksum field.

    That is one more than the sum of the bytes, modulo 65521, and ten times as fast as the sum. A
    field that is no number has -1. Headers have some thousand sums, most of them again and again.
    """
    number = _parse_checksum(field)
    return -1 if number is None else (number - 8 * 32 + sum(field) + 1) % _ADLER


def _has_signed_checksum(header: bytes) -> bool:
    """Return whether the bytes of a header add up as numbers with signs, as in old programs."""
    signed = sum(byte - 256 if byte > 127 else byte for byte in header[:148] + header[156:])
    return signed + 8 * 32 == _parse_checksum(header[148:156])


def _parse_checksum(field: bytes) -> int | None:
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return None


def _parse_number(container: ByteSource, position: int, field: bytes) -> int:
    """Return a number of a header: octal digits, or GNU's base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        number = int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        number = -1
    if number < 0:
        raise _damaged(container, position, "its size is no number")
    return number


def _parse_decimal(container: ByteSource, position: int, field: bytes) -> int:
    if not field.isdigit() or len(field) > 20:
        raise _damaged(container, position, "its size is no number")
    return int(field)


def _read_extension(container: ByteSource, position: int, length: int) -> bytes:
    """Return a long name or pax records, which are in place of a member's data."""
    if length > _MAX_EXTENSION:
        raise _damaged(container, position, f"{length} bytes of names")
    try:
        return container.read(position + BLOCK, length)
    except TruncatedFrameError:
        raise _damaged(container, position, "the container ends in it") from None


def _parse_common(container: ByteSource, position: int, data: bytes) -> _Pax:
    """Return what counts of the pax records of all members that follow, each of which has them."""
    found = _parse_pax(container, position, data)
    if found.path is not None and len(found.path) > LONGEST_NAME:
        raise _damaged(container, position, f"a path of {len(found.path)} bytes for all members")
    return found


def _parse_pax(container: ByteSource, position: int, data: bytes) -> _Pax:
    """Return what counts of the records of a pax header: length, keyword and value in a line each.

    All must be whole. Of several with one keyword the last counts.
    """
    path = size = None
    is_sparse = False
    at = 0
    while at < len(data) and data[at]:
        found = _PAX_RECORD.match(data, at)
        end = at + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data) or data[end - 1] != _NEWLINE:
            raise _damaged(container, position, "its pax records are no records")
        keyword = found[2]
        if keyword == b"path":
            path = data[found.end() : end - 1]
        elif keyword == b"size":
            size = data[found.end() : end - 1]
        elif keyword.startswith(b"GNU.sparse"):
            is_sparse = True
        at = end
    return _Pax(path, size, is_sparse)


def _skip_sparse_map(container: ByteSource, header: bytes, position: int) -> int:
    """Return where the data of a GNU sparse file begins, after the blocks of its map."""
    is_extended = header[482]
    while is_extended and position + BLOCK <= container.size:
        is_extended = container.read(position, BLOCK)[504]
        position += BLOCK
    return position


def _damaged(container: ByteSource, position: int, why: str) -> FormatError:
    return FormatError(
        f"expected a header of a tar member, found a damaged one: {why}; what follows is not found",
        path=container.name,
        offset=position,
    )
