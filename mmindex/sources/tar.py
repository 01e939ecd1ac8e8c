"""Members of an uncompressed tar file: ustar, GNU and pax headers (POSIX.1-2017, pax).

The walk reads one header of 512 bytes a member and skips the data; where headers of records or of
a long name precede those of members, as tarfile and `tar --format=pax` write them, one read takes
all of these. Links, folders and devices have no data and are no members here; sparse files are not
put together. Of pax records, the walk keeps path, size, linkpath and whether the file is sparse: a
member costs the same after any others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

from mmindex.errors import FormatError, TruncatedFrameError
from mmindex.sources.base import ByteSource
from mmindex.sources.member import (
    LONGEST_NAME,
    NO_FILE,
    STORED,
    FoundMember,
    check_name,
    strip_name,
)

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAX_EXTENSION = 1 << 20  # bytes of a long name or of pax records
_MOST_AHEAD = 1 << 12  # bytes that are read at once: beyond, they cost more than a second read
_MOST_CHECKED = 64  # headers of records that are kept
_REGULAR, _HARD_LINK, _SPARSE = b"01S"
_FILES = b"0\0007S"  # the last one is a GNU sparse file
_EXTENSIONS = b"xgLKX"  # of the members that follow
_NO_DATA = b"123456"  # links, devices, folders, FIFOs: whatever their size says
_COMMON, _LONG_NAME, _LONG_LINK = b"gLK"
# Name; size, 11 digits and what ends them; checksum; kind; the first byte of the prefix.
_HEADER = struct.Struct("100s24x11sB12x8sB188xB166x")
_ENDS = b"\0 "
_FIRST_PLAIN = b"0"  # the byte after "." and "/"
_LONGEST_START = 64  # bytes of length and keyword that are remembered
_NO_START = 0, b""
_KEPT = (b"path", b"size", b"linkpath")
_ADLER = 65521
_NEWLINE = ord("\n")


class _Pax(NamedTuple):
    """The pax records that the walk needs; None where there is none of a keyword."""

    path: bytes | None = None
    size: bytes | None = None
    link: bytes | None = None
    is_sparse: bool = False


def _merge(first: _Pax | None, second: _Pax | None) -> _Pax | None:
    """Return the first records, and the second ones of keywords that the first have not."""
    if first is None or second is None:
        return second if first is None else first
    path = second.path if first.path is None else first.path
    size = second.size if first.size is None else first.size
    link = second.link if first.link is None else first.link
    return _Pax(path, size, link, first.is_sparse or second.is_sparse)


def is_tar(head: bytes) -> bool:
    """Return whether the first 512 bytes of a file are a header of tar."""
    return len(head) >= BLOCK and head[257:262] == b"ustar" and _has_checksum(head[:BLOCK])


def walk_tar(container: ByteSource, *, others: bool = False) -> Iterator[FoundMember]:
    """Yield the files of a tar container, in its order; of two with one name the last counts.

    Parameters
    ----------
    others : bool
        Whether links, folders and devices are yielded, too, with the reason NO_FILE. They take the
        place of an earlier file of their name, as a later file does.

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
    ahead = BLOCK  # bytes that are read at once
    following = b""  # the next header, where it was read with what precedes it
    checked: dict[bytes, tuple[bytes, int]] = {}  # headers of records, most of which are the same
    position = at = 0  # of a header: in the container, and in what was read
    while position <= last:
        if following:
            header, following = following, b""
        elif ahead == BLOCK:
            header, at = read(position, BLOCK), 0
            chunk = header
        else:
            chunk = read(position, min(ahead, size - position))
            header, at = chunk[:BLOCK], 0
        name, digits, end, checksum, kind, prefix = unpack(header)
        known = None if kind == _REGULAR else checked.get(checksum)
        if known is not None and known[0] == header:
            length = known[1]
        else:
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
        if kind != _REGULAR and kind in _EXTENSIONS:
            if known is None and len(checked) < _MOST_CHECKED:
                checked[checksum] = header, length
            at += BLOCK
            value = chunk[at : at + length]
            padded = length + BLOCK - 1 & -BLOCK
            if len(value) != length:
                value = _read_extension(container, position, length)
                if kind != _COMMON:
                    ahead = min(2 * BLOCK + padded, _MOST_AHEAD)
            if kind == _COMMON:
                common = _merge(_parse_common(container, position, value), common)
            elif kind == _LONG_NAME:
                own = _merge(_Pax(path=value.partition(b"\0")[0]), own)
            elif kind == _LONG_LINK:
                own = _merge(_Pax(link=value.partition(b"\0")[0]), own)
            elif found := _parse_pax(container, position, value):
                own = _merge(found, own)
            position, at = data + padded, at + padded
            if at + BLOCK <= len(chunk):
                following = chunk[at : at + BLOCK]
            continue
        name, link, is_sparse = name.partition(b"\0")[0], None, False
        if prefix and header[257:263] == b"ustar\0":  # GNU's own headers have times there
            name = header[345:500].partition(b"\0")[0] + b"/" + name
        # As most names are; `find` takes longer.
        is_plain = name >= _FIRST_PLAIN and not name.partition(b"..")[1]
        if own is not None or common is not None:
            path, digits, link, is_sparse = _merge(own, common) or _Pax()
            name, own, is_plain = path or name, None, False
            if digits is not None:
                length = _parse_decimal(container, position, digits)
        if kind == _SPARSE:
            data, is_sparse = _skip_sparse_map(container, header, data), True
        position = data + (length + BLOCK - 1 & -BLOCK)
        if (kind == _REGULAR or kind in _FILES) and name[-1:] != b"/":
            reason = ""
            if not is_plain:
                name, reason = check_name(name)
            if is_sparse:
                reason = "the member is a sparse file, which is not put together"
            if data + length > size:
                reason = f"the member runs past the end of the container: expected {length} bytes"
            yield new(FoundMember, (name, data, length, length, STORED, 0, reason))
            continue
        if kind in _NO_DATA:
            position = data
        if others and not (kind == _HARD_LINK and _links_itself(header, name, link)):
            name, _ = check_name(name.rstrip(b"/"))
            yield FoundMember(name, data, 0, 0, reason=NO_FILE)


