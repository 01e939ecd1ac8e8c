"""Exceptions for whatever is wrong with a file, an index or a server.

All derive from MMIndexError and carry `path` and `offset`; where Python has a
convention of its own (IndexError, KeyError, FileNotFoundError, ImportError),
the class follows it too. All pickle, since they cross processes. A wrong argument
raises ValueError or TypeError; errors of the system, such as PermissionError, pass
through.

    MMIndexError
    ├── FormatError               the bytes break the standard where it matters
    │   ├── NotDicomError         no DICOM file at all
    │   ├── TruncatedFrameError   the frame runs past the end of the file
    │   └── AmbiguousFramesError  several readings of the frame boundaries fit
    ├── DecodeError               the frame is there, its pixels cannot be decoded
    ├── NoPixelDataError          the instance has no pixel data
    ├── NotAddressableError       the frame has no bytes of its own in the file
    ├── NotContiguousError        a view of a frame that lies in pieces or off bytes
    ├── FrameIndexError           also an IndexError
    ├── StaleIndexError           the file, or its record, is not the one that was looked up
    ├── MissingFileError          also a FileNotFoundError
    ├── RemoteReadError           also an OSError; a server or store did not return the bytes
    ├── InstanceNotFoundError     also a KeyError
    ├── IndexFormatError          not an mmindex index, or a damaged or foreign one
    ├── IndexWriteError           the index cannot be written: in use, full, another archive's
    └── MissingDependencyError    also an ImportError
"""

from __future__ import annotations

import errno
import os

__all__ = [
    "AmbiguousFramesError",
    "DecodeError",
    "FormatError",
    "FrameIndexError",
    "IndexFormatError",
    "IndexWriteError",
    "InstanceNotFoundError",
    "MMIndexError",
    "MissingDependencyError",
    "MissingFileError",
    "NoPixelDataError",
    "NotAddressableError",
    "NotContiguousError",
    "NotDicomError",
    "RemoteReadError",
    "StaleIndexError",
    "TruncatedFrameError",
]


class MMIndexError(Exception):
    """Base of the errors for whatever is wrong with a file, an index or a server.

    Attributes
    ----------
    message : str
        What went wrong: expected, found, remedy.
    path : str or None
        The file concerned.
    offset : int or None
        Where in the file (or, of a deflated data set, in the inflated one), in bytes.
    """

    def __init__(self, message: str, *, path: str | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.offset = offset

    def __str__(self) -> str:
        place = self.path or ""
        if self.offset is not None:
            place = f"{place} @0x{self.offset:x}".lstrip()
        return f"{place}: {self.message}" if place else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.path, self.offset)

    def at(self, path: str | bytes | None) -> MMIndexError:
        """Return this error with `path` filled in where it is not known yet."""
        if self.path is None and path is not None:
            self.path = os.fsdecode(path)
        return self


def _rebuild(
    kind: type[MMIndexError], message: str, path: str | None, offset: int | None
) -> MMIndexError:
    return kind(message, path=path, offset=offset)


class FormatError(MMIndexError):
    """The bytes break the standard in a way that leaves no safe reading."""


class NotDicomError(FormatError):
    """The bytes are no DICOM file (PS3.10 section 7.1)."""


class TruncatedFrameError(FormatError):
    """The frame runs past the end of the file; what is left of it is not returned."""


class AmbiguousFramesError(FormatError):
    """The fragments allow more than one reading of where frames begin (PS3.5 A.4)."""


class DecodeError(MMIndexError):
    """The frame's bytes are there, but they cannot be decoded to pixels."""


class NoPixelDataError(MMIndexError):
    """The instance has no pixel data."""


class NotAddressableError(MMIndexError):
    """The frame has no bytes of its own in the file: a video stream, a deflated data set."""


class NotContiguousError(MMIndexError):
    """The frame has no view: its bytes lie in several pieces or off byte boundaries."""


class FrameIndexError(MMIndexError, IndexError):
    """The frame index is negative, or not less than the number of frames."""


class StaleIndexError(MMIndexError):
    """The file is not the one that was scanned, or its record was replaced since it was read."""


class MissingFileError(MMIndexError, FileNotFoundError):
    """The file, or the index, is not there."""


class RemoteReadError(MMIndexError, OSError):
    """A server or object store did not return the bytes, even after retries."""


class InstanceNotFoundError(MMIndexError, KeyError):
    """No file of the archive has this SOP Instance UID or path."""


class IndexFormatError(MMIndexError):
    """The file is no mmindex index, is damaged, or has another format version."""


class IndexWriteError(MMIndexError):
    """The index cannot be written: in use, on a full disk, or that of another archive."""


class MissingDependencyError(MMIndexError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class naming:
    """Fill in the path of errors that leave the block, unless they name a file already.

    The block costs a fifth of a microsecond: methods that take little more handle errors in place.

    Parameters
    ----------
    path : str, bytes or None
        The file.
    first : int
        Offset of the first byte that the block reads: added to the offsets of its errors.
    instead_of : str, optional
        A file that errors of the block name: a container, where `path` is a file in it.
    """

    __slots__ = ("_first", "_instead_of", "_path")

    def __init__(
        self, path: str | bytes | None, first: int = 0, instead_of: str | None = None
    ) -> None:
        self._path = path
        self._first = first
        self._instead_of = instead_of

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, MMIndexError):
            if error.path == self._instead_of:
                error.path = None
            if error.path is None and error.offset is not None:
                error.offset += self._first
            error.at(self._path)


def is_missing(error: OSError) -> bool:
    """Return whether a call failed because nothing is at the path: no file, no folder on the way.

    A link that leads to itself leads to nothing, too.
    """
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    return missing or error.errno == errno.ELOOP
