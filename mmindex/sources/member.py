"""Members of tar and zip containers as sources of bytes: in place, or inflated once.

A stored member is a range of its container, and offsets count in the container. A deflated one
is inflated into memory when it is first read, within the length that the container says, and its
CRC is checked.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from mmindex.errors import FormatError, MMIndexError
from mmindex.model import Fingerprint
from mmindex.sources.base import ByteSource, outside
from mmindex.sources.memory import MemorySource

STORED, DEFLATED = 0, 8  # methods as zip numbers them (APPNOTE 4.4.5)
MAX_INFLATED_LENGTH = 1 << 31  # bytes
_MAX_RATIO = 1040  # deflate cannot do more: 258 bytes of two bits


class Member(NamedTuple):
    """A file in a container.

    Attributes
    ----------
    name : bytes
        Its path in the container, without "./" before it.
    offset : int
        Where its data begins in the container, in bytes.
    length : int
        Length of the file, in bytes.
    compressed_length : int
        Bytes of the container that hold it; `length` of one that is stored.
    method : int
        STORED or DEFLATED.
    crc : int
        CRC-32 of the file; 0 in tar, which has none.
    reason : str
        Why the member cannot be read; empty where it can be.
    """

    name: bytes
    offset: int
    length: int
    compressed_length: int
    method: int = STORED
    crc: int = 0
    reason: str = ""


class _MemberSource(ByteSource):
    """What both kinds of members have: a container that is looked at, and closed with them."""

    __slots__ = ("_container", "name", "size", "version")

    def __init__(self, container: ByteSource, member: Member, name: str | None) -> None:
        self.name = name
        self.size = member.length
        self.version: Fingerprint | None = container.version
        self._container = container

    def check(self) -> None:
        """Look at the container; see `ByteSource.check`."""
        try:
            self._container.check()
        except MMIndexError as error:
            error.path = self.name
            raise

    def check_if_due(self) -> None:
        """Look at the container if that is due; see `ByteSource.check_if_due`."""
        self._container.check_if_due()

    def close(self) -> None:
        """Close the container; see `ByteSource.close`."""
        self._container.close()


class StoredMember(_MemberSource):
    """A range of a container; offsets count in the container.

    Parameters
    ----------
    container : ByteSource
        The container, which is closed with this source.
    member : Member
        Where the member is; it is stored.
    name : str or None
        What errors call it.
    """

    __slots__ = ("_end", "first")

    def __init__(self, container: ByteSource, member: Member, name: str | None) -> None:
        super().__init__(container, member, name)
        self.first = member.offset
        self._end = member.offset + member.length

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        if not self.first <= offset <= offset + length <= self._end:
            raise self._outside(offset, length)
        try:
            return self._container.read(offset, length)
        except MMIndexError as error:
            error.path = self.name
            raise

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range; see `ByteSource.read_many`."""
        for offset, length in ranges:
            if not self.first <= offset <= offset + length <= self._end:
                raise self._outside(offset, length)
        try:
            return self._container.read_many(ranges)
        except MMIndexError as error:
            error.path = self.name
            raise

    def view(self, offset: int, length: int) -> memoryview:
        """Return these bytes of the mapped container; see `ByteSource.view`."""
        if not self.first <= offset <= offset + length <= self._end:
            raise self._outside(offset, length)
        try:
            return self._container.view(offset, length)
        except MMIndexError as error:
            error.path = self.name
            raise

    def _outside(self, offset: int, length: int) -> FormatError:
        """Return the error of a range that is not within the member; a change comes first."""
        self.check()
        if offset < self.first:
            return outside(self.name, -1, length, 0)
        return outside(self.name, offset, length, self._end)


class DeflatedMember(_MemberSource):
    """A deflated file of a container, inflated when it is first read; offsets count in the file.

    Parameters are those of StoredMember; the member is deflated.
    """

    __slots__ = ("_inflated", "_lock", "_member")

    def __init__(self, container: ByteSource, member: Member, name: str | None) -> None:
        super().__init__(container, member, name)
        self._member = member
        self._inflated: MemorySource | None = None
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes of the file; see `ByteSource.read`."""
        return bytes(self.view(offset, length))

    def view(self, offset: int, length: int) -> memoryview:
        """Return these bytes of the inflated file; see `ByteSource.view`.

        Raises
        ------
        FormatError
            The member does not inflate to the length and the CRC that the container says.
        """
        try:
            inflated = self._inflated
            if inflated is None:
                with self._lock:
                    inflated = self._inflated or self._inflate()
                    self._inflated = inflated
            return inflated.view(offset, length)
        except MMIndexError as error:
            error.path = self.name
            raise

    def close(self) -> None:
        """Release the inflated file, and close the container."""
        super().close()
        if self._inflated is not None:
            self._inflated.close()

    def _inflate(self) -> MemorySource:
        member = self._member
        data = self._container.read(member.offset, member.compressed_length)
        return MemorySource(inflate_member(member, data), self.name, self._container)


def inflate_member(member: Member, deflated: bytes) -> bytes:
    """Return the file that a deflated member holds.

    Raises
    ------
    FormatError
        The bytes do not inflate to the length and the CRC that the container says.
    """
    if member.length > min(len(deflated) * _MAX_RATIO, MAX_INFLATED_LENGTH):
        raise FormatError(
            f"{len(deflated)} deflated bytes cannot be the {member.length} that the container says",
            offset=member.offset,
        )
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = decompressor.decompress(deflated, member.length + 1)
    except zlib.error as error:
        raise FormatError(f"expected a deflated member: {error}", offset=member.offset) from error
    if len(data) != member.length or not decompressor.eof:
        raise FormatError(
            f"the member does not inflate to the {member.length} bytes that the container says",
            offset=member.offset,
        )
    if zlib.crc32(data) != member.crc:
        raise FormatError(
            f"the member is damaged: expected CRC {member.crc:08x}, found {zlib.crc32(data):08x}",
            offset=member.offset,
        )
    return data


def find_name_problem(name: bytes) -> str:
    """Return why a name of a member names no file in the container, or nothing."""
    if not name or b"\0" in name:
        return "the member has no name that a file may have"
    if name[:1] == b"/" or (b".." in name and b".." in name.split(b"/")):
        return "the member's name leads out of the container"
    return ""


def strip_name(name: bytes) -> bytes:
    """Return a name without "./" before it, as `tar c .` writes it."""
    while name.startswith(b"./"):
        name = name[2:].lstrip(b"/")
    return name
