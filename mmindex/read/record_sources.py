"""The bytes of indexed files: files of their own, and members of containers, which share these."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from mmindex.model import Fingerprint, InstanceRecord, Member
from mmindex.read.files_root import FilesRoot, check_mirror
from mmindex.sources.base import ByteSource
from mmindex.sources.file import FileSource, open_descriptor

if TYPE_CHECKING:
    from mmindex.sources.bucket import Bucket
    from mmindex.sources.member import InflatedFiles

Expect = Callable[[InstanceRecord, os.stat_result], Fingerprint]


class RecordSources:
    """Opens the files of records.

    Members of a container read it through one open file, which is closed with the last of them.
    Inflated members are kept within a bound together.

    Parameters
    ----------
    root : FilesRoot
        Where the files are.
    revalidate_after : float
        Seconds after which a read looks at a file anew.
    store : obstore store, optional
        Where the objects of a remote root are; made of its URL unless given.
    """

    def __init__(self, root: FilesRoot, revalidate_after: float, store: object = None) -> None:
        self._root = root
        self._revalidate_after = revalidate_after
        self._store = store
        self.clear()

    def clear(self) -> None:
        """Let go of all that members of containers share."""
        self._bucket: Bucket | None = None
        self._containers: WeakValueDictionary[tuple[str, Fingerprint | None], ByteSource] = (
            WeakValueDictionary()
        )
        self._inflated: InflatedFiles | None = None

    def open(self, record: InstanceRecord, path: str, expect: Expect) -> ByteSource:
        """Return the bytes of a record's file.

        Parameters
        ----------
        path : str
            Where the file is; of a member, its container.
        expect : callable
            Returns what the fingerprint of the file has to be.

        Raises
        ------
        StaleIndexError, MissingFileError
            The file changed after it was indexed, or is gone.
        """
        if record.member is None:
            file = self._open_file(record, path, expect)
            return self._checked(record, file, file)
        key = path, record.fingerprint
        container = self._containers.get(key)
        if container is None:
            container = self._containers[key] = self._open_file(record, path, expect)
        else:
            container.check_if_due()
        return self._checked(record, self._open_member(container, record.member), container)

    def _checked(
        self, record: InstanceRecord, source: ByteSource, container: ByteSource
    ) -> ByteSource:
        """Return a source, which is that of a record as far as a mirror shows."""
        if self._root.is_mirror:
            check_mirror(record, source, container.size)
        return source

    def _open_member(self, container: ByteSource, member: Member) -> ByteSource:
        from mmindex.sources.container import open_member  # most archives have no containers
        from mmindex.sources.member import InflatedFiles

        if self._inflated is None:
            self._inflated = InflatedFiles()
        return open_member(container, member, self._inflated)

    def _open_file(self, record: InstanceRecord, path: str, expect: Expect) -> ByteSource:
        if self._root.is_remote:
            version = None if self._root.is_mirror else record.fingerprint
            return self.connect().open(record.path, version)
        descriptor = open_descriptor(path)
        status = os.stat(descriptor.number)
        return FileSource(descriptor, path, expect(record, status), self._revalidate_after)

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
