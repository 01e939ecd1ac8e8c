"""The index file: its databases, what is read from them and what a build writes.

All keys are short, since LMDB takes at most 511 bytes:

    meta       "format", "root", "next"  -> format version, archive root, next file id
    files      file id, 8 bytes, big-endian -> packed record (see record.py)
    entries    file id and number of the chunk, 4 bytes, big-endian -> 16,360 bytes of the entries
               of a record of over 64 KiB, since LMDB looks at every page of a value
    paths      16-byte blake2b digest of the path -> file id and fingerprint
    unscanned  file id -> status, of files that are not DICOM or could not be read
    instances  SOP Instance UID -> ids of files with frames to read
    others     SOP Instance UID -> ids of files without
    studies    Study Instance UID -> file ids
    series     Series Instance UID -> file ids

Records and chunks of entries end with the CRC-32, 4 bytes, little-endian, of key and value.
A file id is never used twice and its record never changes: a file that is scanned anew gets a
new one. So what was read of a record stays right or is gone, whatever a build does meanwhile.
No LMDB memory leaves a transaction.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import wraps
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

from mmindex.errors import IndexFormatError, IndexWriteError, StaleIndexError
from mmindex.index import environment
from mmindex.index.checksum import DamageError, unseal
from mmindex.index.create import check_format, create_index
from mmindex.index.entries import StoredEntries
from mmindex.index.environment import Environment, LMDBError, OvertakenError, Transaction
from mmindex.index.keys import (
    CHUNK_KEY,
    CHUNK_LENGTH,
    DATABASES,
    FILE_ID,
    PATH_VALUE,
    UID_FIELDS,
    UidKind,
    path_key,
    uid_key,
)
from mmindex.index.pages import check_pages
from mmindex.index.record import join_record, length_apart, unpack_record
from mmindex.index.replace import replace_files
from mmindex.model import InstanceRecord, Status

_BATCH = 256  # records a transaction while all are read
_VALUES_IN_A_NODE = 128  # file ids of a UID that never take a page of their own
_DAMAGE = (LMDBError, struct.error, DamageError)  # what reading a damaged index may end in
_LITTLE_SPACE = 1 << 20  # bytes; LMDB calls it an input/output error when these do not suffice
_MOST_READINGS = 100  # of what commits overtake each time

Taken = TypeVar("Taken")
Asked = ParamSpec("Asked")


def _again_if_overtaken(
    read: Callable[Concatenate[Store, Asked], Taken],
) -> Callable[Concatenate[Store, Asked], Taken]:
    """Let a method of a store read again where it has no lock and a build was faster."""

    @wraps(read)
    def read_again(self: Store, /, *args: Asked.args, **kwargs: Asked.kwargs) -> Taken:
        for _ in range(_MOST_READINGS):
            try:
                return read(self, *args, **kwargs)
            except OvertakenError:
                continue
        raise IndexFormatError(
            "the index is written faster than it can be read: its lock file cannot be opened",
            path=self.path,
        )

    return read_again


class Store:
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

    def __init__(self, path: str, *, root: bytes | None = None) -> None:
        self.path = os.path.realpath(path)
        self._write = root is not None
        if root is not None:
            create_index(self.path, root)
        self._shared: Environment | None = self._acquire()

    def _acquire(self) -> Environment:
        return environment.acquire(self.path, DATABASES, check_format, write=self._write)

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
        except (LMDBError, OSError) as error:
            raise IndexWriteError(f"cannot write the index: {error}", path=path) from error

    def close(self) -> None:
        """Let go of the index."""
        shared, self._shared = self._shared, None
        if shared is not None:
            environment.release(shared)

    def _environment(self) -> Environment:
        shared = self._shared
        if shared is None:
            raise ValueError("the index is closed")
        if shared.generation != environment.generation:  # this process was forked
            shared = self._shared = self._acquire()
        return shared

    def _read(self, database: str, *, buffers: bool = False) -> Transaction:
        return Transaction(self._environment(), database, buffers=buffers)

    # What is read: mostly each in a transaction of its own, copied out of LMDB's memory.

    @property
    def root(self) -> bytes:
        """The archive's root, absolute."""
        stored = self._get("meta", b"root") or b""
        folder = os.path.dirname(os.fsencode(self.path))
        return os.path.normpath(os.path.join(folder, stored))

    def _check_pages(self, txn: Any, database: str) -> None:
        """Raise IndexFormatError where to go through a database would end the process."""
        try:
            check_pages(self.path, txn.id(), database)
        except (ValueError, struct.error, OSError) as error:
            raise _damaged(self.path, error) from error

    @_again_if_overtaken
    def _get(self, database: str, key: bytes) -> bytes | None:
        try:
            with self._read(database) as txn:
                value: bytes | None = txn.get(key)
                return value
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error

    @_again_if_overtaken
    def read_entries(self, file_id: int, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of the entries of a record that are kept apart.

        Raises
        ------
        StaleIndexError
            The record is gone: a build has replaced or removed it.
        """
        files = self._environment().databases["files"]
        pieces = []
        try:
            with self._read("entries", buffers=True) as txn:
                for number in range(start // CHUNK_LENGTH, -(-stop // CHUNK_LENGTH)):
                    key = CHUNK_KEY.pack(file_id, number)
                    sealed = txn.get(key)
                    if sealed is None:
                        break
                    at = number * CHUNK_LENGTH
                    pieces.append(bytes(unseal(key, sealed)[max(0, start - at) : stop - at]))
                found = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                if len(found) == max(0, stop - start):
                    return found
                if txn.get(FILE_ID.pack(file_id), db=files) is not None:
                    raise DamageError(f"entries of file {file_id} are missing")
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        raise StaleIndexError("the index was rebuilt: look the instance up anew", path=self.path)

    @_again_if_overtaken
    def read_record(self, file_id: int) -> InstanceRecord | None:
        """Return the record of a file, None where it is gone; long entries stay in the index."""
        try:
            with self._read("files", buffers=True) as txn:
                sealed = txn.get(FILE_ID.pack(file_id))
                return None if sealed is None else self._unpack(file_id, sealed)
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error

    def _unpack(self, file_id: int, sealed: memoryview) -> InstanceRecord:
        packed = unseal(FILE_ID.pack(file_id), sealed)
        try:
            length = length_apart(packed)
            if length is None:
                return unpack_record(packed)
            return unpack_record(packed, StoredEntries(self, file_id, length))
        except IndexFormatError as error:
            error.at(self.path)
            raise

    def _values(self, txn: Any, cursor: Any, kind: UidKind) -> Iterator[bytes]:
        """Return the values of the key that a cursor is at."""
        if cursor.count() > _VALUES_IN_A_NODE:
            self._check_pages(txn, kind)
        values: Iterator[bytes] = cursor.iternext_dup()
        return values

    @_again_if_overtaken
    def find_uid(self, kind: UidKind, uid: str) -> list[int]:
        """Return the ids of the files that have this UID, in ascending order."""
        try:
            with self._read(kind) as txn, txn.cursor() as cursor:
                if not cursor.set_key(uid_key(uid)):
                    return []
                return [FILE_ID.unpack(value)[0] for value in self._values(txn, cursor, kind)]
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error

    @_again_if_overtaken
    def read_records(self, kind: UidKind, uid: str) -> list[tuple[int, InstanceRecord]]:
        """Return ids and records of the files that have this UID, in ascending order of ids."""
        key = uid_key(uid)
        files = self._environment().databases["files"]
        found = []
        try:
            with self._read(kind, buffers=True) as txn, txn.cursor() as cursor:
                if cursor.set_key(key):
                    for id_bytes in self._values(txn, cursor, kind):
                        file_id = FILE_ID.unpack(id_bytes)[0]
                        sealed = txn.get(id_bytes, db=files)
                        if sealed is not None:
                            record = self._unpack(file_id, sealed)
                            self._check_uid(kind, key, record)
                            found.append((file_id, record))
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        return found

    def iterate_uid(self, kind: UidKind, uid: str) -> Iterator[InstanceRecord]:
        """Yield the records of the files that have this UID, each read when its turn comes."""
        key = uid_key(uid)
        for file_id in self.find_uid(kind, uid):
            record = self.read_record(file_id)
            if record is not None:
                self._check_uid(kind, key, record)
                yield record

    def _check_uid(self, kind: UidKind, key: bytes, record: InstanceRecord) -> None:
        """Raise IndexFormatError where a UID led to the record of another."""
        found = getattr(record, UID_FIELDS[kind])
        if uid_key(found) != key:
            wrong = f"{key.decode('latin-1')!r} leads to a record of {found!r}"
            raise _damaged(self.path, DamageError(wrong))

    def find_path(self, path: bytes) -> int | None:
        """Return the id of the file at this path."""
        (known,) = self.find_paths([path])
        return None if known is None else known[0]

    @_again_if_overtaken
    def find_paths(self, paths: Collection[bytes]) -> list[tuple[int, tuple[int, ...]] | None]:
        """Return id and fingerprint of the files at these paths, None for those not known."""
        unpack = PATH_VALUE.unpack
        try:
            with self._read("paths") as txn:
                values = map(txn.get, map(path_key, paths))
                known = [None if value is None else unpack(value) for value in values]
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        return [None if found is None else (found[0], found[1:]) for found in known]

    def iterate_records(self) -> Iterator[InstanceRecord]:
        """Yield every record in the order of file ids, a batch a transaction."""
        return self._iterate_files(self._unpack)

    def iterate_packed(self) -> Iterator[bytes]:
        """Yield every record as it is packed, in the order of file ids."""
        for file_id, packed in self._iterate_files(_unseal_record):
            length = length_apart(packed)
            if length is None:
                yield packed
                continue
            try:
                yield join_record(packed, self.read_entries(file_id, 0, length))
            except StaleIndexError:
                continue  # if it was replaced meanwhile, its new id comes later

    @_again_if_overtaken
    def check(self) -> None:
        """Raise IndexFormatError where what is in the index is not what was written."""
        for database in DATABASES:
            with self._read(database) as txn:
                self._check_pages(txn, database)
        for _ in self.iterate_packed():
            pass  # the checksums of each are looked at

    def _iterate_files(self, take: Callable[[int, memoryview], Taken]) -> Iterator[Taken]:
        next_id = 0
        while batch := self._read_batch(take, next_id):  # to the last one that a build adds
            yield from (taken for _, taken in batch)
            next_id = batch[-1][0] + 1

    @_again_if_overtaken
    def _read_batch(
        self, take: Callable[[int, memoryview], Taken], next_id: int
    ) -> list[tuple[int, Taken]]:
        """Return ids and what `take` makes of the records from an id on."""
        batch: list[tuple[int, Taken]] = []
        try:
            with self._read("files", buffers=True) as txn, txn.cursor() as cursor:
                if not next_id:
                    self._check_pages(txn, "files")
                found = cursor.set_range(FILE_ID.pack(next_id))
                for key, sealed in islice(cursor.iternext(), _BATCH) if found else ():
                    file_id = FILE_ID.unpack(key)[0]
                    if file_id < next_id:
                        raise _damaged(self.path, ValueError("file ids are in no order"))
                    batch.append((file_id, take(file_id, sealed)))
                    next_id = file_id + 1
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        return batch

    def iterate_uids(self, kind: UidKind) -> Iterator[str]:
        """Yield the UIDs of a kind in the order of their bytes, each once."""
        last = b""
        while True:
            batch = self._read_uids(kind, last)
            yield from (key.decode("latin-1") for key in batch)
            if len(batch) < _BATCH:
                return
            last = batch[-1]

    @_again_if_overtaken
    def _read_uids(self, kind: UidKind, last: bytes) -> list[bytes]:
        """Return the UIDs after another."""
        batch: list[bytes] = []
        try:
            with self._read(kind) as txn, txn.cursor() as cursor:
                if not last:
                    self._check_pages(txn, kind)
                found = cursor.set_range(last + b"\0") if last else cursor.first()
                while found and len(batch) < _BATCH:
                    if cursor.key() <= last:
                        raise _damaged(self.path, ValueError("UIDs are in no order"))
                    last = cursor.key()
                    batch.append(last)
                    found = cursor.next_nodup()
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        return batch

    def iterate_duplicates(self, kind: UidKind) -> Iterator[tuple[str, list[InstanceRecord]]]:
        """Yield the UIDs of a kind that several files have, with the records of these."""
        for uid in self.iterate_uids(kind):
            if len(self.find_uid(kind, uid)) > 1:
                yield uid, list(self.iterate_uid(kind, uid))

    def count_uids(self, kind: UidKind) -> int:
        """Return the number of different UIDs of a kind."""
        return sum(1 for _ in self.iterate_uids(kind))

    def find_unseen(self, seen: bytearray) -> list[int]:
        """Return the ids of files whose byte in `seen` is zero; those beyond it were seen."""
        try:
            with self._read("files") as txn, txn.cursor() as cursor:
                files = self._environment().databases["files"]
                if txn.stat(files)["entries"] == seen.count(1):
                    return []  # each id that was seen and is gone has a new one in its place
                self._check_pages(txn, "files")
                ids = (FILE_ID.unpack(key)[0] for key in cursor.iternext(keys=True, values=False))
                return [file_id for file_id in ids if file_id < len(seen) and not seen[file_id]]
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error

    @_again_if_overtaken
    def find_unscanned(self, status: Status) -> list[int]:
        """Return the ids of the files that are not DICOM, or of those that could not be read."""
        try:
            with self._read("unscanned") as txn, txn.cursor() as cursor:
                self._check_pages(txn, "unscanned")
                wanted = status.value.encode()
                return [FILE_ID.unpack(key)[0] for key, value in cursor if value == wanted]
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error

    def next_file_id(self) -> int:
        """Return the id that the next new file will get."""
        stored = self._get("meta", b"next") or b""
        if len(stored) != FILE_ID.size:
            raise _damaged(self.path, ValueError("no next file id"))
        file_id: int = FILE_ID.unpack(stored)[0]
        return file_id

    # What a build writes: all of a batch, or nothing.

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
            shared.env.reader_check()  # a reader that was killed would keep pages from being reused
            with environment.lengthening(shared, self.path), Transaction(shared) as txn:
                replace_files(txn, shared.databases, packed_records, removed)
        except DamageError as error:
            raise _damaged(self.path, error) from error
        except (*_DAMAGE, ValueError, IndexError, OSError) as error:
            free = shutil.disk_usage(os.path.dirname(self.path)).free
            full = f"the disk is full, {free} bytes are free: " if free < _LITTLE_SPACE else ""
            raise IndexWriteError(
                f"cannot write the index: {full}{error}; it is as it was before this batch",
                path=self.path,
            ) from error


def _unseal_record(file_id: int, sealed: memoryview) -> tuple[int, bytes]:
    return file_id, bytes(unseal(FILE_ID.pack(file_id), sealed))


def _damaged(path: str, error: Exception) -> IndexFormatError:
    return IndexFormatError(f"damaged index: {error}; delete it and build anew", path=path)
