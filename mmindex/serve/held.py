"""Held: an instance that is kept open between requests, and its frames that lie in memory."""

from __future__ import annotations

import errno
import os
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from mmindex import Archive, Instance, InstanceRecord, __version__
from mmindex.model import Boundaries, Fingerprint, Status, is_url

if TYPE_CHECKING:
    from mmindex.serve.frames import Form

_AT_ONCE = getattr(os, "RWF_NOWAIT", None)  # reads what is in memory, or says that waiting is due
_READ_AHEAD = 2 << 20  # bytes after a frame that was not in memory: a player wants its neighbours
_NOT_AT_ONCE = (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Uids(NamedTuple):
    """The UIDs that name an instance in a URL."""

    study: str
    series: str
    instance: str

    @classmethod
    def of(cls, record: InstanceRecord) -> Uids:
        """Return the UIDs of a record."""
        return cls(record.study_instance_uid, record.series_instance_uid, record.sop_instance_uid)


class Held:
    """An instance that is kept open.

    Attributes
    ----------
    instance : Instance
        The open instance.
    record : InstanceRecord
        Its record.
    uids : Uids
        Its UIDs.
    etag : str
        What tells this state of the file from any other; the beginning of an ETag.
    due : float
        When the index and the file have to be looked at again, by `time.monotonic`.
    version : Fingerprint or None
        That of the file that is open.
    archive : Archive or None
        Where it comes from, which has the table of its frames; None of one file.
    forms : dict
        How its frames go to clients, by what these take.
    """

    __slots__ = (
        *("_descriptor", "archive", "due", "etag", "forms"),
        *("instance", "record", "uids", "version"),
    )

    def __init__(self, instance: Instance, due: float, archive: Archive | None) -> None:
        self.instance = instance
        self.record = instance.record
        self.uids = Uids.of(instance.record)
        self.version = instance.file_version
        self.etag = _make_etag(instance)
        self.due = due
        self.archive = archive
        self.forms: dict[str, Form] = {}
        self._descriptor = _open_again(instance)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def read_at_once(self, frame_index: int, longest: int | None = None) -> bytearray | None:
        """Return a frame that lies in memory, in one piece; None where reading could wait.

        The disk is never waited for: the event loop calls this.

        Parameters
        ----------
        frame_index : int
            Index from 0 on.
        longest : int, optional
            Bytes from which a frame is left to those who can wait.

        Raises
        ------
        MMIndexError
            As `FrameTable.contiguous_range`.
        """
        if self._descriptor < 0 or _AT_ONCE is None or self.record.frames is None:
            return None
        place = self.record.frames.contiguous_range(frame_index)  # as `Instance.view` has it
        if place is None:
            return None
        offset, length = place
        if longest is not None and length >= longest:
            return None
        found = bytearray(length)
        try:
            count = os.preadv(self._descriptor, [found], offset, _AT_ONCE)
        except OSError as error:
            if error.errno in _NOT_AT_ONCE:
                return None
            raise
        if count != length or (monotonic() >= self.due and not self._is_as_opened()):
            return None
        return found

    def _is_as_opened(self) -> bool:
        return self.version is not None and self.version.matches(
            Fingerprint.of(os.fstat(self._descriptor))
        )

    @property
    def is_remote(self) -> bool:
        """Whether the file is an object of a store."""
        return is_url(self.instance.path)

    def check(self) -> None:
        """Look at the file now; raises StaleIndexError or MissingFileError as `ByteSource.check`.

        That of a deflated data set is looked at when it is read.
        """
        if self.record.status is not Status.DEFLATED:
            self.instance.source.check()

    def read(self, frame_index: int) -> bytes:
        """Return a frame, and have its neighbours read ahead; a thread calls this.

        Raises
        ------
        MMIndexError
            As `Instance.frame`.
        """
        frame = self.instance.frame(frame_index)
        if self._descriptor >= 0 and hasattr(os, "posix_fadvise"):
            last = self.instance.byte_ranges(frame_index)[-1]
            start = last.offset + last.length
            os.posix_fadvise(self._descriptor, start, _READ_AHEAD, os.POSIX_FADV_WILLNEED)
        return frame


def _open_again(instance: Instance) -> int:
    """Return a descriptor of the instance's file as it was indexed, -1 where there is none.

    Frames of an inflated data set have no place in the file.
    """
    record, path = instance.record, instance.file_path
    if path is None or is_url(path) or record.status is not Status.INDEXED:
        return -1
    if instance.file_version is None:
        return -1
    bits = record.image_pixel.bits_allocated or 0
    if record.boundaries is Boundaries.NATIVE and bits % 8:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return -1
    if not instance.file_version.matches(Fingerprint.of(os.fstat(descriptor))):
        os.close(descriptor)
        return -1
    return descriptor


def _make_etag(instance: Instance) -> str:
    """Return what changes when the file or its record does, or how its frames are found."""
    record = instance.record
    layout = None if record.frames is None else record.frames.layout
    state = (
        *(record.sop_instance_uid, record.key, record.fingerprint, instance.file_version),
        *(record.number_of_frames, record.boundaries, layout, __version__),
    )
    return blake2b(repr(state).encode(), digest_size=9).hexdigest()
