"""Archive: SOP Instance UID or path -> Instance, by way of the index."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from mmindex.closing import Closing
from mmindex.errors import (
    InstanceNotFoundError,
    MissingFileError,
    MMIndexError,
    StaleIndexError,
)
from mmindex.index.databases import UidKind
from mmindex.index.instance_names import InstanceName, allows, means, uid_of
from mmindex.index.names import find_index_file
from mmindex.index.reader import Reader
from mmindex.model import Fingerprint, InstanceRecord, VersionKind, is_url
from mmindex.read.batches import Batches
from mmindex.read.checks import Checked
from mmindex.read.composed import Composed
from mmindex.read.files_root import find_files_root, find_index_url
from mmindex.read.instance import Instance
from mmindex.read.listings import Listings
from mmindex.read.open_instances import Opened, OpenInstances
from mmindex.read.order import overtaken
from mmindex.read.record_sources import RecordSources
from mmindex.sources.file import read_range

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmindex.sources.base import ByteSource
    from mmindex.sources.bucket import Bucket


Read = TypeVar("Read")


class Archive(Batches, Composed, Checked, Listings, Closing):
    """An index, open for reading; see `mmindex.open`.

    An archive serves many threads, survives a fork, and pickles as its paths. `root` is its
    folder, or the URL of its bucket: a bucket that a process has read is not read after a fork.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        archive_root: str | os.PathLike[str] | None = None,
        store: object = None,
        revalidate_after: float = 1.0,
        max_open_files: int | None = None,
    ) -> None:
        index_url = find_index_url(path)
        if archive_root is not None and not is_url(archive_root):
            archive_root = os.path.realpath(archive_root)
        self._store = Reader(
            find_index_file(path) if index_url is None else _fetch(index_url, store)
        )
        self._reopen = partial(
            open_archive,
            index_url or self._store.path,
            archive_root=archive_root,
            store=store,
            revalidate_after=revalidate_after,
            max_open_files=max_open_files,
        )
        try:
            root = find_files_root(self._store, archive_root, index_url)
        except MMIndexError:
            self._store.close()
            raise
        self.root: str = root.name
        self._root = os.fsencode(root.name)
        self._moved = archive_root is not None
        self._is_mirror = root.is_mirror
        self._is_plain = not (self._moved or root.is_remote or root.is_mirror)
        self._revalidate_after = revalidate_after
        self._sources = RecordSources(root, revalidate_after, store, is_moved=self._moved)
        self._open = OpenInstances(max_open_files)

    @property
    def path(self) -> str:
        """The index file."""
        return self._store.path

    @property
    def is_moved(self) -> bool:
        """Whether the archive is read from another folder or bucket than the indexed one."""
        return self._moved

    def close(self) -> None:
        """Close the index and every file that the archive keeps open."""
        self._open.clear()
        self._sources.clear()
        self._store.close()

    def __reduce__(self) -> tuple[object, ...]:
        return self._reopen, ()

    def __repr__(self) -> str:
        return f"<Archive {self.root!r} by the index {self.path!r}>"

    def __getitem__(self, sop_instance_uid: InstanceName) -> Instance:
        """Return the instance with this UID, open; of two files that have it, the newer one.

        Raises
        ------
        InstanceNotFoundError
            No file of the archive has this SOP Instance UID.
        StaleIndexError, MissingFileError
            The file changed after it was indexed, or is gone.
        FormatError
            The file could not be read when it was indexed.
        """
        _, record = self._find_newest(sop_instance_uid)
        return self._open_instance(record)

    def file(self, path: str | bytes | os.PathLike[str]) -> Instance:
        """Return the instance in the file at `path`, relative to the archive's root, open.

        A path like `study.zip!/a.dcm` is that of a file in a container, unless there is a file of
        this path. `InstanceRecord.key` of a record always leads to its own file.

        Raises
        ------
        InstanceNotFoundError
            The index has no such file.
        StaleIndexError, MissingFileError, FormatError
            As by UID.
        """
        record = self._store.find_record(os.fsencode(path))
        if record is None:
            raise InstanceNotFoundError(
                f"the index has no file {os.fsdecode(path)!r}", path=self.path
            )
        return self._open_instance(record)

    def has_file(self, path: str | bytes | os.PathLike[str]) -> bool:
        """Return whether the index has a file at `path`, relative to the archive's root."""
        return self._store.find_record(os.fsencode(path)) is not None

    def frame(self, sop_instance_uid: InstanceName, frame_index: int) -> bytes:
        """Return a frame as stored; see `Instance.frame`.

        Files stay open from their second call on.

        Raises
        ------
        InstanceNotFoundError, StaleIndexError, MissingFileError, FormatError
            As by UID.
        FrameIndexError, TruncatedFrameError, NoPixelDataError, NotAddressableError
            As `Instance.frame`.
        """
        opened = self._open.recent.get(sop_instance_uid)
        try:
            if opened is not None and monotonic() < opened.due:  # most calls end here
                return opened.instance.frame(frame_index)
            frame = self._read_once(sop_instance_uid, frame_index)
            if frame is None:
                frame = self._keep_open(sop_instance_uid).frame(frame_index)
            return frame
        except (StaleIndexError, MissingFileError):
            return self._reopened(sop_instance_uid, anew=True).frame(frame_index)

    def array(
        self,
        sop_instance_uid: InstanceName,
        frame_index: int,
        *,
        raw: bool = False,
        copy: bool = False,
        rescale: bool = False,
    ) -> NDArray[np.generic]:
        """Return the decoded pixels of a frame; see `Instance.array`.

        Files stay open from their second call on.

        Raises
        ------
        DecodeError, MissingDependencyError
            As `Instance.array`.
        MMIndexError
            As `frame`.
        """
        return self.read_pixels(sop_instance_uid, frame_index, raw=raw, copy=copy, rescale=rescale)

    def record(self, sop_instance_uid: str) -> InstanceRecord:
        """Return the record of the instance that `archive[uid]` opens; opens no file.

        Raises
        ------
        InstanceNotFoundError
            No file of the archive has this SOP Instance UID.
        """
        return self._find_newest(sop_instance_uid)[1]

    def full_path(self, record: InstanceRecord) -> str:
        """Return where the file of a record is, a path or a URL; of a member, its container."""
        if self.is_remote:
            from mmindex.sources.stores import join_url  # most archives are local

            return join_url(self.root, record.path)
        return os.fsdecode(os.path.join(self._root, record.path))

    def expected_fingerprint(self, record: InstanceRecord, found: os.stat_result) -> Fingerprint:
        """Return what the fingerprint of a record's file has to be.

        In an archive that was moved away from its index, inodes may be others; in a mirror of a
        bucket, times, too.
        """
        fingerprint = record.fingerprint
        assert fingerprint is not None
        if self._is_mirror:
            return Fingerprint.of(found)._replace(size=fingerprint.size)
        if self._moved and fingerprint.kind == VersionKind.LOCAL:
            return fingerprint._replace(inode=found.st_ino)
        return fingerprint

    def _find_newest(self, name: InstanceName) -> tuple[int, InstanceRecord]:
        """Return the file with this UID that was changed last, before those without frames."""
        uid = uid_of(name)
        # A build may move the file from the one to the other between the two look-ups.
        kinds: tuple[UidKind, ...] = ("instances", "others", "instances")
        for kind in kinds:
            newest: tuple[int, InstanceRecord] | None = None
            for file_id, record in self._store.read_records(kind, uid):
                if not means(name, record):
                    continue
                if newest is None or newest[1].newness < record.newness:
                    newest = file_id, record
            if newest is not None:
                if not allows(name, newest[1].fingerprint):
                    raise overtaken(self.path)
                return newest
        where = "" if isinstance(name, str) else " in the study and series that were selected"
        raise InstanceNotFoundError(
            f"the index has no SOP Instance UID {uid!r}{where}", path=self.path
        )

    def _open_instance(self, record: InstanceRecord) -> Instance:
        if not record.status.is_instance:
            from mmindex.read.recorded_error import recorded_error

            raise recorded_error(record, os.fsdecode(os.path.join(self._root, record.location)))
        return Instance(record, self.open_source(record))

    def open_source(self, record: InstanceRecord) -> ByteSource:
        """Return the bytes of a record's file; raises what `Archive.file` raises."""
        return self._sources.open(record)

    @property
    def bucket(self) -> tuple[Bucket, bool]:
        """The bucket of a remote archive, and whether the bucket mirrors what was indexed."""
        return self._sources.connect(), self._is_mirror

    def _read_once(self, name: InstanceName, frame_index: int) -> bytes | None:
        """Return a frame of a file that is not open and was not read lately; None where not.

        A file that is read for the first time is not kept open, nor its record unpacked: in an
        archive of many files with one frame, most are read once.
        """
        if not self._is_plain or not self._open.is_first_read(name):
            return None
        location = self._store.locate_frame(name, frame_index)
        if location is None:
            return None
        path, version, offset, length = location
        if not allows(name, version):
            return None
        return read_range(self._root + b"/" + path, version, offset, length)

    def _read_pixels_once(
        self,
        name: InstanceName,
        frame_index: int,
        *,
        raw: bool,
        rescale: bool,
        copy: bool,
        out: NDArray[np.generic] | None,
    ) -> NDArray[np.generic] | None:
        """Return the pixels of a frame of a file that is not open, as `_read_once` its bytes."""
        if not self._is_plain or not self._open.is_first_read(name):
            return None
        stored = self._store.locate_pixels(name, frame_index)
        if stored is None or (rescale and stored.rescale is None):
            return None
        if not allows(name, stored.location.version):
            return None
        read = _load_reader()
        try:
            return read(self._root, stored, raw=raw, rescale=rescale, copy=copy, out=out)
        except MMIndexError:  # raised again by the instance, which names its file
            return None

    def _retry(self, name: InstanceName, read: Callable[[Instance], Read]) -> Read:
        """Read from an instance; if its file was replaced, once more as the index has it now."""
        try:
            return read(self._keep_open(name))
        except (StaleIndexError, MissingFileError):
            return read(self._reopened(name, anew=True))

    def _keep_open(self, name: InstanceName) -> Instance:
        """Return the instance from those kept open, else open it."""
        opened = self._open.find(name)
        if opened is None or monotonic() >= opened.due:
            return self._reopened(name)
        return opened.instance

    def _reopened(self, name: InstanceName, *, anew: bool = False) -> Instance:
        """Return the instance that is kept open, looked up again where it changed or for `anew`."""
        opened = None if anew else self._open.find(name)
        due = monotonic() + self._revalidate_after
        ids = [] if opened is None else self._store.find_uid("instances", uid_of(name))
        if opened is not None and ids == [opened.file_id]:
            self._open.keep(name, opened._replace(due=due))
            return opened.instance
        file_id, record = self._find_newest(name)
        instance = self._open_instance(record)
        self._open.keep(name, Opened(instance, file_id, due))
        return instance


