"""Shelf: what is served, an archive or one file, with instances kept open between requests.

UIDs lead to records and records to files; nothing of a request is ever part of a path.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic

import mmindex
from mmindex import Archive, Instance, InstanceRecord
from mmindex.attributes import Json
from mmindex.errors import InstanceNotFoundError, MMIndexError, StaleIndexError
from mmindex.index.databases import AttributesKind
from mmindex.model import SEPARATOR, Boundaries, Fingerprint, Status
from mmindex.serve.current import CurrentArchive

_AT_ONCE = getattr(os, "RWF_NOWAIT", None)  # reads what is in memory, or says that waiting is due
_READ_AHEAD = 2 << 20  # bytes after a frame that was not in memory: a player wants its neighbours
_NOT_AT_ONCE = (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Located:
    """A record with the full path of its file."""

    record: InstanceRecord
    path: str


class Held:
    """An instance that is kept open.

    Attributes
    ----------
    instance : Instance
        The open instance.
    record : InstanceRecord
        Its record.
    etag : str
        What tells this state of the file from any other; the beginning of an ETag.
    due : float
        When the index and the file have to be looked at again, by `time.monotonic`.
    """

    __slots__ = ("_descriptor", "due", "etag", "instance", "record")

    def __init__(self, instance: Instance, due: float) -> None:
        self.instance = instance
        self.record = instance.record
        self.etag = make_etag(instance.record)
        self.due = due
        self._descriptor = _open_again(instance)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def read_at_once(self, frame_index: int) -> bytearray | None:
        """Return a frame that lies in memory, in one piece; None where reading could wait.

        The disk is never waited for: the event loop calls this.

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
        found = bytearray(length)
        try:
            count = os.preadv(self._descriptor, [found], offset, _AT_ONCE)
        except OSError as error:
            if error.errno in _NOT_AT_ONCE:
                return None
            raise
        return found if count == length else None

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
    if path is None or record.status is not Status.INDEXED or record.fingerprint is None:
        return -1
    bits = record.image_pixel.bits_allocated or 0
    if record.boundaries is Boundaries.NATIVE and bits % 8:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return -1
    found = Fingerprint.of(os.stat(descriptor))
    if (found.size, found.mtime_ns) != (record.fingerprint.size, record.fingerprint.mtime_ns):
        os.close(descriptor)
        return -1
    return descriptor


def make_etag(record: InstanceRecord) -> str:
    """Return what changes when the file or its record does."""
    state = (record.sop_instance_uid, record.key, record.fingerprint, record.number_of_frames)
    return blake2b(repr(state).encode(), digest_size=9).hexdigest()


class Shelf:
    """The archive or the file that is served.

    Parameters
    ----------
    source : Archive or path
        An archive, its folder or index; or one DICOM file, which is scanned.
    most_open : int
        How many instances are kept open.
    revalidate_after : float
        Seconds after which the index and a file are looked at again.
    """

    def __init__(
        self,
        source: Archive | str | os.PathLike[str],
        *,
        most_open: int = 256,
        revalidate_after: float = 1.0,
    ) -> None:
        self._given: Archive | None = None
        self._current: CurrentArchive | None = None
        self._path = self._file_path = ""  # of a member of a container, that and the container
        self._scanned: Instance | None = None
        if isinstance(source, Archive):
            self._given = source
        elif _is_dicom_file(source) or _is_member(source):
            self._path = os.path.abspath(source)
            self._file()  # says now if it cannot be read
        else:
            archive = mmindex.open(source, revalidate_after=revalidate_after)
            self._current = CurrentArchive(archive)
        self._most_open = most_open
        self._revalidate_after = revalidate_after
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def _archive(self) -> Archive | None:
        """The archive that was given, or that of the index at the path now; None of a file."""
        return self._given if self._current is None else self._current.get()

    def held(self, uid: str) -> Held | None:
        """Return an instance that is open and was looked at lately; waits for nothing."""
        held = self._held.get(uid)
        return held if held is not None and monotonic() < held.due else None

    def open(self, uid: str) -> Held:
        """Return the instance with this SOP Instance UID as the index has it now, open.

        Raises
        ------
        InstanceNotFoundError
            There is none.
        StaleIndexError, MissingFileError, FormatError
            The file changed after it was indexed, is gone, or cannot be read.
        """
        held = self.held(uid)
        if held is not None:
            return held
        due = monotonic() + self._revalidate_after
        try:
            instance = self._open_instance(uid)
        except MMIndexError:
            with self._lock:
                self._held.pop(uid, None)
            raise
        kept = self._held.get(uid)
        if kept is not None and kept.record == instance.record:
            kept.due = due
            return kept
        held = Held(instance, due)
        with self._lock:
            self._held[uid] = held
            self._held.move_to_end(uid)
            while len(self._held) > self._most_open:
                self._held.popitem(last=False)
        return held

    def _open_instance(self, uid: str) -> Instance:
        archive = self._archive
        if archive is not None:
            return archive[uid]
        instance = self._file()
        if instance.record.sop_instance_uid != uid:
            raise InstanceNotFoundError(f"there is no SOP Instance UID {uid!r}")
        return instance

    def _file(self) -> Instance:
        """Return the one file that is served, scanned again only if it changed."""
        known = self._scanned
        if known is not None and known.record.fingerprint == _fingerprint(self._file_path):
            return known
        self._scanned = mmindex.open_file(self._path)
        self._file_path = self._scanned.file_path or self._path
        return self._scanned

    def study_uids(self) -> list[str]:
        """Return the Study Instance UIDs in the order in which they are listed."""
        archive = self._archive
        if archive is None:
            return [self._file().record.study_instance_uid]
        return list(archive.study_uids())

    def walk_study(self, uid: str) -> Iterator[InstanceRecord]:
        """Yield the record of every instance of a study."""
        archive = self._archive
        if archive is None:
            yield self._file().record
            return
        for record in archive.records(study_instance_uid=uid):
            if record.status.is_instance and record.sop_instance_uid:
                yield record

    def state(self, uid: str) -> tuple[int, ...]:
        """Return what changes when a file of a study does."""
        archive = self._archive
        if archive is None:
            fingerprint = self._file().record.fingerprint
            return () if fingerprint is None else fingerprint
        return tuple(archive.file_ids(uid))

    def attributes(self, kind: AttributesKind, uid: str) -> Json | None:
        """Return what the index keeps of a study or series; None where that is not known."""
        archive = self._archive
        return None if archive is None else archive.attributes_json(kind, uid)

    def kept_tags(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the tags that the index keeps of studies and of series, as DICOM JSON has them."""
        archive = self._archive
        kept = None if archive is None else archive.kept_attributes()
        of_studies, of_series = ((), ()) if kept is None else kept.levels
        return frozenset(map("{:08X}".format, of_studies)), frozenset(
            map("{:08X}".format, of_series)
        )

    def version(self) -> Version:
        """Return what changes when a build commits; costs one `stat`."""
        archive = self._archive
        path = self._file_path if archive is None else archive.path
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise StaleIndexError("the index is gone; rebuild the archive") from None
        return status.st_size, status.st_mtime_ns, status.st_ino

    def close(self) -> None:
        """Let go of the instances that are kept open."""
        with self._lock:
            self._held.clear()


def _fingerprint(path: str) -> Fingerprint | None:
    try:
        return Fingerprint.of(os.stat(path))
    except OSError:
        return None


def _is_member(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is like that of a file in a container, and of no file of its own."""
    return SEPARATOR in os.fspath(path) and not os.path.exists(path)


def _is_dicom_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of a file with the DICOM prefix (PS3.10 7.1)."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
