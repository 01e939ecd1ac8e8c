"""The index file: its databases, what is read from them and what a build writes.

All keys are short, since LMDB takes at most 511 bytes:

    meta       "format", "identity", "root", "next", "counters", "built", "file" and "attributes":
               see below
    files      file id -> packed record (see record.py)
    entries    file id and number of the chunk, a big-endian u4 -> 16,360 bytes of the entries
               of a record of over 64 KiB, since LMDB looks at every page of a value
    positions  file id and number of the chunk -> 16,360 bytes of the positions of its tiles
    paths      16-byte blake2b digest of the path (of a member of a container: of the container's
               path, a zero byte and the member's name) -> file id and version, see below
    folders    16-byte blake2b digest of a folder's path and a slash -> nothing; of folders that
               have, or had, files
    unscanned  file id -> status in letters ("not-dicom", "container", "unreadable") of files that
               are not DICOM, are containers, or could not be read
    instances  SOP Instance UID -> ids of files with frames to read
    others     SOP Instance UID -> ids of files without
    studies    Study Instance UID -> file ids
    series     Series Instance UID -> file ids
    members    16-byte blake2b digest of a container's path -> ids of the files in it
    attributes "T" and Study or "E" and Series Instance UID -> attributes, where these are kept
               (see attributes.py)
    problems   16-byte blake2b digest of the path, where a problem was accepted followed by that of
               kind and detail -> why the path was skipped, or what was accepted (see
               problem_notes.py)

A file id is 8 bytes, big-endian, as a key and as a value of instances, others, studies, series and
members, which have several values a key, in ascending order. UIDs are their characters (latin-1),
without padding. Only the values of paths have it little-endian. The values of meta:

    key         offset  size  type   field
    format      0       7     bytes  "mmindex"
                7       4     u4     format version, little-endian
    identity    0       16    bytes  random, of this index alone
    root        0             bytes  the archive's root: a folder, relative to that of the index
                                     where the index is inside, else absolute; or a URL
    next        0       8     u8     the next file id, big-endian
    counters    see counters.py
    built       see build_notes.py
    file        see build_notes.py; an index need not have it
    attributes  the attributes that are kept, see attributes.py

A value of paths; integers are little-endian:

    offset  size  type  field
    0       8     u8    file id
    8       8     u8    file size in bytes
    16      8     i8    time of the last change in ns
    24      8     u8    inode; of a remote file, digest of its ETag
    32      1     u1    kind, as in a record

Values of all but "format", unscanned, UIDs and members end with the CRC-32 of key and value (as in
zlib, over the key, then the value), 4 bytes, little-endian.
A file id is never used twice and its record never changes: a file that is scanned again gets a
new one. So what was read of a record stays right or is gone, whatever a build does meanwhile.
No LMDB memory leaves a transaction.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Collection, Iterable, Mapping

from mmindex.attributes import AttributeSet
from mmindex.errors import IndexWriteError
from mmindex.index.attributes import KeptValues, Place, write_set
from mmindex.index.build_notes import BuildNote, note_of_file, read_options, write_note
from mmindex.index.checksum import DamageError, seal
from mmindex.index.commit import replace_files
from mmindex.index.create import portable_root
from mmindex.index.databases import (
    DATABASES,
    AttributesKind,
    attributes_key,
    uid_key,
)
from mmindex.index.index_file import damaged, reading
from mmindex.index.lmdb.environment import LMDBError
from mmindex.index.lmdb.new_file import copy
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.problem_notes import (
    AcceptedProblem,
    Looked,
    ProblemNote,
    SkippedPath,
    problem_key,
    put_problem_notes,
    walk_notes_in,
    walk_problem_notes,
)
from mmindex.index.reader import Reader

_NOTES = ("meta", "problems")  # databases of what a build notes beside records
_LITTLE_SPACE = 1 << 20  # bytes; LMDB calls it an input/output error when these do not suffice


class Store(Reader):
    """An index file, open.

    Parameters
    ----------
    path : str
        The index file.
    write : bool
        Whether the index is written, too: hold `only_writer`.

    Raises
    ------
    MissingFileError, IndexFormatError, IndexWriteError
        There is no such index, it is none, or it cannot be written.

    Attributes
    ----------
    unknown_attributes : set of (str, bytes)
        Studies and series whose attributes this store dropped with the file that they were of.
    """

    def __init__(self, path: str, *, write: bool = False) -> None:
        super().__init__(path, write=write)
        self.unknown_attributes: set[tuple[AttributesKind, str]] = set()

    # What a build writes: all of a batch, or nothing.

    def copy_to(self, path: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Write what the index holds to a new file, without unused pages; `progress` as in `copy`.

        Raises
        ------
        IndexFormatError, IndexWriteError
            The index is damaged; the file cannot be written.
        """
        try:
            self._check_pages(DATABASES)
            shared = self._environment()
            own = (lambda inode: {}) if self.is_copied() else note_of_file
            with shared.lock:
                copy(shared, path, DATABASES, own, progress)
        except (LMDBError, OSError) as error:
            raise IndexWriteError(f"cannot write the index: {error}", path=path) from error

    def trust_pages(self) -> None:
        """Write without a look at all pages before: a damaged page may then end the process."""
        self._environment().sound.update(DATABASES)

    @reading
    def _check_pages(self, txn: Transaction, databases: Iterable[str]) -> None:
        txn.check(*databases)

    def replace(self, packed_records: Iterable[bytes], removed: Iterable[int] = ()) -> None:
        """Put in the records of files, in place of those at the same paths, and drop others.

        Raises
        ------
        IndexWriteError
            The disk or the map is full, or the index cannot be written.
        IndexFormatError
            A record to be replaced is damaged.
        """
        unknown: list[Place] = []

        def write(txn: Transaction) -> None:
            unknown[:] = replace_files(txn, packed_records, removed)

        self._write(write)
        self.unknown_attributes.update((kind, uid.decode("latin-1")) for kind, uid in unknown)

    def write_attribute_set(self, kept: AttributeSet | None) -> None:
        """Write which attributes the index keeps, and drop those that it has; as `replace`."""
        self._write(lambda txn: write_set(txn, kept))

    def write_attributes(self, kind: AttributesKind, found: Mapping[str, KeptValues]) -> None:
        """Write attributes by UID; those of a UID without files are left out; raises as `replace`.

        They go with the last file of their study or series.
        """

        def write(txn: Transaction) -> None:
            for uid, values in found.items():
                if txn.get(kind, uid_key(uid)) is not None:
                    key = attributes_key(kind, uid)
                    txn.put("attributes", key, seal(key, values.pack()))

        self._write(write)

    def begin_build(self, *, ignore_inode: bool, root: bytes | None = None) -> None:
        """Write what holds from the start of a build on, whether the build ends or not.

        Parameters
        ----------
        ignore_inode : bool
            Whether files are known without their inodes.
        root : bytes, optional
            The folder to which the archive was moved.

        Raises
        ------
        IndexWriteError
            The index cannot be written.
        """

        def write(txn: Transaction) -> None:
            write_note(txn, read_options(txn)._replace(ignore_inode=ignore_inode))
            if root is not None:
                txn.put("meta", b"root", seal(b"root", portable_root(self.path, root)))

        if root is not None or ignore_inode != self.ignores_inode():
            self._write(write, _NOTES)

    def write_build(
        self, note: BuildNote | None, looked: Looked, skipped: Collection[SkippedPath]
    ) -> None:
        """Write how a build ran, and which paths were skipped where it looked.

        This, and no record, may be undone where the system fails soon after.

        Parameters
        ----------
        note : BuildNote or None
            In place of the one before; None, of an update, leaves that.
        looked : Looked
            Where skipped paths are no longer noted.
        skipped : collection of SkippedPath
            What is noted now.
        """

        def write(txn: Transaction) -> None:
            if note is not None:
                write_note(txn, note)
                for key, value in note_of_file(os.stat(self.path).st_ino).items():
                    txn.put("meta", key, value)
            for key, known in list(walk_notes_in(txn, looked)):
                if isinstance(known, SkippedPath):
                    txn.delete("problems", key)
            put_problem_notes(txn, skipped)

        self._write(write, _NOTES, is_note=True)

    def accept(self, problems: Iterable[AcceptedProblem]) -> None:
        """Note problems as accepted, in place of those that were; raises as `replace`."""

        def write(txn: Transaction) -> None:
            for key, known in list(walk_problem_notes(txn)):
                if isinstance(known, AcceptedProblem):
                    txn.delete("problems", key)
            put_problem_notes(txn, problems)

        self._write(write, _NOTES)

    def add_problem_notes(self, notes: Iterable[ProblemNote]) -> None:
        """Write notes of problems beside those there, as a merge does; raises as `replace`."""
        self._write(lambda txn: put_problem_notes(txn, notes), _NOTES)

    def forget(self, problems: Iterable[AcceptedProblem]) -> None:
        """Drop problems that were accepted; raises as `replace`."""

        def write(txn: Transaction) -> None:
            for problem in problems:
                txn.delete("problems", problem_key(problem))

        self._write(write, _NOTES)

    def _write(
        self,
        change: Callable[[Transaction], None],
        databases: Iterable[str] = DATABASES,
        *,
        is_note: bool = False,
    ) -> None:
        """Commit a change to these databases, or none of it; see `Environment.write`."""
        # To write to a damaged page may end the process.
        if unchecked := set(databases) - self._environment().sound:
            self._check_pages(unchecked)
            self._environment().sound.update(unchecked)
        try:
            self._environment().write(change, is_note=is_note)
        except DamageError as error:
            raise damaged(self.path, error) from error
        except (LMDBError, struct.error, ValueError, IndexError, OSError) as error:
            import shutil

            free = shutil.disk_usage(os.path.dirname(self.path)).free
            full = f"the disk is full, {free} bytes are free: " if free < _LITTLE_SPACE else ""
            raise IndexWriteError(
                f"cannot write the index: {full}{error}; it is as it was before this batch",
                path=self.path,
            ) from error
