"""Finds the objects of a bucket that are missing, changed or new: by its listing, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.model import Fingerprint, InstanceRecord, Status
from mmindex.read.changed_files import mark_members
from mmindex.sources.base import FoundFile
from mmindex.sources.bucket import match_left_out

if TYPE_CHECKING:
    from mmindex.index.reader import Reader
    from mmindex.sources.base import ByteSource, Root

_LOOKED_UP = 512  # objects looked up in one transaction
_AT_ONCE = 16  # objects asked for where there is no listing

Found = tuple[str, bytes, str]  # kind of a problem, path and detail


class Listing:
    """The listing of a bucket, compared with the index while it is walked.

    Parameters
    ----------
    is_mirror : bool
        Whether objects have other ETags and times than the index has, as those of a mirror do.
    exclude : tuple of str
        Globs of objects, and of folders of objects, that are not new.
    """

    def __init__(
        self, store: Reader, bucket: Root, *, is_mirror: bool, exclude: tuple[str, ...]
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._is_mirror = is_mirror
        self._is_left_out = match_left_out(exclude)
        self._seen = mark_members(store)

    def walk(self) -> Iterator[Found]:
        """Yield the objects that are new or not as they were indexed.

        Raises
        ------
        RemoteReadError
            The store gives no listing, as plain web servers do not.
        """
        listed = (each for each in self._bucket.walk() if isinstance(each, FoundFile))
        while batch := list(islice(listed, _LOOKED_UP)):
            known = self._store.find_paths([each.path for each in batch])
            for each, place in zip(batch, known, strict=True):
                if place is None:
                    if self._is_new(each.path):
                        yield "new", each.path, "the index does not know the object; rebuild it"
                    continue
                file_id, version = place
                if file_id >= len(self._seen):  # a build put it in meanwhile
                    continue
                self._seen[file_id] = 1
                if not self._is_same(Fingerprint(*version), each.fingerprint):
                    record = self._store.read_record(file_id)
                    if record is not None and record.status is not Status.UNREADABLE:
                        yield "stale", each.path, "the object changed after it was indexed"

    def _is_new(self, path: bytes) -> bool:
        return not self._is_left_out(path) and self._store.find_skipped(path) is None

    def _is_same(self, expected: Fingerprint, found: Fingerprint) -> bool:
        """Return whether a listing's version is the indexed one: by the ETag where both have it."""
        if expected.size != found.size or self._is_mirror:
            return expected.size == found.size
        if expected.inode and found.inode:
            return expected.inode == found.inode
        return expected.mtime_ns == found.mtime_ns

    def walk_missing(self) -> Iterator[Found]:
        """Yield the objects that the index knows and the listing did not have."""
        for file_id in self._store.find_unseen(self._seen):
            record = self._store.read_record(file_id)
            if record is not None:  # else a build has dropped it meanwhile
                yield "missing", record.path, "the object is gone"


def walk_changes(
    records: Iterable[InstanceRecord], open_record: Callable[[InstanceRecord], ByteSource]
) -> Iterator[Found]:
    """Yield the objects that are missing or changed, a request each, many at the same time."""

    def look(record: InstanceRecord) -> Found | None:
        if record.status is Status.UNREADABLE:
            return None
        try:
            source = open_record(record)
            source.check()
            source.close()
        except MissingFileError as error:
            return "missing", record.location, error.message
        except StaleIndexError as error:
            return "stale", record.location, error.message
        return None

    wanted = (each for each in records if each.member is None)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        while batch := list(islice(wanted, _LOOKED_UP)):
            yield from (found for found in threads.map(look, batch) if found is not None)
