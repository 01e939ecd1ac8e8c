"""What an index keeps of its last build: when, how long, with which options, which problems."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

from mmindex.index.checksum import DamageError, seal, unseal
from mmindex.index.lmdb.transaction import Transaction

# End in ns since 1970, duration in ms, options: bit 0 inodes are not looked at.
_NOTE = struct.Struct("<qQI")
_IGNORES_INODES = 1
# Flags: bit 0 accepted. Then the path, whose length this is, and the reason, to the end (utf-8).
_PROBLEM = struct.Struct("<BI")
_ACCEPTED = 1


class BuildNote(NamedTuple):
    """The last build of an index.

    Attributes
    ----------
    ended_ns : int
        When it ended, in ns since 1970.
    milliseconds : int
        How long it took.
    ignore_inode : bool
        Whether files are known by size and time alone.
    """

    ended_ns: int
    milliseconds: int
    ignore_inode: bool = False


class BuildProblem(NamedTuple):
    """What the last build could not read, or not look at.

    Attributes
    ----------
    path : bytes
        The file or folder, relative to the archive's root.
    reason : str
        Why.
    accepted : bool
        Whether the user accepted the problem; later builds keep it accepted.
    """

    path: bytes
    reason: str
    accepted: bool = False


def read_note(txn: Transaction) -> BuildNote | None:
    """Return the note of the last build; None where none has ended."""
    sealed = txn.read("meta", b"built")
    if not sealed:
        return None
    ended_ns, milliseconds, options = _NOTE.unpack(unseal(b"built", sealed))
    return BuildNote(ended_ns, milliseconds, bool(options & _IGNORES_INODES))


def write_note(txn: Transaction, note: BuildNote) -> None:
    """Write the note of a build that ended."""
    options = _IGNORES_INODES * note.ignore_inode
    packed = _NOTE.pack(note.ended_ns, note.milliseconds, options)
    txn.put("meta", b"built", seal(b"built", packed))


def read_problems(txn: Transaction) -> list[BuildProblem]:
    """Return the problems of the last build, in the order of their paths."""
    problems = []
    for key, sealed in txn.walk("problems"):
        packed = bytes(unseal(key, sealed))
        flags, length = _PROBLEM.unpack_from(packed)
        end = _PROBLEM.size + length
        if end > len(packed):
            raise DamageError("a problem's path runs past its end")
        reason = packed[end:].decode("utf-8", "replace")
        problems.append(BuildProblem(packed[_PROBLEM.size : end], reason, bool(flags & _ACCEPTED)))
    return sorted(problems)


def write_problems(txn: Transaction, problems: Iterable[BuildProblem]) -> None:
    """Write the problems of a build in place of those of the one before.

    A problem that was accepted stays so while path and reason are the same.
    """
    accepted = {(known.path, known.reason) for known in read_problems(txn) if known.accepted}
    txn.empty("problems")
    for path, reason, is_accepted in problems:
        flags = _ACCEPTED * (is_accepted or (path, reason) in accepted)
        key = hashlib.blake2b(path, digest_size=16).digest()
        packed = _PROBLEM.pack(flags, len(path)) + path + reason.encode("utf-8", "replace")
        txn.put("problems", key, seal(key, packed))
