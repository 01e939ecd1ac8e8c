"""The note of the last build in an index: its end, its duration and its options.

The value of "built" in the database "meta", before its checksum:

    offset  size  type  field
    0       8     i8    end of the build in ns since 1970; 0 where no build has ended
    8       8     u8    duration in ms
    16      4     u4    options: bit 0 files are known without their inodes

All integers are little-endian. The value of "file" is the inode of the index file, a u8, as it was
when the file was created, made compact or last built: a copy of the index is another file.
"""

import struct
from typing import NamedTuple

from mmindex.index.checksum import seal, unseal
from mmindex.index.lmdb.transaction import Transaction

_NOTE = struct.Struct("<qQI")
_INODE = struct.Struct("<Q")
_IGNORES_INODES = 1


class BuildNote(NamedTuple):
    """The last build of an index.

    Attributes
    ----------
    ended_ns : int
        When it ended, in ns since 1970.
    milliseconds : int
        Duration of the run.
    ignore_inode : bool
        Whether files are known by size and time alone.
    """

    ended_ns: int
    milliseconds: int
    ignore_inode: bool = False


def read_note(txn: Transaction) -> BuildNote | None:
    """Return the note of the last build; None where none has ended."""
    note = read_options(txn)
    return note if note.ended_ns else None


def read_options(txn: Transaction) -> BuildNote:
    """Return the note with the options that hold now: those of a build under way, if one is."""
    sealed = txn.read("meta", b"built")
    if not sealed:
        return BuildNote(0, 0)
    ended_ns, milliseconds, options = _NOTE.unpack(unseal(b"built", sealed))
    return BuildNote(ended_ns, milliseconds, bool(options & _IGNORES_INODES))


def write_note(txn: Transaction, note: BuildNote) -> None:
    """Write the note of a build that ended."""
    options = _IGNORES_INODES * note.ignore_inode
    packed = _NOTE.pack(note.ended_ns, note.milliseconds, options)
    txn.put("meta", b"built", seal(b"built", packed))


def read_file(txn: Transaction) -> int | None:
    """Return the inode that the index file had; None where none is noted."""
    sealed = txn.read("meta", b"file")
    if not sealed:
        return None
    inode: int = _INODE.unpack(unseal(b"file", sealed))[0]
    return inode


def note_of_file(inode: int) -> dict[bytes, bytes]:
    """Return what the database "meta" has of an index file with this inode."""
    return {b"file": seal(b"file", _INODE.pack(inode))}
