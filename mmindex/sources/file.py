"""A file of a local file system, watched for changes.

Bytes are copied with pread, which says when a file has become shorter; a map would kill the
process. Every read is followed by a look at the file, if one is due: what was read before the
look is what was scanned.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import NoReturn, overload

from mmindex.errors import MissingFileError, StaleIndexError, is_missing
from mmindex.frame_table import ByteRange
from mmindex.model import Fingerprint, VersionKind
from mmindex.sources.base import ByteSource, cut, outside

READ_WHOLE = 1 << 16  # bytes up to which reading a file is faster than mapping it
_MOST_PIECES = 500  # ranges that one preadv takes, with what is between them
_LONGEST_SCRAP = 4096  # bytes between ranges that are read over
_LOCAL = VersionKind.LOCAL.value
_COPIED = 1 << 16  # bytes up to which a copy costs less than the calls that avoid it


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
    if "\0" in path:  # os.open raises ValueError
        raise MissingFileError("a path has no NUL character", path=path)
    try:
        return Descriptor(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        if is_missing(error) or error.errno == errno.ENAMETOOLONG:  # as of a member may be
            raise MissingFileError(missing, path=path) from None
        raise


class _ClosedDescriptor(Descriptor):
    """The descriptor of a source that was closed."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError("the source is closed")

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        pass


_CLOSED = _ClosedDescriptor()


@overload
def read_range(path: bytes, version: Fingerprint, offset: int, length: int) -> bytes | None: ...


@overload
def read_range(
    path: bytes, version: Fingerprint, offset: int, length: int, room: memoryview
) -> memoryview | None: ...


