"""Sorts the files that a walk meets: known and unchanged, or into chunks for a scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator
from typing import TypeVar

from mmindex.model import Fingerprint, VersionKind

LOOKED_UP = 512  # files looked up in one transaction
_CHUNK_FILES, _CHUNK_BYTES = 256, 1 << 25  # scanned by a worker at once

_CLOCKS_DIFFER = 60.0  # seconds between this clock and that of a file system, at most

Target = TypeVar("Target")


def match_young(min_age: float) -> Callable[[int], bool]:
    """Return what reports whether a file of a modification time, in ns, changed too lately.

    A time in the future says nothing, but for as much as clocks differ: the present is that of each
    call, since a walk may take hours.
    """
    return lambda mtime_ns: (
        min_age > 0 and -_CLOCKS_DIFFER <= (time.time_ns() - mtime_ns) / 1e9 < min_age
    )


class Met:
    """The known files that a build meets.

    Parameters
    ----------
    known : int
        File ids of the index are below this.
    rescanned : container of int
        Ids of known files that are scanned again though they did not change.
    renews : bool
        Whether a file with the size and time of the known one counts as unchanged.
    doubtful : container of (int, int)
        Sizes and times that say nothing: files may have changed their names with each other.

    Attributes
    ----------
    seen : bytearray
        One byte a file id, set where the file was met.
    renewed : list of (int, Fingerprint)
        Ids of unchanged files whose records have another version of the file, and that which they
        are to get; `Renewal.write` takes them.
    """

    __slots__ = ("_doubtful", "_renews", "_rescanned", "renewed", "seen")

    def __init__(
        self,
        known: int = 0,
        rescanned: Container[int] = (),
        *,
        renews: bool = False,
        doubtful: Container[tuple[int, int]] = (),
    ) -> None:
        self.seen = bytearray(known)
        self.renewed: list[tuple[int, Fingerprint]] = []
        self._rescanned = rescanned
        self._renews = renews
        self._doubtful = doubtful

    def is_unchanged(
        self, known: tuple[int, tuple[int, ...]] | None, fingerprint: Fingerprint
    ) -> bool:
        """Mark a file as met; return whether its scan can be left out.

        Parameters
        ----------
        known : (int, Fingerprint) or None
            What the index has of the file, as `Store.find_paths` returns it.
        """
        if known is None:
            return False
        file_id, known_fingerprint = known
        if file_id < len(self.seen):  # as it is in every index that is whole
            self.seen[file_id] = 1
        if file_id in self._rescanned:
            return False
        if known_fingerprint == fingerprint or fingerprint.is_same(Fingerprint(*known_fingerprint)):
            return True
        if not self._renews or not is_same_but_inode(known_fingerprint, fingerprint):
            return False
        if fingerprint[:2] in self._doubtful:
            return False
        self.renewed.append((file_id, fingerprint))
        return True


def is_same_but_inode(known: tuple[int, ...], found: Fingerprint) -> bool:
    """Return whether two versions of local files have the same size and time."""
    size, time_ns, _, kind = known
    return (size, time_ns) == found[:2] and VersionKind.REMOTE not in (kind, found.kind)


def walk_chunks(targets: Iterable[tuple[Target, int]]) -> Iterator[list[Target]]:
    """Yield targets in chunks; each comes with the bytes that its scan takes at most."""
    chunk: list[Target] = []
    chunk_bytes = 0
    for target, length in targets:
        chunk.append(target)
        chunk_bytes += length
        if len(chunk) == _CHUNK_FILES or chunk_bytes >= _CHUNK_BYTES:
            yield chunk
            chunk, chunk_bytes = [], 0
    if chunk:
        yield chunk
