"""The index file: its databases, what is read from them and what a build writes.

All keys are short, since LMDB takes at most 511 bytes:

    meta       "format", "identity", "root", "next" -> format version, 16 random bytes,
               archive root, next file id
    files      file id, 8 bytes, big-endian -> packed record (see record.py)
    entries    file id and number of the chunk, 4 bytes, big-endian -> 16,360 bytes of the entries
               of a record of over 64 KiB, since LMDB looks at every page of a value
    paths      16-byte blake2b digest of the path -> file id and fingerprint
    unscanned  file id -> status, of files that are not DICOM or could not be read
    instances  SOP Instance UID -> ids of files with frames to read
    others     SOP Instance UID -> ids of files without
    studies    Study Instance UID -> file ids
    series     Series Instance UID -> file ids

Values of meta (but "format"), files, entries and paths end with the CRC-32 of key and value, 4
bytes, little-endian.
A file id is never used twice and its record never changes: a file that is scanned anew gets a
new one. So what was read of a record stays right or is gone, whatever a build does meanwhile.
No LMDB memory leaves a transaction.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from mmindex.errors import IndexWriteError, StaleIndexError
from mmindex.index.checksum import DamageError, unseal
from mmindex.index.chunks import StoredEntries, slice_entries
from mmindex.index.commit import replace_files
from mmindex.index.databases import (
    DATABASES,
    FILE_ID,
    PATH_VALUE,
    UID_FIELDS,
    UidKind,
    path_key,
    uid_key,
)
from mmindex.index.index_file import OpenIndex, damaged, reading
from mmindex.index.lmdb.environment import LMDBError
from mmindex.index.lmdb.file_length import extending
from mmindex.index.lmdb.new_file import copy
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record import join_record, length_apart, unpack_record
from mmindex.index.verify import verify_index
from mmindex.model import InstanceRecord, Status

_BATCH = 256  # records a transaction while all are read
_WHOLE_BATCH = 16  # those with all their entries
_STRETCH = 4096  # paths whose records are read in the order of ids
_LITTLE_SPACE = 1 << 20  # bytes; LMDB calls it an input/output error when these do not suffice

Taken = TypeVar("Taken")
Take = Callable[[Transaction, int, memoryview], Taken]  # of a file id and its sealed record


class Store(OpenIndex):
    """An index file, open.

    Parameters
    ----------
    path : str
        The index file.
    root : bytes, optional
        Archive root of an index that is to be written (see `only_writer`), and made where it is
        not there; without it the store is only read.

    Raises
    ------
    MissingFileError, IndexFormatError, IndexWriteError
        There is no such index, it is none, or it cannot be written.
    """

    _is_sound = False  # whether a writer has looked at all pages

    # What is read: each in a transaction of its own, copied out of LMDB's memory.

    @reading
    def read_entries(self, txn: Transaction, file_id: int, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of the entries of a record that are kept apart.

        Raises
        ------
        StaleIndexError
            The record is gone: a build has replaced or removed it.
        """
        if start < stop and txn.get("files", FILE_ID.pack(file_id)) is None:
            raise StaleIndexError(
                "the index was rebuilt: look the instance up anew", path=self.path
            )
        return slice_entries(txn, file_id, start, stop)

    @reading
    def read_record(self, txn: Transaction, file_id: int) -> InstanceRecord | None:
        """Return the record of a file, None where it is gone; long entries stay in the index."""
        sealed = txn.get("files", FILE_ID.pack(file_id))
        return None if sealed is None else self._unpack(txn, file_id, sealed)

    def _unpack(self, _: Transaction, file_id: int, sealed: memoryview) -> InstanceRecord:
        packed = unseal(FILE_ID.pack(file_id), sealed)
        length = length_apart(packed)
        entries = None if length is None else StoredEntries(self, file_id, length)
        record = unpack_record(packed, entries)
        if record.fingerprint is None:
            raise DamageError(f"file {file_id} has no fingerprint")
        return record

    @reading
    def find_uid(self, txn: Transaction, kind: UidKind, uid: str) -> list[int]:
        """Return the ids of the files that have this UID, in ascending order."""
        return [FILE_ID.unpack(value)[0] for value in txn.walk_values(kind, uid_key(uid))]

    @reading
    def read_records(
        self, txn: Transaction, kind: UidKind, uid: str, after: int = -1, most: int | None = None
    ) -> list[tuple[int, InstanceRecord]]:
        """Return ids and records of the files that have this UID, in ascending order of ids.

        Parameters
        ----------
        after : int
            The id after which they are.
        most : int, optional
            How many of them; all unless given.
        """
        key = uid_key(uid)
        found = []
        start = FILE_ID.pack(after + 1) if after >= 0 else b""
        for id_bytes in islice(txn.walk_values(kind, key, start), most):
            file_id = FILE_ID.unpack(id_bytes)[0]
            sealed = txn.get("files", FILE_ID.pack(file_id))
            if sealed is None:
                raise DamageError(f"{uid!r} leads to file {file_id}, which is not there")
            record = self._unpack(txn, file_id, sealed)
            found_uid = getattr(record, UID_FIELDS[kind])
            if uid_key(found_uid) != key:
                raise DamageError(f"{uid!r} leads to a record of {found_uid!r}")
            found.append((file_id, record))
        return found

    def iterate_uid(self, kind: UidKind, uid: str) -> Iterator[InstanceRecord]:
        """Yield the records of the files that have this UID, each file once."""
        end, after = self.next_file_id(), -1
        seen: set[bytes] = set()
        while after < end - 1 and (batch := self.read_records(kind, uid, after, _BATCH)):
            after = batch[-1][0]
            for _, record in batch:
                if record.path not in seen:
                    seen.add(record.path)
                    yield record
        # Files that a build has replaced meanwhile have later ids.
        for _, record in self.read_records(kind, uid, max(after, end - 1)):
            if record.path not in seen:
                yield record

    @reading
    def read_path(self, txn: Transaction, path: bytes) -> InstanceRecord | None:
        """Return the record of the file at this path, None where there is none."""
        found = self._follow(txn, path_key(path))
        return None if found is None else self._unpack(txn, *found)

    def _follow(self, txn: Transaction, key: bytes) -> tuple[int, memoryview] | None:
        """Return the id that a path's key leads to, and the record that has it."""
        value = txn.get("paths", key)
        if value is None:
            return None
        file_id: int = PATH_VALUE.unpack(unseal(key, value))[0]
        sealed = txn.get("files", FILE_ID.pack(file_id))
        if sealed is None:
            raise DamageError(f"a path leads to file {file_id}, which is not there")
        return file_id, sealed

    @reading
    def find_paths(
        self, txn: Transaction, paths: Collection[bytes]
    ) -> list[tuple[int, tuple[int, ...]] | None]:
        """Return id and fingerprint of the files at these paths, None for those not known."""
        unpack = PATH_VALUE.unpack
        known: list[tuple[int, tuple[int, ...]] | None] = []
        for key in map(path_key, paths):
            sealed = txn.get("paths", key)
            found = None if sealed is None else unpack(unseal(key, sealed))
            known.append(None if found is None else (found[0], found[1:]))
        return known

    def iterate_records(self) -> Iterator[InstanceRecord]:
        """Yield every record once, whatever a build does meanwhile, a batch a transaction."""
        return self._iterate(self._unpack, _BATCH)

    def iterate_packed(self) -> Iterator[bytes]:
        """Yield every record once, as it is packed, with all its entries."""
        return self._iterate(self._join, _WHOLE_BATCH)

    def _join(self, txn: Transaction, file_id: int, sealed: memoryview) -> bytes:
        packed = bytes(unseal(FILE_ID.pack(file_id), sealed))
        length = length_apart(packed)
        return (
            packed
            if length is None
            else join_record(packed, slice_entries(txn, file_id, 0, length))
        )

    def _iterate(self, take: Take[Taken], most: int) -> Iterator[Taken]:
        """Yield what `take` makes of every record.

        The walk goes along the paths, of which a file keeps its own when a build gives the file
        another id. The files of one stretch of paths come in the order of their ids, in which
        their records lie.
        """
        start = b""
        while stretch := self._read_paths(start):
            start = stretch[-1][1] + b"\0"
            stretch.sort()
            for at in range(0, len(stretch), most):
                yield from self._read_batch(take, stretch[at : at + most])

    @reading
    def _read_paths(self, txn: Transaction, start: bytes) -> list[tuple[int, bytes]]:
        """Return ids and keys of the paths from a key on, as many as one stretch has."""
        return [
            (PATH_VALUE.unpack(unseal(key, value))[0], key)
            for key, value in islice(txn.walk("paths", start), _STRETCH)
        ]

    @reading
    def _read_batch(
        self, txn: Transaction, take: Take[Taken], batch: list[tuple[int, bytes]]
    ) -> list[Taken]:
        """Return what `take` makes of the records of files, by id or else by the path's key."""
        taken = []
        for file_id, key in batch:
            sealed = txn.get("files", FILE_ID.pack(file_id))
            found = self._follow(txn, key) if sealed is None else (file_id, sealed)
            if found is not None:  # else the file was removed meanwhile
                taken.append(take(txn, *found))
        return taken

    def iterate_uids(self, kind: UidKind) -> Iterator[str]:
        """Yield the UIDs of a kind in the order of their bytes, each once."""
        start = b""
        while batch := self._read_uids(kind, start):
            yield from (key.decode("latin-1") for key in batch)
            start = batch[-1] + b"\0"

    @reading
    def _read_uids(self, txn: Transaction, kind: UidKind, start: bytes) -> list[bytes]:
        return [key for key, _ in islice(txn.walk(kind, start), _BATCH)]

    def iterate_duplicates(self, kind: UidKind) -> Iterator[tuple[str, list[InstanceRecord]]]:
        """Yield the UIDs of a kind that several files have, with the records of these."""
        for uid in self.iterate_uids(kind):
            if len(self.find_uid(kind, uid)) > 1:
                records = list(self.iterate_uid(kind, uid))
                if len(records) > 1:  # still, while a build goes on
                    yield uid, records

    def count_uids(self, kind: UidKind) -> int:
        """Return the number of different UIDs of a kind."""
        return sum(1 for _ in self.iterate_uids(kind))

    @reading
    def count_duplicates(self, txn: Transaction, kind: UidKind) -> int:
        """Return the number of UIDs of a kind that several files have."""
        return txn.count_repeated(kind)

    @reading
    def count_files(self, txn: Transaction) -> int:
        """Return the number of files that the index knows."""
        return txn.count("files")

    @reading
    def find_unseen(self, txn: Transaction, seen: bytearray) -> list[int]:
        """Return the ids of files whose byte in `seen` is zero; those beyond it were seen."""
        if txn.count("files") == seen.count(1):
            return []  # each id that was seen and is gone has a new one in its place
        ids = (FILE_ID.unpack(key)[0] for key, _ in txn.walk("files"))
        return [file_id for file_id in ids if file_id < len(seen) and not seen[file_id]]

    @reading
    def find_unscanned(self, txn: Transaction, status: Status) -> list[int]:
        """Return the ids of the files that are not DICOM, or of those that could not be read."""
        wanted = status.value.encode()
        return [FILE_ID.unpack(key)[0] for key, value in txn.walk("unscanned") if value == wanted]

    @reading
    def check(self, txn: Transaction) -> None:
        """Raise IndexFormatError where the index is not as it was written, or not whole."""
        for name in DATABASES:
            txn.check(name)
        verify_index(txn)

    # What a build writes: all of a batch, or nothing.

    def copy_to(self, path: str) -> None:
        """Write what the index holds to a new file, without unused pages.

        Raises
        ------
        IndexFormatError, IndexWriteError
            The index is damaged; the file cannot be written.
        """
        try:
            self._check_all_pages()
            shared = self._environment()
            with shared.lock:
                copy(shared, path, DATABASES)
        except (LMDBError, OSError) as error:
            raise IndexWriteError(f"cannot write the index: {error}", path=path) from error

    @reading
    def _check_all_pages(self, txn: Transaction) -> None:
        for name in DATABASES:
            txn.check(name)

    def replace(self, packed_records: Iterable[bytes], removed: Iterable[int] = ()) -> None:
        """Put in the records of files, in place of those at the same paths, and drop others.

        Raises
        ------
        IndexWriteError
            The disk or the map is full, or the index cannot be written.
        IndexFormatError
            What is to be replaced is damaged.
        """
        if not self._is_sound:  # to write to a damaged page may end the process
            self._check_all_pages()
            self._is_sound = True
        try:
            shared = self._environment()
            with shared.lock:
                # A reader that was killed would keep pages from being reused.
                shared.env.reader_check()
                with extending(shared.env, self.path), shared.begin(write=True) as raw:
                    replace_files(Transaction(raw, shared.opened), packed_records, removed)
        except DamageError as error:
            raise damaged(self.path, error) from error
        except (LMDBError, struct.error, ValueError, IndexError, OSError) as error:
            free = shutil.disk_usage(os.path.dirname(self.path)).free
            full = f"the disk is full, {free} bytes are free: " if free < _LITTLE_SPACE else ""
            raise IndexWriteError(
                f"cannot write the index: {full}{error}; it is as it was before this batch",
                path=self.path,
            ) from error
