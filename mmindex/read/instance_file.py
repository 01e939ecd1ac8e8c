"""The part of `Instance` that reads the file itself, whatever its frames are."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from mmindex.errors import MMIndexError
from mmindex.frame_table import ByteRange
from mmindex.model import SEPARATOR, Fingerprint, InstanceRecord, Status
from mmindex.sources.base import ByteSource
from mmindex.sources.memory import MemorySource

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")
Self = TypeVar("Self", bound="InstanceFile")

CLOSED = MemorySource(b"")


def names_path(
    method: Callable[Concatenate[Self, Arguments], Found],
) -> Callable[Concatenate[Self, Arguments], Found]:
    """Fill in the path of errors that leave a method: the instance's file."""

    @wraps(method)
    def named(self: Self, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Found:
        try:  # `naming` takes as long as a short method
            return method(self, *args, **kwargs)
        except MMIndexError as error:
            error.at(self.path)
            raise

    return named


class InstanceFile:
    """The part of `Instance` that reads the file."""

    __slots__ = ()

    record: InstanceRecord
    path: str | None
    _file: ByteSource

    @property
    def file_path(self) -> str | None:
        """The file that byte ranges count in: `path`; of a member of a container, the container."""
        member = self.record.member
        if self.path is None or member is None:
            return self.path
        return self.path.removesuffix(SEPARATOR + os.fsdecode(member.name))

    @names_path
    def read_file(self, offset: int, length: int) -> bytes:
        """Return bytes of the file itself, of a deflated data set as it is stored.

        Parameters
        ----------
        offset, length : int
            In bytes. Offsets of a stored member of a container count in the container; see
            `file_range`.

        Raises
        ------
        StaleIndexError, MissingFileError, TruncatedFrameError
            As `frame`.
        """
        if self._file is CLOSED:
            raise ValueError("the instance is closed")
        return self._file.read(offset, length)

    @names_path
    def read_header(self) -> bytes:
        """Return the bytes of the file before its pixel data; of a deflated file all of it.

        Raises
        ------
        StaleIndexError, MissingFileError, TruncatedFrameError
            As `frame`.
        """
        record, file = self.record, self._file
        size = file.size
        if record.status is not Status.DEFLATED and record.frames is not None:
            size = min(size, record.frames.value_offset - file.first)
        return self.read_file(file.first, size)

    @property
    def file_range(self) -> ByteRange:
        """The range that `read_file` can read: from 0 on but for a stored member of a container."""
        return ByteRange(self._file.first, self._file.size)

    @property
    def file_version(self) -> Fingerprint | None:
        """The version of the file that is read, in a mirror not the record's; None of bytes."""
        return self._file.version
