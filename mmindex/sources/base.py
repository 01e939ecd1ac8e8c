"""The two interfaces of this folder: ByteSource reads bytes, Root finds files.

A new source of bytes is one module with one class that sets `name`, `size` and `version` and writes
`read`; a source that holds something also writes `close`. Everything else has a default here.
`tests/sources/source_conformance.py` has the tests that every source inherits,
`tests/sources/root_conformance.py` those of roots.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmindex.errors import TruncatedFrameError
from mmindex.frame_table import ByteRange
from mmindex.model import Fingerprint
from mmindex.sources.coalesce import read_pieces


class ByteSource(ABC):
    """The bytes of one data set, by offset; serves many threads at once.

    A read returns exactly the bytes asked for, or raises: TruncatedFrameError where the source
    ends before them, StaleIndexError or MissingFileError where the bytes changed since `version`
    was taken. A source is responsible for nothing else: what bytes mean is not known here.

    Attributes
    ----------
    name : str or None
        The path or URL that errors name; None where there is none.
    first : int
        Offset of the first byte: 0 but for a range of a container, where offsets count in that.
    size : int
        Length, in bytes.
    version : Fingerprint or None
        What the bytes are checked against; None where they cannot change.
    gap : int
        Bytes between two ranges that cost less to read over than a second read does.
    together : int
        Bytes that `read_many` reads at once, unless one range alone is longer.
    at_once : int
        Reads that gain by running at the same time: 1 of a disk or memory.
    """

    __slots__ = ()

    name: str | None
    first = 0
    size: int
    version: Fingerprint | None
    gap = 1 << 12  # of a disk
    together = 1 << 20
    at_once = 1

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on.

        Raises
        ------
        TruncatedFrameError
            The range is not within the source.
        StaleIndexError, MissingFileError
            The bytes changed since `version` was taken, or are gone.
        ValueError
            The source is closed.
        """

    def read_into(self, offset: int, room: memoryview) -> None:
        """Fill `room` (uint8) with the bytes from `offset` on; raises what `read` raises.

        After an error, what is in `room` has no meaning.
        """
        room[:] = self.read(offset, len(room))

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length), in the order asked; raises what `read` raises.

        Ranges may overlap and repeat. They are read in the order of the source, neighbours at
        once.
        """
        found = [b""] * len(ranges)
        pieces = [(offset, length, at) for at, (offset, length) in enumerate(ranges)]
        for wanted, data in read_pieces(self, pieces):
            found[wanted] = data
        return found

    def read_joined(self, ranges: Sequence[ByteRange]) -> bytes:
        """Return the bytes of ascending ranges, joined; raises what `read` raises."""
        return b"".join(self.read_many(ranges))

    def view(self, offset: int, length: int) -> memoryview:
        """Return exactly these bytes, read-only: without a copy where the source is memory.

        Raises what `read` raises.
        """
        return memoryview(self.read(offset, length))

    def check(self) -> None:
        """Raise StaleIndexError or MissingFileError unless the bytes are those of `version`."""
        return  # bytes that cannot change

    def check_if_due(self) -> None:
        """Call `check` where the last look at the bytes is too long ago."""
        return  # bytes that cannot change

    def close(self) -> None:
        """Release what the source holds; a read that is under way in another thread ends well.

        Later reads raise ValueError.
        """
        return  # a source that holds nothing


class FoundFile(NamedTuple):
    """A file of a root, by its path in the root, and its version."""

    path: bytes
    fingerprint: Fingerprint


class Skipped(NamedTuple):
    """Something that is no readable folder or file, and why the walk left it out.

    `may_hide` says whether files may be at or under its path though the walk did not meet them.
    """

    path: bytes
    reason: str
    may_hide: bool


class WalkRules(NamedTuple):
    """The files and folders that a walk leaves out.

    Attributes
    ----------
    exclude : tuple of str
        Globs of files and folders: one with a slash is compared with the path in the archive, one
        without with the name.
    follow_links : bool
        Whether symbolic links are followed.
    one_file_system : bool
        Whether folders of other file systems than the root's are left out.
    """

    exclude: tuple[str, ...] = ()
    follow_links: bool = True
    one_file_system: bool = False


class Root(ABC):
    """A folder or a bucket: files below it can be listed, and opened by their path in it.

    What a build does with these files (scan, compare with a record) is added by `ArchiveRoot` in
    `update/archive_root.py`, since this folder knows neither records nor scans of an archive.

    Attributes
    ----------
    name : str
        The folder's path, or the URL.
    """

    __slots__ = ()

    name: str

    @abstractmethod
    def walk(
        self, start: bytes = b"", rules: WalkRules | None = None, index: bytes | None = None
    ) -> Iterator[FoundFile | Skipped]:
        """Yield every file below `start` once, and what could not be looked at.

        Files of indexes are left out.

        Parameters
        ----------
        start : bytes
            A folder, relative to the root; the root itself unless given.
        rules : WalkRules, optional
            What else is left out.
        index : bytes, optional
            An index file of another name than `.mmindex`.
        """

    @abstractmethod
    def find(self, path: bytes) -> FoundFile | None:
        """Return the file at `path` as it is now; None where there is none."""

    def has(self, path: bytes) -> bool:
        """Return whether something is at `path`: a file, or whatever else a root may hold."""
        return self.find(path) is not None

    @abstractmethod
    def is_empty(self, index: str) -> bool:
        """Return whether nothing is there but the index, as at a mount point without its mount.

        Parameters
        ----------
        index : str
            The index file, which may lie elsewhere.
        """

    @abstractmethod
    def open(self, path: bytes, version: Fingerprint | None = None) -> ByteSource:
        """Return the bytes of the file at `path`, relative to the root.

        Parameters
        ----------
        version : Fingerprint, optional
            What the file has to be; what it is now unless given.

        Raises
        ------
        StaleIndexError
            The file is another one.
        MissingFileError
            There is no such file.
        """


def outside(name: str | None, offset: int, length: int, size: int) -> TruncatedFrameError:
    """Return the error of a range that is not within a source of `size` bytes."""
    if offset < 0 or length < 0:
        return TruncatedFrameError(
            f"expected a range of the file, found offset {offset} and length {length}", path=name
        )
    return cut(name, offset, length, max(0, size - offset))


def cut(name: str | None, offset: int, length: int, found: int) -> TruncatedFrameError:
    """Return the error of a source that ends after `found` bytes of a range."""
    return TruncatedFrameError(
        f"the frame runs past the end of the file: expected {length} bytes, found {found}",
        path=name,
        offset=offset,
    )
