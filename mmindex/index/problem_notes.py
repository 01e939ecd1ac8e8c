"""Problems that an index keeps: paths that no build could look at, and problems accepted.

A path that was skipped stays until a build or an update looks at the path again. A problem that
was accepted stays until the problem is gone or another one: `update/problems.py` decides that.

The key in the database "problems" is the 16-byte blake2b digest of the path; of an accepted problem
followed by that of kind, zero byte and detail. The value, before its checksum:

    offset  size  type   field
    0       1     u1     flags: bit 0 the problem was accepted
    1       4     u4     length of the path
    5             bytes  path, relative to the archive's root
                  utf-8  reason; of an accepted problem kind, zero byte and detail; to the end

All integers are little-endian. A lone surrogate has three bytes in the text, as in `surrogatepass`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from mmindex.index.checksum import DamageError, digest, seal, unseal
from mmindex.index.lmdb.transaction import Transaction

_PACKED = struct.Struct("<BI")
_ACCEPTED = 1


class SkippedPath(NamedTuple):
    """A path that the last build or update could not look at.

    Attributes
    ----------
    path : bytes
        The file or folder, relative to the archive's root.
    reason : str
        Why.
    """

    path: bytes
    reason: str


class AcceptedProblem(NamedTuple):
    """A problem that the user accepted.

    Attributes
    ----------
    path : bytes
        The file or folder, relative to the archive's root.
    kind, detail : str
        As in `Problem`.
    """

    path: bytes
    kind: str
    detail: str


ProblemNote = SkippedPath | AcceptedProblem


class Looked(NamedTuple):
    """The paths and folders that a build or an update looked at.

    Attributes
    ----------
    paths : collection of bytes
        Paths that were looked at, without what may be below them.
    folders : tuple of bytes
        Folders below which all was looked at; the empty path is the root.
    hidden : tuple of bytes
        Folders in these that could not be read: nothing below them was looked at.
    """

    paths: Collection[bytes]
    folders: tuple[bytes, ...] = ()
    hidden: tuple[bytes, ...] = ()

    def has(self, path: bytes) -> bool:
        """Return whether a path was looked at."""
        return path in self.paths or (
            any(is_below(path, folder) for folder in self.folders)
            and not any(path != folder and is_below(path, folder) for folder in self.hidden)
        )


EVERYWHERE = Looked((), (b"",))


def is_below(path: bytes, folder: bytes) -> bool:
    """Return whether a path is a folder's or lies below it."""
    return folder in (b"", path) or path.startswith(folder + b"/")


def problem_key(note: ProblemNote) -> bytes:
    """Return the key of a note: all of one path begin with the same 16 bytes."""
    key = digest(note.path)
    return key if isinstance(note, SkippedPath) else key + digest(_describe(note))


def walk_problem_notes(txn: Transaction, start: bytes = b"") -> Iterator[tuple[bytes, ProblemNote]]:
    """Yield keys and notes from a key on.

    Raises
    ------
    DamageError
        A note is damaged.
    """
    for key, sealed in txn.walk("problems", start):
        yield key, _unpack(bytes(unseal(key, sealed)))


def walk_notes_of(txn: Transaction, path: bytes) -> Iterator[tuple[bytes, ProblemNote]]:
    """Yield keys and notes of one path; raises as `walk_problem_notes`."""
    key = digest(path)
    for found, note in walk_problem_notes(txn, key):
        if not found.startswith(key):
            return
        yield found, note


def walk_notes_in(txn: Transaction, looked: Looked) -> Iterator[tuple[bytes, ProblemNote]]:
    """Yield keys and notes of what was looked at; raises as `walk_problem_notes`."""
    if looked.folders:
        notes = walk_problem_notes(txn)
    else:
        notes = (found for path in looked.paths for found in walk_notes_of(txn, path))
    return ((key, note) for key, note in notes if looked.has(note.path))


def put_problem_notes(txn: Transaction, notes: Iterable[ProblemNote]) -> None:
    """Write notes, in place of the same ones that are there."""
    for note in notes:
        key = problem_key(note)
        flags = _ACCEPTED * isinstance(note, AcceptedProblem)
        packed = _PACKED.pack(flags, len(note.path)) + note.path + _describe(note)
        txn.put("problems", key, seal(key, packed))


def _describe(note: ProblemNote) -> bytes:
    text = note.reason if isinstance(note, SkippedPath) else f"{note.kind}\0{note.detail}"
    return text.encode("utf-8", "surrogatepass")


def _unpack(packed: bytes) -> ProblemNote:
    if len(packed) < _PACKED.size:
        raise DamageError(f"expected a problem, found {len(packed)} bytes")
    flags, length = _PACKED.unpack_from(packed)
    end = _PACKED.size + length
    if end > len(packed):
        raise DamageError("a problem's path runs past its end")
    path, text = packed[_PACKED.size : end], packed[end:].decode("utf-8", "surrogatepass")
    if not flags & _ACCEPTED:
        return SkippedPath(path, text)
    kind, _, detail = text.partition("\0")
    return AcceptedProblem(path, kind, detail)
