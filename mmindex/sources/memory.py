"""Bytes in memory: a buffer of the caller's, or what a file object held."""

from __future__ import annotations

from collections.abc import Sequence

from mmindex.frame_table import ByteRange
from mmindex.model import Buffer, Fingerprint
from mmindex.sources.base import ByteSource, outside


class MemorySource(ByteSource):
    """A buffer, which is not copied.

    Parameters
    ----------
    buffer : bytes, bytearray, memoryview or mmap
        The bytes. One that can be written to must not change while the source is in use.
    name : str, optional
        What errors call it.
    origin : ByteSource, optional
        What the bytes were made of: every read looks at it as if it were read.
    """

    __slots__ = ("_buffer", "_origin", "name", "size", "version")

    def __init__(
        self, buffer: Buffer | bytearray, name: str | None = None, origin: ByteSource | None = None
    ) -> None:
        self.name = name
        self._buffer = memoryview(buffer).toreadonly()
        self._origin = origin
        self.size = len(self._buffer)
        self.version: Fingerprint | None = None if origin is None else origin.version

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        return bytes(self.view(offset, length))

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range; see `ByteSource.read_many`."""
        return [bytes(self.view(offset, length)) for offset, length in ranges]

    def read_joined(self, ranges: Sequence[ByteRange]) -> bytes:
        """Return the bytes of ranges, joined; see `ByteSource.read_joined`."""
        return b"".join([self.view(offset, length) for offset, length in ranges])

    def view(self, offset: int, length: int) -> memoryview:
        """Return exactly these bytes without a copy; see `ByteSource.view`."""
        if self._origin is not None:
            self._origin.check_if_due()
        if not 0 <= offset <= offset + length <= self.size:
            if self.size < 0:
                raise ValueError("the source is closed")
            raise outside(self.name, offset, length, self.size)
        return self._buffer[offset : offset + length]

    def check(self) -> None:
        """Look at the origin; see `ByteSource.check`."""
        if self._origin is not None:
            self._origin.check()

    def check_if_due(self) -> None:
        """Look at the origin if that is due; see `ByteSource.check_if_due`."""
        if self._origin is not None:
            self._origin.check_if_due()

    def close(self) -> None:
        """Release the buffer: views that are still in use keep it."""
        self.size = -1
        self._buffer = memoryview(b"")
        self._origin = None
