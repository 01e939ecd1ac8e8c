"""Members of a zip file, from its central directory (PKWARE APPNOTE 4.3), zip64 too.

Each entry is compared with the local header before the member's data; members that overlap are
refused, so that the work that a container asks for is bounded by its length.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from mmindex.errors import FormatError, TruncatedFrameError
from mmindex.sources.base import ByteSource
from mmindex.sources.member import DEFLATED, STORED, FoundMember, check_name

_LOCAL = struct.Struct("<4s2x2H8x2I2H")
_ENTRY = struct.Struct("<8x2H4x3I4H6xI")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_MAX_COMMENT = (1 << 16) - 1
_FULL16, _FULL32 = 0xFFFF, 0xFFFF_FFFF  # the value is in a zip64 field
_TOGETHER = 256  # local headers that are read together
_CHUNK = 1 << 20  # bytes of the central directory that are read at once
_LONGEST_ENTRY = _ENTRY.size + 3 * _FULL16
_ENCRYPTED = 0x2041  # bits 0, 6 and 13: encrypted, strongly, local header masked
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800


class Directory(NamedTuple):
    """The place of the central directory, and the length of what precedes the container."""

    start: int
    end: int
    prefix: int


class _Entry(NamedTuple):
    """The central directory's entry of a member; `name` as its bytes are."""

    name: bytes
    header_offset: int
    length: int
    compressed_length: int
    method: int
    crc: int
    flags: int
    disk: int


