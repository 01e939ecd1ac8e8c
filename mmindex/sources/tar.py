"""Members of an uncompressed tar file: ustar, GNU and pax headers (POSIX.1-2017, pax).

The walk reads one header of 512 bytes a member and skips the data. Links, folders and devices
have no data and are no members here; sparse files are not put together.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from mmindex.errors import FormatError, TruncatedFrameError
from mmindex.sources.base import ByteSource
from mmindex.sources.member import STORED, FoundMember, check_name

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAX_EXTENSION = 1 << 20  # bytes of a long name or of pax records
_FILES = b"0\0007S"  # the last one is a GNU sparse file
_EXTENSIONS = b"xgLKX"  # of the members that follow
_NO_DATA = b"123456"  # links, devices, folders, FIFOs: whatever their size says
_ADLER = 65521


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
    read, size = container.read, container.size
    common: dict[bytes, bytes] = {}  # pax records of all members that follow
    own: dict[bytes, bytes] = {}  # of the next one
    position = 0
    while position + BLOCK <= size:
        header = read(position, BLOCK)
        if header == _ZEROS:
            return
        if not _has_checksum(header):
            raise _damaged(container, position, "its checksum is wrong")
        kind = header[156]
        length = _parse_number(container, position, header[124:136])
        data = position + BLOCK
        if kind in _EXTENSIONS:
            if length > _MAX_EXTENSION:
                raise _damaged(container, position, f"{length} bytes of names")
            try:
                value = read(data, length)
            except TruncatedFrameError:
                raise _damaged(container, position, "the container ends in it") from None
            if kind == ord("g"):
                common |= _parse_pax(container, position, value)
            elif kind in b"xX":
                own |= _parse_pax(container, position, value)
            elif kind == ord("L"):
                own[b"path"] = value.split(b"\0", 1)[0]
            position = data + length + -length % BLOCK
            continue
        known = common | own if common or own else own
        if b"size" in known:
            length = _parse_decimal(container, position, known[b"size"])
        if kind in _NO_DATA:
            own = {}
            position = data
            continue
        reason = ""
        if kind == ord("S"):
            data = _skip_sparse_map(container, header, data)
        if kind == ord("S") or (known and any(key.startswith(b"GNU.sparse") for key in known)):
            reason = "the member is a sparse file, which is not put together"
        name = known.get(b"path") or _parse_name(header)
        if data + length > size:
            reason = f"the member runs past the end of the container: expected {length} bytes"
        if kind in _FILES and not name.endswith(b"/"):
            name, problem = check_name(name)
            yield FoundMember(name, data, length, length, STORED, 0, reason or problem)
        own = {}
        position = data + length + -length % BLOCK


def _has_checksum(header: bytes) -> bool:
    """Return whether a header's bytes add up to its checksum field, which counts as blanks.

    Adler-32 has the sum of bytes in its lower half, modulo 65521, and is ten times as fast.
    """
    field = header[148:156]
    try:
        expected = int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    total = (zlib.adler32(header) & 0xFFFF) - 1 - sum(field) + 8 * 32
    if (total - expected) % _ADLER == 0:
        return True
    signed = sum(byte - 256 if byte > 127 else byte for byte in header[:148] + header[156:])
    return signed + 256 == expected  # as some old programs added


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


def _parse_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    if prefix and header[257:263] == b"ustar\0":  # GNU's own headers have times there
        return prefix + b"/" + name
    return name


def _parse_pax(container: ByteSource, position: int, data: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header, a length, a keyword and a value in a line each."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        digits, blank, _ = data[at : at + 12].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        record = data[at : at + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or len(record) != length or record[-1:] != b"\n":
            raise _damaged(container, position, "its pax records are no records")
        records[key] = value
        at += length
    return records


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
