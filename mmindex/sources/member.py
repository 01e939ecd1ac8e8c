"""Members of tar and zip containers as sources of bytes: in place, or inflated once.

A stored member is a range of its container, and offsets count in the container. A deflated one
is inflated into memory when it is first read, within the length the container declares, and its
CRC is checked.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from mmindex.errors import FormatError, naming
from mmindex.model import Fingerprint, Member
from mmindex.own_lock import OwnLock
from mmindex.scan.inflate import MAX_INFLATED_LENGTH, inflate_up_to
from mmindex.sources.base import ByteSource, outside
from mmindex.sources.memory import MemorySource

STORED, DEFLATED = 0, 8  # methods as zip numbers them (APPNOTE 4.4.5)
LONGEST_NAME = 4096  # bytes of a name; that of a folder and a file have at most these
_MAX_U8, _MAX_U1 = (1 << 64) - 1, 0xFF
_SUSPECT = b"./"  # with which names begin that are not as they should be
NO_FILE = "the last member of this name is a link, a folder or a device, and no file"
UNNAMED = b"."  # what a member is called that has no name: none that is read has this one
_LONGEST_SCRAP = 1 << 16  # deflated bytes of a short file, which flushes may make longer than it is
_MAX_RATIO = 1040  # deflate cannot do more: 258 bytes of two bits


class FoundMember(NamedTuple):
    """A file that the walk of a container has found: a Member, or why it cannot be read.

    The other attributes are those of Member, with whatever numbers the container claims.

    Attributes
    ----------
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

    def as_member(self) -> Member:
        """Return where the file lies, in numbers that a record holds."""
        return Member(
            self.name,
            min(self.offset, _MAX_U8),
            min(self.length, _MAX_U8),
            min(self.compressed_length, _MAX_U8),
            min(self.method, _MAX_U1),
            self.crc,
        )


class InflatedFiles:
    """Inflated files of an archive, those that were read last, up to a number of bytes together.

    The last one stays whatever its length. Many threads may use it: each step is one call of an
    OrderedDict, and what is lost to another thread is inflated again.
    """

    __slots__ = ("_files", "_most", "_total")

    def __init__(self, most: int = 1 << 28) -> None:
        self._most = most
        self._files: OrderedDict[object, bytes | memoryview] = OrderedDict()
        self._total = 0  # bytes, too many where threads add at the same time

    def get(self, key: object) -> bytes | memoryview | None:
        """Return a file that is kept; None of others."""
        data = self._files.get(key)
        if data is not None:
            with suppress(KeyError):  # another thread has let go of it
                self._files.move_to_end(key)
        return data

    def keep(self, key: object, data: bytes | memoryview) -> None:
        """Keep a file, and let go of those that were not read for longest."""
        files = self._files
        files[key] = data
        self._total += len(data)
        if self._total <= self._most:
            return
        total = sum(map(len, list(files.values())))
        while total > self._most * 3 // 4 and len(files) > 1:  # not at the next file again
            total -= len(files.popitem(last=False)[1])
        self._total = total


class _MemberSource(ByteSource):
    """The common part of both kinds of members: a container that is checked.

    Other members may read the container, too: who has it last closes it by letting go of it.
    """

    __slots__ = ("_container", "_naming", "name", "size", "version")

    def __init__(self, container: ByteSource, member: Member, name: str | None) -> None:
        self.name = name
        self.size = member.length
        self.version: Fingerprint | None = container.version
        self._container = container
        self._naming = naming(name, instead_of=container.name)

    @property
    def at_once(self) -> int:  # type: ignore[override]
        """As of the container."""
        return self._container.at_once

    def check(self) -> None:
        """Look at the container; see `ByteSource.check`."""
        with self._naming:
            self._container.check()

    def check_if_due(self) -> None:
        """Look at the container if that is due; see `ByteSource.check_if_due`."""
        with self._naming:
            self._container.check_if_due()

    def close(self) -> None:
        """Let go of the container; see `ByteSource.close`."""
        self._container = _CLOSED


class StoredMember(_MemberSource):
    """A range of a container; offsets count in the container.

    Parameters
    ----------
    container : ByteSource
        The container.
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
        with self._naming:
            return self._container.read(offset, length)

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range; see `ByteSource.read_many`."""
        for offset, length in ranges:
            if not self.first <= offset <= offset + length <= self._end:
                raise self._outside(offset, length)
        with self._naming:
            return self._container.read_many(ranges)

    def view(self, offset: int, length: int) -> memoryview:
        """Return these bytes of the mapped container; see `ByteSource.view`."""
        if not self.first <= offset <= offset + length <= self._end:
            raise self._outside(offset, length)
        with self._naming:
            return self._container.view(offset, length)

    def _outside(self, offset: int, length: int) -> FormatError:
        """Return the error of a range that is not within the member; a change comes first."""
        self.check()
        if offset < self.first:
            return outside(self.name, -1, length, 0)
        return outside(self.name, offset, length, self._end)


