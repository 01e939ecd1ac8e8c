"""The bytes of indexed files: files of their own, and members of containers, which share these."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from mmindex.model import Fingerprint, InstanceRecord, Member
from mmindex.sources.base import ByteSource
from mmindex.sources.file import FileSource, open_descriptor

if TYPE_CHECKING:
    from mmindex.sources.member import InflatedFiles

Expect = Callable[[InstanceRecord, os.stat_result], Fingerprint]


class RecordSources:
    """Opens the files of records.

    Members of a container read it through one open file, which is closed with the last of them.
    Inflated members are kept within a bound together.

    Parameters
    ----------
    revalidate_after : float
        Seconds after which a read looks at a file anew.
    """

    def __init__(self, revalidate_after: float) -> None:
        self._revalidate_after = revalidate_after
        self._containers: WeakValueDictionary[tuple[str, Fingerprint | None], FileSource] = (
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
            return self._open_file(record, path, expect)
        key = path, record.fingerprint
        container = self._containers.get(key)
        if container is None:
            container = self._containers[key] = self._open_file(record, path, expect)
        else:
            container.check_if_due()
        return self._open_member(container, record.member)

    def _open_member(self, container: FileSource, member: Member) -> ByteSource:
        from mmindex.sources.container import open_member  # most archives have no containers
        from mmindex.sources.member import InflatedFiles

        if self._inflated is None:
            self._inflated = InflatedFiles()
        return open_member(container, member, self._inflated)

    def _open_file(self, record: InstanceRecord, path: str, expect: Expect) -> FileSource:
        descriptor = open_descriptor(path)
        fingerprint = expect(record, os.stat(descriptor.number))
        return FileSource(descriptor, path, fingerprint, self._revalidate_after)