def read_range(
    path: bytes, version: Fingerprint, offset: int, length: int, room: memoryview | None = None
) -> bytes | memoryview | None:
    """Return bytes of a file that is opened for them alone.

    None where the file is missing, another one, or shorter: a FileSource tells which.

    Parameters
    ----------
    room : memoryview of uint8, optional
        `length` bytes that the file's are read into; returned then.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        data: bytes | memoryview
        if room is None:
            data = os.pread(number, length, offset)
        else:
            data = room[: os.preadv(number, (room,), offset)]
        status = os.fstat(number)  # after the read: so that was not of a later file
    except OSError:
        return None
    finally:
        os.close(number)
    if len(data) != length:
        return None
    if (status.st_size, status.st_mtime_ns, status.st_ino, _LOCAL) == version:
        return data  # most reads end here
    return data if version.matches(Fingerprint.of(status)) else None


class FileSource(ByteSource):
    """A file as it was when its fingerprint was taken.

    Parameters
    ----------
    descriptor : Descriptor
        The open file.
    name : str or None
        Its path.
    version : Fingerprint
        What the file has to be.
    revalidate_after : float
        Seconds after which a read checks the file again.
    by_path : bool
        Whether the file at the path is checked; else only the open file itself.
    is_checked : bool
        Whether `version` is what the open file was just found to be.

    Raises
    ------
    StaleIndexError, MissingFileError
        The file is another one, or gone: now, or at a later read.
    """

    __slots__ = (
        "__weakref__",  # members of a container share it while one of them is in use
        "_descriptor",
        "_due",
        "_map",
        "_revalidate_after",
        "_watched",
        "name",
        "size",
        "version",
    )

    def __init__(
        self,
        descriptor: Descriptor,
        name: str | None,
        version: Fingerprint,
        revalidate_after: float,
        *,
        by_path: bool = True,
        is_checked: bool = False,
    ) -> None:
        self.name = name
        self.size = version.size
        self.version: Fingerprint = version
        self._watched = name if by_path else None
        self._descriptor = descriptor
        self._revalidate_after = revalidate_after
        self._map: memoryview | None = None
        self._due = 0.0
        if not is_checked:
            self._compare(Fingerprint.of(os.stat(descriptor.number)))

    def check(self) -> None:
        """Raise StaleIndexError or MissingFileError unless the file is as it was."""
        now = monotonic()
        descriptor = self._descriptor
        watched = descriptor.number if self._watched is None else self._watched
        try:
            found = Fingerprint.of(os.stat(watched))
        except OSError as error:
            if is_missing(error):
                raise MissingFileError("the file is gone", path=self.name) from None
            raise
        self._compare(found)
        self._due = now + self._revalidate_after

    def check_if_due(self) -> None:
        """Call `check` if `revalidate_after` seconds have passed since the last call."""
        if monotonic() >= self._due:
            self.check()

    def close(self) -> None:
        """Close the file once no read is under way; views that are still in use keep it mapped."""
        self._descriptor = _CLOSED
        self._map = None

    def _compare(self, found: Fingerprint) -> None:
        if not self.version.matches(found):
            raise StaleIndexError(
                f"{_describe_change(self.version, found)}; rebuild the index",
                path=self.name,
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
        descriptor = self._descriptor  # held: a close meanwhile must not free its number
        if offset + length > self.size:  # and pread takes the memory first
            self.check()
            raise outside(self.name, offset, length, self.size)
        try:
            data = os.pread(descriptor.number, length, offset)
        except OSError:
            self.check()
            if offset < 0 or length < 0:
                raise outside(self.name, offset, length, self.size) from None
            raise
        if len(data) != length:
            data = self._read_on(descriptor, data, offset, length)
        if monotonic() >= self._due:
            self.check()
        return data

    def read_into(self, offset: int, room: memoryview) -> None:
        """Fill `room` without a copy on the way; see `ByteSource.read_into`."""
        descriptor = self._descriptor
        done = -1
        if 0 <= offset <= self.size - len(room):  # preadv takes -1 for where the file stands
            with suppress(OSError):
                done = os.preadv(descriptor.number, (room,), offset)
        if done != len(room):  # `read` says why, or reads on
            super().read_into(offset, room)
        elif monotonic() >= self._due:
            self.check()

    def read_joined(self, ranges: Sequence[ByteRange]) -> bytes:
        """Return the bytes of ascending ranges that lie near each other, joined.

        They are read at once: a little with what is between them, more into what is returned,
        and what is between them into a scrap.

        Raises
        ------
        TruncatedFrameError, StaleIndexError, MissingFileError
            As `read`.
        """
        if not ranges:
            return b""
        start, end = ranges[0].offset, ranges[-1].offset + ranges[-1].length
        if end - start <= _COPIED:
            data = self.read(start, end - start)
            return b"".join(
                [data[offset - start : offset - start + length] for offset, length in ranges]
            )
        length = sum(piece.length for piece in ranges)
        if len(ranges) > _MOST_PIECES or end - start - length > _LONGEST_SCRAP:
            return b"".join([self.read(*piece) for piece in ranges])
        if end > self.size or start < 0:
            self.check()
            raise outside(self.name, start, end - start, self.size)
        joined, scrap = io.BytesIO(bytes(length)), bytearray(_LONGEST_SCRAP)
        descriptor = self._descriptor
        with joined.getbuffer() as view, memoryview(scrap) as scraps:
            pieces, at, position = [], 0, start
            for offset, piece_length in ranges:
                pieces += [scraps[: offset - position], view[at : at + piece_length]]
                at += piece_length
                position = offset + piece_length
            read = os.preadv(descriptor.number, pieces, start)
            for piece in pieces:
                piece.release()
        if read != end - start:  # the file became shorter, or there are over 2 GiB
            return b"".join([self.read(*piece) for piece in ranges])
        self.check_if_due()
        return joined.getvalue()  # the bytes that were read into, not a copy

    def _read_on(self, descriptor: Descriptor, data: bytes, offset: int, length: int) -> bytes:
        """Read what a pread left out: it returns at most 2 GiB at once."""
        pieces, done = [data], len(data)
        while done < length:
            piece = os.pread(descriptor.number, length - done, offset + done)
            if not piece:
                self.check()
                raise cut(self.name, offset, length, done)
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
        if not 0 <= offset <= offset + length <= len(mapped):
            raise outside(self.name, offset, length, len(mapped))
        return mapped[offset : offset + length]

    def _map_file(self) -> memoryview:
        descriptor = self._descriptor
        number = descriptor.number
        self.check()
        if not self.size:
            return memoryview(b"")
        import mmap  # not of a frame that is read once

        return memoryview(mmap.mmap(number, 0, access=mmap.ACCESS_READ))


def _describe_change(expected: Fingerprint, found: Fingerprint) -> str:
    if found._replace(inode=expected.inode) == expected:
        return (
            f"the file is another one, of inode {found.inode}, with the size and time of the old; "
            "of an archive that was copied, `mmindex build --moved-from` takes over the index"
        )
    return (
        f"the file changed: expected {expected.size} bytes of {expected.mtime_ns} ns, "
        f"found {found.size} bytes of {found.mtime_ns} ns"
    )


def write_at(number: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the data to an open file at an offset: one call may write less of it.

    Raises
    ------
    OSError
        The file cannot be written, for one where the disk is full.
    """
    rest = memoryview(data)
    while rest:
        written = os.pwrite(number, rest, offset)
        rest, offset = rest[written:], offset + written