@cache  # even a module that is loaded takes a twentieth of a short read to import
def _load_reader() -> Callable[..., NDArray[np.generic] | None]:
    from mmindex.read.pixels import read_once

    return read_once


def open_archive(
    path: str | os.PathLike[str],
    *,
    archive_root: str | os.PathLike[str] | None = None,
    store: object = None,
    revalidate_after: float = 1.0,
    max_open_files: int | None = None,
) -> Archive:
    """Open an archive's index for reading.

    Parameters
    ----------
    path : path or URL
        The archive's root, or the index file; a URL of one that ends in `.mmindex`, or of a root
        with a `.mmindex` below it. An index at a URL is copied to the folder `mmindex` of the
        user's cache (XDG_CACHE_HOME), once for each version. It reads objects of its own host,
        and of those that this redirects to; others only where `archive_root` names them.
    archive_root : path or URL, optional
        Where the archive is now, if it was moved away from its index. Its files may have other
        inodes there, but the sizes, modification times and SOP Instance UIDs that they had. Of a
        bucket that was indexed as a folder, the reverse, or another bucket: the sizes and SOP
        Instance UIDs.
    store : obstore store, optional
        Where the objects of URLs are; made of the URL and the environment unless given.
    revalidate_after : float
        Seconds after which a read checks again whether its file changed; 0 for every read.
    max_open_files : int, optional
        How many files are kept open, each from its second read on; a quarter of what the system
        allows unless given. One that is mapped, for views and arrays, takes two descriptors.

    Raises
    ------
    MissingFileError
        There is no index.
    IndexFormatError
        The file is no mmindex index, is damaged, or has another format version; or the index at a
        URL is of an archive elsewhere, which `archive_root` does not name.
    RemoteReadError, IndexWriteError
        A server does not give the index; its copy cannot be kept.
    """
    return Archive(
        path,
        archive_root=archive_root,
        store=store,
        revalidate_after=revalidate_after,
        max_open_files=max_open_files,
    )


def _fetch(index_url: str, store: object) -> str:
    from mmindex.read.fetched_index import fetch_index  # most indexes are local

    return fetch_index(index_url, store)
