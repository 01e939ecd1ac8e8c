"""Sorts the files that a walk meets: known and unchanged, or into chunks for a scan."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import TypeVar

from mmindex.model import Fingerprint

LOOKED_UP = 512  # files looked up in one transaction
_CHUNK_FILES, _CHUNK_BYTES = 256, 1 << 25  # scanned by a worker at once

Target = TypeVar("Target")


class Met:
    """The known files that a build meets.

    Parameters
    ----------
    known : int
        File ids of the index are below this.
    rescanned : container of int
        Ids of known files that are scanned again though they did not change.

    Attributes
    ----------
    seen : bytearray
        One byte a file id, set where the file was met.
    """

    __slots__ = ("_rescanned", "seen")

    def __init__(self, known: int = 0, rescanned: Container[int] = ()) -> None:
        self.seen = bytearray(known)
        self._rescanned = rescanned

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
        return known_fingerprint == fingerprint and file_id not in self._rescanned


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