def _links_itself(header: bytes, name: bytes, link: bytes | None) -> bool:
    """Return whether a hard link leads to its own name, as of a file that was packed twice."""
    target = header[157:257].partition(b"\0")[0] if link is None else link
    return len(target) <= LONGEST_NAME and strip_name(target) == strip_name(name)


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


def _parse_common(container: ByteSource, position: int, data: bytes) -> _Pax | None:
    """Return what counts of the pax records of all members that follow, each of which has them."""
    found = _parse_pax(container, position, data)
    if found is not None and found.path is not None and len(found.path) > LONGEST_NAME:
        raise _damaged(container, position, f"a path of {len(found.path)} bytes for all members")
    return found


def _parse_pax(container: ByteSource, position: int, data: bytes) -> _Pax | None:
    """Return what counts of the records of a pax header: length, keyword and value in a line each.

    All must be whole. Of several with one keyword the last counts. None where none counts.
    """
    kept: dict[bytes, bytes] = {}
    is_sparse = False
    at, whole = 0, len(data)
    while at < whole and data[at]:
        equals = data.find(b"=", at)
        parse = _parse_start if equals - at > _LONGEST_START else _parse_short_start
        length, keyword = parse(data[at:equals]) if equals > 0 else _NO_START
        end = at + length
        if not equals + 1 < end <= whole or data[end - 1] != _NEWLINE or not length:
            raise _damaged(container, position, "its pax records are no records")
        if keyword:
            if keyword in _KEPT:
                kept[keyword] = data[equals + 1 : end - 1]
            else:
                is_sparse = True
        at = end
    if not kept and not is_sparse:
        return None
    return _Pax(kept.get(b"path"), kept.get(b"size"), kept.get(b"linkpath"), is_sparse)


def _parse_start(start: bytes) -> tuple[int, bytes]:
    """Return the length of a pax record, 0 of none, and its keyword, empty unless that counts."""
    digits, blank, keyword = start.partition(b" ")
    if not blank or not digits.isdigit() or len(digits) > 11:
        return _NO_START
    counts = keyword in _KEPT or keyword.startswith(b"GNU.sparse")
    return int(digits), keyword if counts else b""


_parse_short_start = lru_cache(1 << 8)(_parse_start)


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
