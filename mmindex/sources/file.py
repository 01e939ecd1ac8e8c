"""Where frames are read from: a file that is watched for changes, or bytes in memory.

Bytes are copied with pread, which says when a file has become shorter; a map would kill the
process. Every read is followed by a look at the file, if one is due: what was read before the
look is what was scanned.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NoReturn, Protocol

from mmindex.errors import MissingFileError, StaleIndexError, TruncatedFrameError, is_missing
from mmindex.model import Buffer, ByteRange, Fingerprint

_HAS_PREAD = hasattr(os, "pread")
_HAS_PREADV = hasattr(os, "preadv")
_MOST_PIECES = 500  # ranges that one preadv takes, with what is between them
_LONGEST_SCRAP = 4096  # bytes between ranges that are read over
_COPIED = 1 << 16  # bytes up to which a copy costs less than the calls that avoid it


class Source(Protocol):
    """Bytes of one data set, by offset."""

    path: str | None

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes."""

    def read_joined(self, ranges: Sequence[ByteRange]) -> bytes:
        """Return the bytes of ascending ranges, joined."""

    def view(self, offset: int, length: int) -> memoryview:
        """Return exactly these bytes without a copy, read-only."""


class Descriptor:
    """An open file descriptor that is closed when nobody uses it any more.

    A thread that is reading holds a reference: the number can't be closed under it and
    be given to another file.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open file cannot be copied or pickled: send the Archive or the path")

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.number)


def open_descriptor(path: str, missing: str = "the file is gone") -> Descriptor:
    """Open a file to be read; a FIFO does not make it wait.

    Parameters
    ----------
    missing : str
        What is said where there is none.

    Raises
    ------
    MissingFileError
        There is none.
    OSError
        It cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        return Descriptor(os.open(path, flags))
    except OSError as error:
        if is_missing(error):
            raise MissingFileError(missing, path=path) from None
        raise