def is_zip(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a zip container."""
    return head[:4] in (b"PK\3\4", b"PK\5\6")


def walk_zip(container: ByteSource) -> Iterator[FoundMember]:
    """Yield the files of a zip container, in its order; of two with one name the last counts.

    Raises
    ------
    FormatError
        The container has no central directory, or a damaged one.
    StaleIndexError, MissingFileError
        As `ByteSource.read`.
    """
    try:
        directory = _find_directory(container)
        starts = array("Q", (entry.header_offset for entry in _walk_entries(container, directory)))
        ascending: Sequence[int] = sorted(starts)
        files = (entry for entry in _walk_entries(container, directory) if entry[0][-1:] != b"/")
        while entries := list(islice(files, _TOGETHER)):
            headers = container.read_many([_locate(entry, directory) for entry in entries])
            for entry, header in zip(entries, headers, strict=True):
                yield _make_member(header, directory, entry, ascending)
    except TruncatedFrameError as error:
        raise _damaged(container, error.offset or 0, "the container ends in it") from None


def _find_directory(container: ByteSource) -> Directory:
    """Return where the central directory is, from the record at the end of the container."""
    size = container.size
    length = min(size, _END.size + _MAX_COMMENT)
    tail = container.read(size - length, length)
    at = length - _END.size
    if at >= 0 and (tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0"):
        at = tail.rfind(b"PK\5\6", 0, at + 4)
    if at < 0:
        raise _damaged(container, size, "its end record is not there")
    _, disk, _, _, _, cd_length, cd_offset, _ = _END.unpack_from(tail, at)
    end = at + size - length
    if disk not in (0, _FULL16):
        raise _damaged(container, end, "the container is one of several parts")
    locator = end - _LOCATOR64.size
    if locator >= _END64.size:
        signature, _, _, _ = _LOCATOR64.unpack(container.read(locator, _LOCATOR64.size))
        if signature == b"PK\6\7":
            end = locator - _END64.size
            record = _END64.unpack(container.read(end, _END64.size))
            if record[0] != b"PK\6\6":
                raise _damaged(container, end, "its zip64 end record is not there")
            cd_length, cd_offset = record[8], record[9]
    prefix = end - cd_length - cd_offset
    if prefix < 0:
        raise _damaged(container, end, f"{cd_length} bytes at {cd_offset} do not end here")
    return Directory(end - cd_length, end, prefix)


def _walk_entries(container: ByteSource, directory: Directory) -> Iterator[_Entry]:
    """Yield the entries of the central directory, which is read in chunks."""
    start, end, prefix = directory
    unpack, size, new = _ENTRY.unpack_from, _ENTRY.size, tuple.__new__
    chunk, at = b"", 0
    position = start  # of what was read
    while position < end or at < len(chunk):
        if len(chunk) - at < _LONGEST_ENTRY and position < end:
            more = container.read(position, min(_CHUNK, end - position))
            position += len(more)
            chunk, at = chunk[at:] + more, 0
        here = position - len(chunk) + at
        if len(chunk) - at < size or chunk[at : at + 4] != b"PK\1\2":
            raise _damaged(container, here, "expected an entry")
        flags, method, crc, packed, length, named, extended, remarked, disk, offset = unpack(
            chunk, at
        )
        extra_at = at + size + named
        name = chunk[at + size : extra_at]
        at = extra_at + extended + remarked
        if at > len(chunk):
            raise _damaged(container, here, "an entry runs past its end")
        if packed == _FULL32 or length == _FULL32 or offset == _FULL32:
            extra = chunk[extra_at : extra_at + extended]
            numbers = _parse_zip64(extra, length, packed, offset)
            if numbers is None:
                raise _damaged(container, here, "its zip64 field is not there")
            length, packed, offset = numbers
        header_offset = offset + prefix
        if header_offset + _LOCAL.size > start:
            raise _damaged(container, here, f"no member can begin at {offset}")
        yield new(_Entry, (name, header_offset, length, packed, method, crc, flags, disk))


def _parse_zip64(extra: bytes, *numbers: int) -> tuple[int, ...] | None:
    """Return numbers with those that are full taken from the zip64 field (APPNOTE 4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if kind == 1:
            found, taken = list(numbers), 0
            for which, number in enumerate(numbers):
                if number == _FULL32:
                    if taken + 8 > len(field):
                        return None
                    (found[which],) = struct.unpack_from("<Q", field, taken)
                    taken += 8
            return tuple(found)
        at += 4 + length
    return None


def _locate(entry: _Entry, directory: Directory) -> tuple[int, int]:
    """Return offset and length of a member's local header."""
    length = min(_LOCAL.size + len(entry.name), directory.start - entry.header_offset)
    return entry.header_offset, length


def _make_member(
    local: bytes, directory: Directory, entry: _Entry, starts: Sequence[int]
) -> FoundMember:
    """Return a member after a look at its local header; one that cannot be read has its reason."""
    name, header_offset, length, compressed_length, method, crc, flags, disk = entry
    signature, local_flags, local_method, packed, unpacked, named, extended = _LOCAL.unpack_from(
        local
    )
    offset = header_offset + _LOCAL.size + named + extended
    same = local_method == method and named == len(name) and local.startswith(name, _LOCAL.size)
    after = bisect_right(starts, header_offset)
    limit = starts[after] if after < len(starts) else directory.start
    reason = ""
    if signature != b"PK\3\4":
        reason = "the container has no member where its directory says"
    elif (flags | local_flags) & _ENCRYPTED:
        reason = "the member is encrypted"
    elif method != STORED and method != DEFLATED:
        reason = f"the member is compressed by method {method}, which is not deflate"
    elif not same or not (
        local_flags & _DESCRIPTOR
        or (
            (packed == compressed_length or packed == _FULL32)
            and (unpacked == length or unpacked == _FULL32)
        )
    ):
        reason = "the member's own header and the container's directory disagree"
    elif method == STORED and length != compressed_length:
        reason = f"a stored member of {length} bytes in {compressed_length}"
    elif disk and disk != _FULL16:
        reason = "the member is in another part of the container"
    elif offset + compressed_length > limit or (after > 1 and starts[after - 2] == header_offset):
        reason = "the member overlaps with another one"
    if not flags & _UTF8 and not name.isascii():
        name = name.decode("cp437").encode()
    name, problem = check_name(name)
    found = name, offset, length, compressed_length, method, crc, reason or problem
    return tuple.__new__(FoundMember, found)


def _damaged(container: ByteSource, offset: int, why: str) -> FormatError:
    return FormatError(
        f"expected the central directory of a zip container: {why}",
        path=container.name,
        offset=offset,
    )
