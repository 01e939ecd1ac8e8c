"""The archive that a build reads: a Root, and who scans its files and compares them with records.

`Root` finds and opens files; it is of a folder that knows neither records nor scans of an archive.
An `ArchiveRoot` adds what of a build depends on the kind of root, and nothing else. A build passes
it to its workers: processes for a folder. Objects are scanned by threads, since a scan waits for
answers most of the time, obstore lets go of the interpreter's lock meanwhile and does not survive a
fork, and threads share the connections and the credentials of one store.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from mmindex.errors import MissingFileError, is_missing
from mmindex.model import Fingerprint, InstanceRecord, is_url
from mmindex.sources.base import ByteSource, FoundFile, Root, Skipped, WalkRules
from mmindex.sources.folder import Folder
from mmindex.update.guards import find_root
from mmindex.update.problems import describe_change, describe_refusal
from mmindex.update.scan_file import Target, scan_files

if TYPE_CHECKING:
    from mmindex.sources.bucket import Bucket
    from mmindex.update.scan_buffer import ScanOptions

CONCURRENCY = 64  # objects scanned at once


class ArchiveRoot(ABC):
    """An archive that is built from. Pickles, for workers in other processes.

    Attributes
    ----------
    path : bytes
        What the index keeps as its root: a folder's path, absolute, or a URL.
    files : Root
        The folder or bucket.
    rules : WalkRules
        What the walk leaves out.
    threads : int
        Threads that scan; 0 where processes do.
    """

    path: bytes
    files: Root
    rules: WalkRules
    threads = 0

    @property
    def name(self) -> str:
        """The path or URL as text."""
        return os.fsdecode(self.path)

    def walk(self, index: str) -> Iterator[FoundFile | Skipped]:
        """Yield every file that the rules leave in, but for those of indexes."""
        return self.files.walk(rules=self.rules, index=os.fsencode(index))

    def open_container(self, path: bytes, version: Fingerprint) -> ByteSource:
        """Return the bytes of a container, for a walk of its members; far ones are read ahead."""
        source = self.files.open(path, version)
        if source.at_once == 1:
            return source
        from mmindex.sources.read_ahead import ReadAhead

        return ReadAhead(source)

    @abstractmethod
    def target(self, file: FoundFile) -> Target:
        """Return what `scan` takes for a file that the walk has found."""

    @abstractmethod
    def scan(self, targets: Sequence[Target], options: ScanOptions) -> list[bytes]:
        """Return the packed records of files."""

    @abstractmethod
    def find_problem(self, path: bytes, record: InstanceRecord) -> tuple[str, str]:
        """Return the problem of a file since its record: kind and detail, else empty texts.

        "missing", "stale" with how the file changed, or "unreadable" with why.
        """


class FolderRoot(ArchiveRoot):
    """An archive in a folder of a file system."""

    def __init__(self, path: bytes, rules: WalkRules) -> None:
        self.path = path
        self.files = Folder(path)
        self.rules = rules

    def target(self, file: FoundFile) -> Target:
        """Return the path: a scan takes the file's version itself."""
        return file.path

    def scan(self, targets: Sequence[Target], options: ScanOptions) -> list[bytes]:
        """Return the packed records of files."""
        return scan_files(self.path, targets, options)

    def find_problem(self, path: bytes, record: InstanceRecord) -> tuple[str, str]:
        """Return how a file changed; see `ArchiveRoot.find_problem`."""
        try:
            found = os.stat(os.path.join(self.path, path))
        except OSError as error:
            return ("missing", "") if is_missing(error) else ("unreadable", describe_refusal(error))
        known = record.fingerprint
        if known is not None and known.matches(Fingerprint.of(found)):
            return "", ""
        return "stale", describe_change(found, record)


class BucketRoot(ArchiveRoot):
    """An archive in a bucket, or below a URL of a web server, which `update` alone can name."""

    def __init__(self, bucket: Bucket, rules: WalkRules, concurrency: int | None) -> None:
        self.path = bucket.name.encode()
        self.rules = rules
        self.files = self.bucket = bucket
        self.threads = concurrency or CONCURRENCY

    def walk(self, index: str) -> Iterator[FoundFile | Skipped]:
        """Yield every object; see `ArchiveRoot.walk`.

        Raises
        ------
        MissingFileError
            The URL is that of an object.
        """
        is_empty = True
        for found in super().walk(index):
            is_empty = False
            yield found
        if is_empty and self.bucket.is_object():
            raise MissingFileError(
                "expected the URL of a bucket or prefix, found that of an object: name the prefix, "
                "which ends before the last slash",
                path=self.name,
            )

    def match_left_out(self) -> Callable[[bytes], bool]:
        """Return what reports whether an object is of an index, or excluded with its folders."""
        from mmindex.sources.bucket import match_left_out

        return match_left_out(self.rules.exclude)

    def target(self, file: FoundFile) -> Target:
        """Return the object with its version, of which the scan has to be."""
        return file

    def scan(self, targets: Sequence[Target], options: ScanOptions) -> list[bytes]:
        """Return the packed records of objects, many at once where there are many."""
        from mmindex.update.scan_objects import scan_objects

        return scan_objects(self.bucket, targets, options, self.threads)

    def find_problem(self, path: bytes, record: InstanceRecord) -> tuple[str, str]:
        """Return how an object changed; see `ArchiveRoot.find_problem`."""
        found = self.bucket.find(path)
        if found is None:
            return "missing", ""
        known = record.fingerprint
        same = known is not None and known.is_same(found.fingerprint)
        return ("", "") if same else ("stale", "the object changed after it was indexed")


def find_archive(
    root: str | os.PathLike[str],
    rules: WalkRules,
    store: object = None,
    concurrency: int | None = None,
) -> ArchiveRoot:
    """Return the archive at a path or URL.

    Raises
    ------
    MissingFileError, IndexWriteError
        As `find_root`.
    MissingDependencyError
        obstore is not installed.
    ValueError
        An argument has no meaning for the root; the URL has a query.
    """
    if not (isinstance(root, str) and is_url(root)):
        if store is not None or concurrency is not None:
            raise ValueError("store and concurrency are for a URL: the root is a folder")
        return FolderRoot(find_root(root, one_file_system=rules.one_file_system), rules)
    if not rules.follow_links or rules.one_file_system:
        raise ValueError(
            "a bucket has no links and no file systems: leave out follow_links and one_file_system"
        )
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"expected a concurrency of at least 1, found {concurrency}")
    from mmindex.sources.bucket import Bucket
    from mmindex.sources.stores import load_obstore

    load_obstore()
    return BucketRoot(Bucket(root, store=store), rules, concurrency)