class FileSource:
    """A file as it was when its fingerprint was taken.

    Parameters
    ----------
    descriptor : Descriptor
        The open file.
    path : str or None
        Its name.
    fingerprint : Fingerprint
        What the file has to be.
    revalidate_after : float
        Seconds after which a read looks at the file anew.
    by_path : bool
        Whether it is looked for at its path; else only the open file itself is looked at.

    Raises
    ------
    StaleIndexError, MissingFileError
        The file is another one, or gone: now, or at a later read.
    """

    __slots__ = (
        "_descriptor",
        "_due",
        "_fingerprint",
        "_map",
        "_revalidate_after",
        "_size",
        "_watched",
        "path",
    )

    def __init__(
        self,
        descriptor: Descriptor,
        path: str | None,
        fingerprint: Fingerprint,
        revalidate_after: float,
        *,
        by_path: bool = True,
    ) -> None:
        self.path = path
        self._watched = path if path is not None and by_path else descriptor.number
        self._descriptor = descriptor
        self._fingerprint = fingerprint
        self._size = fingerprint.size
        self._revalidate_after = revalidate_after
        self._map: memoryview | None = None
        self._due = 0.0
        self._compare(Fingerprint.of(os.stat(descriptor.number)))
        self.check()

    def check(self) -> None:
        """Raise StaleIndexError or MissingFileError unless the file is as it was."""
        now = monotonic()
        try:
            found = Fingerprint.of(os.stat(self._watched))
        except OSError as error:
            if is_missing(error):
                raise MissingFileError("the file is gone", path=self.path) from None
            raise
        self._compare(found)
        self._due = now + self._revalidate_after

    def check_if_due(self) -> None:
        """Do that if `revalidate_after` seconds have passed since the last time."""
        if monotonic() >= self._due:
            self.check()

    def _compare(self, found: Fingerprint) -> None:
        if found != self._fingerprint:
            raise StaleIndexError(
                f"{_describe_change(self._fingerprint, found)}; build the index anew",
                path=self.path,
            )

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on.

        Raises
        ------
        TruncatedFrameError
            The file ends before them, as it did when it was scanned.
        StaleIndexError, MissingFileError
            The file changed since, or is gone.
        """
        if offset + length > self._size:  # and pread takes the memory first
            self.check()
            raise _cut(self.path, offset, length, max(0, self._size - offset))
        if _HAS_PREAD:
            data = os.pread(self._descriptor.number, length, offset)
        else:
            data = bytes(self.view(offset, length))
        if len(data) != length:
            data = self._read_on(data, offset, length)
        if monotonic() >= self._due:
            self.check()
        return data

    def read_joined(self, ranges: Sequence[ByteRange]) -> bytes:
        """Return the bytes of ascending ranges that lie near each other, joined.

        They are read at once: a little with what is between them, more into what is returned,
        and what is between them into a scrap.

        Raises
        ------
        TruncatedFrameError, StaleIndexError, MissingFileError
            As `read`.
        """
        start, end = ranges[0].offset, ranges[-1].offset + ranges[-1].length
        if end - start <= _COPIED:
            data = self.read(start, end - start)
            return b"".join(
                [data[offset - start : offset - start + length] for offset, length in ranges]
            )
        length = sum(piece.length for piece in ranges)
        if not _HAS_PREADV or len(ranges) > _MOST_PIECES or end - start - length > _LONGEST_SCRAP:
            return b"".join([self.read(*piece) for piece in ranges])
        if end > self._size:
            self.check()
            raise _cut(self.path, start, end - start, max(0, self._size - start))
        joined, scrap = io.BytesIO(bytes(length)), bytearray(_LONGEST_SCRAP)
        with joined.getbuffer() as view, memoryview(scrap) as scraps:
            pieces, at, position = [], 0, start
            for offset, piece_length in ranges:
                pieces += [scraps[: offset - position], view[at : at + piece_length]]
                at += piece_length
                position = offset + piece_length
            read = os.preadv(self._descriptor.number, pieces, start)
            for piece in pieces:
                piece.release()
        if read != end - start:  # the file became shorter, or there are over 2 GiB
            return b"".join([self.read(*piece) for piece in ranges])
        self.check_if_due()
        return joined.getvalue()  # the bytes that were read into, not a copy

    def _read_on(self, data: bytes, offset: int, length: int) -> bytes:
        """Read what a pread left out: it returns at most 2 GiB at once."""
        pieces, done = [data], len(data)
        while done < length:
            piece = os.pread(self._descriptor.number, length - done, offset + done)
            if not piece:
                self.check()
                raise _cut(self.path, offset, length, done)
            pieces.append(piece)
            done += len(piece)
        return b"".join(pieces)

    def view(self, offset: int, length: int) -> memoryview:
        """Return exactly these bytes of the mapped file.

        Raises
        ------
        TruncatedFrameError, StaleIndexError, MissingFileError
            As `read`.
        """
        if monotonic() >= self._due:
            self.check()
        mapped = self._map
        if mapped is None:
            mapped = self._map = self._map_file()
        if offset + length > len(mapped):
            raise _cut(self.path, offset, length, max(0, len(mapped) - offset))
        return mapped[offset : offset + length]

    def _map_file(self) -> memoryview:
        self.check()
        if not self._fingerprint.size:
            return memoryview(b"")
        return memoryview(mmap.mmap(self._descriptor.number, 0, access=mmap.ACCESS_READ))


class BufferSource:
    """Bytes in memory: an inflated data set, or what a file object held.

    Where they were made of a file, that is looked at as if it were read.
    """

    __slots__ = ("_buffer", "_origin", "path")

    def __init__(self, buffer: Buffer, path: str | None, origin: FileSource | None = None) -> None:
        self.path = path
        self._buffer = memoryview(buffer).toreadonly()
        self._origin = origin  # the file that the bytes were made of

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes, or raise TruncatedFrameError."""
        return bytes(self.view(offset, length))

    def read_joined(self, ranges: Sequence[ByteRange]) -> bytes:
        """Return the bytes of ranges, joined, or raise TruncatedFrameError."""
        return b"".join([self.view(*piece) for piece in ranges])

    def view(self, offset: int, length: int) -> memoryview:
        """Return exactly these bytes without a copy, or raise TruncatedFrameError."""
        if self._origin is not None:
            self._origin.check_if_due()
        if offset + length > len(self._buffer):
            raise _cut(self.path, offset, length, max(0, len(self._buffer) - offset))
        return self._buffer[offset : offset + length]


def _describe_change(expected: Fingerprint, found: Fingerprint) -> str:
    if found._replace(inode=expected.inode) == expected:
        return f"the file is another one, of inode {found.inode}, with the size and time of the old"
    return (
        f"the file changed: expected {expected.size} bytes of {expected.mtime_ns} ns, "
        f"found {found.size} bytes of {found.mtime_ns} ns"
    )


def _cut(path: str | None, offset: int, length: int, found: int) -> TruncatedFrameError:
    return TruncatedFrameError(
        f"the frame runs past the end of the file: expected {length} bytes, found {found}",
        path=path,
        offset=offset,
    )