class DeflatedMember(_MemberSource):
    """A deflated file of a container, inflated when it is first read; offsets count in the file.

    Parameters
    ----------
    container, member, name
        As of StoredMember; the member is deflated.
    inflated : InflatedFiles
        What keeps the inflated file. A file that it let go of is inflated again.
    """

    __slots__ = ("_inflated", "_key", "_lock", "_member")

    def __init__(
        self, container: ByteSource, member: Member, name: str | None, inflated: InflatedFiles
    ) -> None:
        super().__init__(container, member, name)
        self._member = member
        self._inflated = inflated
        known = container.name is not None and container.version is not None
        self._key = (container.name, container.version, member) if known else object()
        self._lock = OwnLock()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes of the file; see `ByteSource.read`."""
        return bytes(self.view(offset, length))

    def view(self, offset: int, length: int) -> memoryview:
        """Return these bytes of the inflated file; see `ByteSource.view`.

        Raises
        ------
        FormatError
            The member does not inflate to the length and the CRC that the container declares.
        """
        with self._naming:
            data = self._inflated.get(self._key)
            if data is None:
                with self._lock:
                    data = self._inflated.get(self._key)
                    if data is None:
                        data = self._inflate()
                        self._inflated.keep(self._key, data)
            self._container.check_if_due()
        if not 0 <= offset <= offset + length <= self.size:
            raise outside(self.name, offset, length, self.size)
        return memoryview(data)[offset : offset + length]

    def close(self) -> None:
        """Let go of the inflated file and of the container."""
        super().close()
        self._inflated = InflatedFiles()

    def _inflate(self) -> bytes | memoryview:
        member = self._member
        check_lengths(member)
        data = self._container.read(member.offset, member.compressed_length)
        return inflate_member(member, data)


def check_lengths(member: Member) -> None:
    """Raise FormatError for a deflated member whose lengths cannot be true, before it is read."""
    compressed, length = member.compressed_length, member.length
    if length > min(compressed * _MAX_RATIO, MAX_INFLATED_LENGTH):
        raise FormatError(
            f"{compressed} deflated bytes cannot be the {length} the container declares",
            offset=member.offset,
        )
    if compressed > 2 * length + _LONGEST_SCRAP:
        raise FormatError(
            f"{compressed} deflated bytes are too many for the {length} the container declares",
            offset=member.offset,
        )


def inflate_head(deflated: bytes, length: int) -> bytes:
    """Return the first bytes of a file that a deflated member holds, as many as can be inflated."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, length)
    except zlib.error:
        return b""


def inflate_member(
    member: Member, deflated: bytes, begin_long: Callable[[], object] = lambda: None
) -> bytes | memoryview:
    """Return the file that a deflated member holds.

    Parameters
    ----------
    begin_long : callable
        Called once before the file takes more memory than `LONG_INFLATED`.

    Raises
    ------
    FormatError
        The bytes do not inflate to the length and the CRC that the container declares.
    """
    check_lengths(member)
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        with memoryview(deflated) as stream:
            data = inflate_up_to(decompressor, stream, member.length + 1, begin_long)
    except zlib.error as error:
        raise FormatError(f"expected a deflated member: {error}", offset=member.offset) from error
    if len(data) != member.length or not decompressor.eof:
        raise FormatError(
            f"the member does not inflate to the {member.length} bytes that the container declares",
            offset=member.offset,
        )
    if zlib.crc32(data) != member.crc:
        raise FormatError(
            f"the member is damaged: expected CRC {member.crc:08x}, found {zlib.crc32(data):08x}",
            offset=member.offset,
        )
    return data


def check_name(name: bytes) -> tuple[bytes, str]:
    """Return the name that a member is known by, and why it names no file, or nothing.

    One that is too long is cut, one that is empty is UNNAMED.
    """
    is_plain = name and name[0] not in _SUSPECT and 0 not in name and len(name) <= LONGEST_NAME
    if is_plain and name.find(b"..") < 0:  # as most names are; `in` takes three times as long
        return name, ""
    name = strip_name(name)
    if not name or name == UNNAMED or b"\0" in name:
        return name[:LONGEST_NAME] or UNNAMED, "the member has no name that a file may have"
    if len(name) > LONGEST_NAME:
        why = f"the member's name has {len(name)} bytes, over {LONGEST_NAME}"
        return name[:LONGEST_NAME], why
    if name[:1] == b"/" or (b".." in name and b".." in name.split(b"/")):
        return name, "the member's name leads out of the container"
    return name, ""


def strip_name(name: bytes) -> bytes:
    """Return a name without "./" before it, as `tar c .` writes it."""
    at = 0
    while name.startswith(b"./", at):
        at += 2
        while name.startswith(b"/", at):
            at += 1
    return name[at:]


_CLOSED = MemorySource(b"")
_CLOSED.close()
