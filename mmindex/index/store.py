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
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

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
from mmindex.index.index_file import OpenIndex
from mmindex.index.lmdb import environment
from mmindex.index.lmdb.environment import LMDBError, Transaction
from mmindex.index.reading import damaged, reading
from mmindex.index.record import join_record, length_apart, unpack_record
from mmindex.index.verify import verify_index
from mmindex.model import InstanceRecord, Status

_BATCH = 256  # records a transaction while all are read
_WHOLE_BATCH = 16  # those with all their entries
_VALUES_IN_A_NODE = 128  # file ids of a UID that never take a page of their own
_LITTLE_SPACE = 1 << 20  # bytes; LMDB calls it an input/output error when these do not suffice

Taken = TypeVar("Taken")
Take = Callable[[Any, int, memoryview], Taken]  # of a transaction, a file id and a sealed record


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

    # What is read: mostly each in a transaction of its own, copied out of LMDB's memory.

    @reading
    def read_entries(self, file_id: int, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of the entries of a record that are kept apart.

        Raises
        ------
        StaleIndexError
            The record is gone: a build has replaced or removed it.
        """
        files, entries = (self._environment().databases[name] for name in ("files", "entries"))
        with self._read("entries", buffers=True) as txn:
            if start < stop and txn.get(FILE_ID.pack(file_id), db=files) is None:
                raise StaleIndexError(
                    "the index was rebuilt: look the instance up anew", path=self.path
                )
            return slice_entries(txn, entries, file_id, start, stop)

    @reading
    def read_record(self, file_id: int) -> InstanceRecord | None:
        """Return the record of a file, None where it is gone; long entries stay in the index."""
        with self._read("files", buffers=True) as txn:
            sealed = txn.get(FILE_ID.pack(file_id))
            return None if sealed is None else self._unpack(txn, file_id, sealed)

    def _unpack(self, _: Any, file_id: int, sealed: memoryview) -> InstanceRecord:
        packed = unseal(FILE_ID.pack(file_id), sealed)
        length = length_apart(packed)
        entries = None if length is None else StoredEntries(self, file_id, length)
        record = unpack_record(packed, entries)
        if record.fingerprint is None:
            raise DamageError(f"file {file_id} has no fingerprint")
        return record

    def _join(self, txn: Any, file_id: int, sealed: memoryview) -> bytes:
        packed = bytes(unseal(FILE_ID.pack(file_id), sealed))
        length = length_apart(packed)
        if length is None:
            return packed
        entries = self._environment().databases["entries"]
        return join_record(packed, slice_entries(txn, entries, file_id, 0, length))

    def _values(
        self, txn: Any, cursor: Any, kind: UidKind, key: bytes, after: int = -1
    ) -> Iterator[bytes]:
        """Return the values of a key, of which a cursor is at the first, from ids after one on."""
        if after < 0 and cursor.count() > _VALUES_IN_A_NODE:
            self._check_pages(txn, kind)
        if after >= 0 and not cursor.set_range_dup(key, FILE_ID.pack(after + 1)):
            return iter(())
        values: Iterator[bytes] = cursor.iternext_dup()
        return values

    @reading
    def find_uid(self, kind: UidKind, uid: str) -> list[int]:
        """Return the ids of the files that have this UID, in ascending order."""
        with self._read(kind) as txn, txn.cursor() as cursor:
            key = uid_key(uid)
            if not cursor.set_key(key):
                return []
            return [FILE_ID.unpack(value)[0] for value in self._values(txn, cursor, kind, key)]

    @reading
    def read_records(
        self, kind: UidKind, uid: str, after: int = -1, most: int | None = None
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
        files = self._environment().databases["files"]
        found = []
        with self._read(kind, buffers=True) as txn, txn.cursor() as cursor:
            ids = self._values(txn, cursor, kind, key, after) if cursor.set_key(key) else ()
            for id_bytes in islice(ids, most):
                file_id = FILE_ID.unpack(id_bytes)[0]
                sealed = txn.get(id_bytes, db=files)
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
    def read_path(self, path: bytes) -> InstanceRecord | None:
        """Return the record of the file at this path, None where there is none."""
        key = path_key(path)
        files = self._environment().databases["files"]
        with self._read("paths", buffers=True) as txn:
            value = txn.get(key)
            if value is None:
                return None
            file_id = PATH_VALUE.unpack(unseal(key, value))[0]
            sealed = txn.get(FILE_ID.pack(file_id), db=files)
            if sealed is None:
                raise DamageError(f"a path leads to file {file_id}, which is not there")
            return self._unpack(txn, file_id, sealed)

    @reading
    def find_paths(self, paths: Collection[bytes]) -> list[tuple[int, tuple[int, ...]] | None]:
        """Return id and fingerprint of the files at these paths, None for those not known."""
        unpack = PATH_VALUE.unpack
        known: list[tuple[int, tuple[int, ...]] | None] = []
        with self._read("paths") as txn:
            get = txn.get
            for key in map(path_key, paths):
                sealed = get(key)
                found = None if sealed is None else unpack(unseal(key, sealed))
                known.append(None if found is None else (found[0], found[1:]))
        return known

    def iterate_records(self) -> Iterator[InstanceRecord]:
        """Yield every record, in the order of file ids, a batch a transaction."""
        end, seen = self.next_file_id(), array("q")  # one number a file, which may be millions
        for record in self._iterate_ids(self._unpack, end, _BATCH):
            seen.append(hash(record.path))
            yield record
        if self.next_file_id() != end:
            known = set(seen)
            for record in self._iterate_newer(self._unpack, end, _BATCH):
                if hash(record.path) not in known:
                    yield record

    def iterate_packed(self) -> Iterator[bytes]:
        """Yield every record as it is packed; one that a build replaces may come a second time."""
        end = self.next_file_id()
        yield from self._iterate_ids(self._join, end, _WHOLE_BATCH)
        if self.next_file_id() != end:
            yield from self._iterate_newer(self._join, end, _WHOLE_BATCH)

    def _iterate_ids(self, take: Take[Taken], end: int, most: int) -> Iterator[Taken]:
        """Yield what `take` makes of the records with ids below `end`."""
        next_id = 0
        while batch := self._read_batch(take, next_id, end, most):
            yield from (taken for _, taken in batch)
            next_id = batch[-1][0] + 1

    def _iterate_newer(self, take: Take[Taken], end: int, most: int) -> Iterator[Taken]:
        """Yield what `take` makes of the records with ids from `end` on, of each path one.

        A file that a build has replaced meanwhile has such an id, but the same path.
        """
        key = b""
        while batch := self._read_newer(take, key, end, most):
            yield from (taken for _, taken in batch if taken is not None)
            key = batch[-1][0]

    @reading
    def _read_batch(
        self, take: Take[Taken], next_id: int, end: int, most: int
    ) -> list[tuple[int, Taken]]:
        """Return ids in [next_id, end) and what `take` makes of their records."""
        batch: list[tuple[int, Taken]] = []
        with self._read("files", buffers=True) as txn, txn.cursor() as cursor:
            if not next_id:
                self._check_pages(txn, "files")
            found = cursor.set_range(FILE_ID.pack(next_id)) if next_id else cursor.first()
            for key, sealed in islice(cursor.iternext(), most) if found else ():
                file_id = FILE_ID.unpack(key)[0]
                if file_id < next_id:
                    raise DamageError("file ids are in no order")
                if file_id >= end:
                    break
                batch.append((file_id, take(txn, file_id, sealed)))
                next_id = file_id + 1
        return batch

    @reading
    def _read_newer(
        self, take: Take[Taken], key: bytes, first_id: int, most: int
    ) -> list[tuple[bytes, Taken | None]]:
        """Return the keys of paths after another, and what `take` makes of ids from one on."""
        files = self._environment().databases["files"]
        batch: list[tuple[bytes, Taken | None]] = []
        with self._read("paths", buffers=True) as txn, txn.cursor() as cursor:
            if not key:
                self._check_pages(txn, "paths")
            found = cursor.set_range(key + b"\0")
            for path, value in islice(cursor.iternext(), most) if found else ():
                key = bytes(path)
                file_id = PATH_VALUE.unpack(unseal(key, value))[0]
                taken = None
                if file_id >= first_id:
                    sealed = txn.get(FILE_ID.pack(file_id), db=files)
                    if sealed is None:
                        raise DamageError(f"a path leads to file {file_id}, which is not there")
                    taken = take(txn, file_id, sealed)
                batch.append((key, taken))
        return batch

    def iterate_uids(self, kind: UidKind) -> Iterator[str]:
        """Yield the UIDs of a kind in the order of their bytes, each once."""
        last = b""
        while batch := self._read_uids(kind, last):
            yield from (key.decode("latin-1") for key in batch)
            last = batch[-1]

    @reading
    def _read_uids(self, kind: UidKind, last: bytes) -> list[bytes]:
        """Return the UIDs after another."""
        batch: list[bytes] = []
        with self._read(kind) as txn, txn.cursor() as cursor:
            if not last:
                self._check_pages(txn, kind)
            found = cursor.set_range(last + b"\0") if last else cursor.first()
            while found and len(batch) < _BATCH:
                if cursor.key() <= last:
                    raise DamageError("UIDs are in no order")
                last = cursor.key()
                batch.append(last)
                found = cursor.next_nodup()
        return batch

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
    def find_unseen(self, seen: bytearray) -> list[int]:
        """Return the ids of files whose byte in `seen` is zero; those beyond it were seen."""
        with self._read("files") as txn, txn.cursor() as cursor:
            files = self._environment().databases["files"]
            if txn.stat(files)["entries"] == seen.count(1):
                return []  # each id that was seen and is gone has a new one in its place
            self._check_pages(txn, "files")
            ids = (FILE_ID.unpack(key)[0] for key in cursor.iternext(keys=True, values=False))
            return [file_id for file_id in ids if file_id < len(seen) and not seen[file_id]]

    @reading
    def find_unscanned(self, status: Status) -> list[int]:
        """Return the ids of the files that are not DICOM, or of those that could not be read."""
        with self._read("unscanned") as txn, txn.cursor() as cursor:
            self._check_pages(txn, "unscanned")
            wanted = status.value.encode()
            return [FILE_ID.unpack(key)[0] for key, value in cursor if value == wanted]

    @reading
    def check(self) -> None:
        """Raise IndexFormatError where the index is not as it was written, or not whole."""
        databases = self._environment().databases
        with self._read("files") as txn:
            for name in DATABASES:
                self._check_pages(txn, name)
            verify_index(txn, databases)

    # What a build writes: all of a batch, or nothing.

    def copy_to(self, path: str) -> None:
        """Write what the index holds to a new file, without unused pages.

        Raises
        ------
        IndexFormatError, IndexWriteError
            The index is damaged; the file cannot be written.
        """
        databases = self._environment().databases
        try:
            with self._read("meta", buffers=True) as txn:
                for name in DATABASES:
                    self._check_pages(txn, name)
                environment.copy(txn, databases, path, DATABASES)
        except DamageError as error:
            raise damaged(self.path, error) from error
        except (LMDBError, OSError) as error:
            raise IndexWriteError(f"cannot write the index: {error}", path=path) from error

    def replace(self, packed_records: Iterable[bytes], removed: Iterable[int] = ()) -> None:
        """Put in the records of files, in place of those at the same paths, and drop others.

        Raises
        ------
        IndexWriteError
            The disk or the map is full, or the index cannot be written.
        IndexFormatError
            What is to be replaced is damaged.
        """
        try:
            shared = self._environment()
            if not self._is_sound:  # to write to a damaged page may end the process
                with self._read("meta") as txn:
                    for name in DATABASES:
                        self._check_pages(txn, name)
                self._is_sound = True
            with shared.lock:
                # A reader that was killed would keep pages from being reused.
                shared.env.reader_check()
            with environment.lengthening(shared, self.path), Transaction(shared) as txn:
                replace_files(txn, shared.databases, packed_records, removed)
        except DamageError as error:
            raise damaged(self.path, error) from error
        except (LMDBError, struct.error, ValueError, IndexError, OSError) as error:
            free = shutil.disk_usage(os.path.dirname(self.path)).free
            full = f"the disk is full, {free} bytes are free: " if free < _LITTLE_SPACE else ""
            raise IndexWriteError(
                f"cannot write the index: {full}{error}; it is as it was before this batch",
                path=self.path,
            ) from error
