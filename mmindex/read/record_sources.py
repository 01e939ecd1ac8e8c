"""The bytes of indexed files: files of their own, and members of containers, which share these."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.model import Fingerprint, InstanceRecord, Member
from mmindex.read.files_root import FilesRoot, check_mirrored_size, check_own_uid
from mmindex.sources.base import ByteSource, Root
from mmindex.sources.folder import Folder

if TYPE_CHECKING:
    from mmindex.sources.bucket import Bucket
    from mmindex.sources.member import InflatedFiles


Containers = WeakValueDictionary[tuple[bytes, Fingerprint | None], ByteSource]


class RecordSources:
    """Opens the files of records.

    Members of a container read it through one open file, which is closed with the last of them.
    Inflated members are kept within a bound together.

    Parameters
    ----------
    root : FilesRoot
        Where the files are.
    revalidate_after : float
        Seconds after which a read checks a file again.
    store : obstore store, optional
        Where the objects of a remote root are; made of its URL unless given.
    is_moved : bool
        Whether files may have other inodes than their records say.
    """

    def __init__(
        self,
        root: FilesRoot,
        revalidate_after: float,
        store: object = None,
        *,
        is_moved: bool = False,
    ) -> None:
        self._root = root
        self._revalidate_after = revalidate_after
        self._store = store
        self._is_moved = is_moved
        self._folder: Folder | None = None
        if not root.is_remote:
            self._folder = Folder(
                os.fsencode(root.name), ignore_inode=is_moved, revalidate_after=revalidate_after
            )
        self.clear()

    def clear(self) -> None:
        """Let go of all that members of containers share."""
        self._bucket: Bucket | None = None
        self._containers: Containers | None = None
        self._inflated: InflatedFiles | None = None

    def open(self, record: InstanceRecord) -> ByteSource:
        """Return the bytes of a record's file.

        Raises
        ------
        StaleIndexError, MissingFileError
            The file changed after it was indexed, or is gone.
        """
        if record.member is None:
            source = self._open_file(record)
        else:
            source = self._open_member(self._open_container(record), record.member)
        # A file of a folder that has moved may be another one of the same size and time.
        if self._root.is_mirror or (self._is_moved and not self._root.is_remote):
            check_own_uid(record, source)
        return source

    def _open_container(self, record: InstanceRecord) -> ByteSource:
        containers = self._containers
        if containers is None:  # most archives have none
            containers = self._containers = WeakValueDictionary()
        key = record.path, record.fingerprint
        container = containers.get(key)
        if container is not None:
            try:
                container.check_if_due()
            except (StaleIndexError, MissingFileError):  # of a mirror, another one may be right
                container = None
        if container is None:
            container = containers[key] = self._open_file(record)
        return container

    def _open_member(self, container: ByteSource, member: Member) -> ByteSource:
        from mmindex.sources.container import open_member  # most archives have no containers
        from mmindex.sources.member import InflatedFiles

        if self._inflated is None:
            self._inflated = InflatedFiles()
        return open_member(container, member, self._inflated)

    def _open_file(self, record: InstanceRecord) -> ByteSource:
        root: Root = self._folder if self._folder is not None else self.connect()
        if not self._root.is_mirror:
            return root.open(record.path, record.fingerprint)
        file = root.open(record.path)
        check_mirrored_size(record, file)
        return file

    def connect(self) -> Bucket:
        """Return the bucket of a remote root; nothing is requested."""
        if self._bucket is None:
            from mmindex.sources.bucket import Bucket  # most archives are local

            self._bucket = Bucket(
                self._root.url or self._root.name,
                store=self._store,
                revalidate_after=self._revalidate_after,
            )
        return self._bucket
