"""Reads from an index: records by UID and path, listings, counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from mmindex.index.attribute_reader import AttributeReader
from mmindex.index.checksum import DamageError, unseal
from mmindex.index.chunks import ChunkReader, StoredEntries, slice_chunks
from mmindex.index.databases import (
    DATABASES,
    FILE_ID,
    PATH_VALUE,
    UID_FIELDS,
    UidKind,
    path_key,
    uid_key,
)
from mmindex.index.frame_location import (
    FrameLocation,
    StoredPixels,
    find_location,
    find_pixels,
)
from mmindex.index.index_file import CheckedPages, read_identity, reading
from mmindex.index.instance_names import InstanceName, find_only, uid_of
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.measure_reader import MeasureReader
from mmindex.index.member_reader import MemberReader
from mmindex.index.problem_reader import ProblemReader
from mmindex.index.record import unpack_record
from mmindex.index.record_split import join_record, length_apart, length_of_positions
from mmindex.model import InstanceRecord, Status, locate, split_path

if TYPE_CHECKING:
    from mmindex.index.build_notes import BuildNote
    from mmindex.index.listing import ListedFile

_BATCH = 256  # records a transaction while all are read
_WHOLE_BATCH = 16  # those with all their entries
_LOOKED_AT = 1 << 14  # ids of files whose paths are looked at in one transaction
_STRETCH = 4096  # paths whose records are read in the order of ids

Taken = TypeVar("Taken")
Take = Callable[[Transaction, int, memoryview], Taken]  # of a file id and its sealed record


class Reader(AttributeReader, ChunkReader, MeasureReader, MemberReader, ProblemReader):
    """The reading part of `Store`: each read has a transaction of its own.

    What is read is copied out of LMDB's memory. Parameters and exceptions are those of `Store`.
    """

    @reading
    def read_record(self, txn: Transaction, file_id: int) -> InstanceRecord | None:
        """Return the record of a file, None where it is gone; long entries stay in the index."""
        sealed = txn.get("files", FILE_ID.pack(file_id))
        return None if sealed is None else self._unpack(txn, file_id, sealed)

    def _unpack(self, txn: Transaction, file_id: int, sealed: memoryview) -> InstanceRecord:
        return self.unpack(file_id, unseal(FILE_ID.pack(file_id), sealed), txn)

    def unpack(
        self, file_id: int, packed: bytes | memoryview, txn: Transaction | None = None
    ) -> InstanceRecord:
        """Return a file's record, whose long entries stay in the index.

        Parameters
        ----------
        txn : Transaction, optional
            Where the record was read; in the index as it was opened unless given.
        """
        length, apart = length_apart(packed), length_of_positions(packed)
        entries = positions = None
        if length is not None or apart:  # of few records
            identity = self.identity if txn is None else read_identity(txn)
            if length is not None:
                entries = StoredEntries(self, identity, file_id, length)
            if apart:
                positions = StoredEntries(self, identity, file_id, apart, "positions")
        record = unpack_record(packed, entries, positions)
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

    @reading
    def locate_frame(
        self, txn: Transaction, name: InstanceName, frame_index: int
    ) -> FrameLocation | None:
        """Return where a frame of the only file with this UID lies; see `find_location`."""
        packed = find_only(txn, name)
        return None if packed is None else find_location(packed, uid_key(uid_of(name)), frame_index)

    @reading
    def locate_pixels(
        self, txn: Transaction, name: InstanceName, frame_index: int
    ) -> StoredPixels | None:
        """Return what decodes a frame of the only file with this UID; see `find_pixels`."""
        packed = find_only(txn, name)
        return None if packed is None else find_pixels(packed, uid_key(uid_of(name)), frame_index)

    def iterate_uid(self, kind: UidKind, uid: str) -> Iterator[InstanceRecord]:
        """Yield the records of the files that have this UID, each file once."""
        end, after = self.next_file_id(), -1
        seen: set[bytes] = set()
        while after < end - 1 and (batch := self.read_records(kind, uid, after, _BATCH)):
            after = batch[-1][0]
            for _, record in batch:
                if record.key not in seen:
                    seen.add(record.key)
                    yield record
        # Files that a build has replaced meanwhile have later ids.
        for _, record in self.read_records(kind, uid, max(after, end - 1)):
            if record.key not in seen:
                yield record

    @reading
    def read_path(self, txn: Transaction, path: bytes) -> InstanceRecord | None:
        """Return the record of the file at this path, None where there is none.

        A member of a container is looked up by what `locate` makes of its path and name.
        """
        found = self._follow(txn, path_key(path))
        return None if found is None else self._unpack(txn, *found)

    def find_record(self, path: bytes) -> InstanceRecord | None:
        """Return the record of the file at a path; None where there is none.

        A path like `study.zip!/a.dcm` is that of a file in a container, unless a file has this
        path.
        """
        for key in (path, *(locate(*parts) for parts in split_path(path))):
            record = self.read_path(key)
            if record is not None and record.key == key:
                return record
        return None

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
        keys = [path_key(path) for path in paths]
        known: list[tuple[int, tuple[int, ...]] | None] = []
        for key, sealed in zip(keys, txn.get_all("paths", keys), strict=True):
            if sealed is None:
                known.append(None)
            else:
                file_id, size, time_ns, inode, kind = unpack(unseal(key, sealed))
                known.append((file_id, (size, time_ns, inode, kind)))
        return known

    @reading
    def has_folder(self, txn: Transaction, folder: bytes) -> bool:
        """Return whether files of the index are, or were, below a folder; of the root it is so."""
        from mmindex.index.folders import has_folder

        return has_folder(txn, folder)

    def find_below(self, folders: Collection[bytes]) -> Iterator[tuple[int, bytes]]:
        """Yield ids and paths of the files below folders: a look at the path of every record.

        Only for the process that writes the index: each file keeps its id meanwhile.
        """
        for start in range(0, self.next_file_id(), _LOOKED_AT):
            yield from self._find_below(folders, range(start, start + _LOOKED_AT))

    @reading
    def _find_below(
        self, txn: Transaction, folders: Collection[bytes], ids: range
    ) -> list[tuple[int, bytes]]:
        from mmindex.index.folders import find_below

        return find_below(txn, folders, ids)

    def iterate_records(self) -> Iterator[InstanceRecord]:
        """Yield every record once, whatever a build does meanwhile, a batch a transaction."""
        return self.iterate(self._unpack)

    def iterate_listed(self) -> Iterator[ListedFile]:
        """Yield what is listed of every file once, as `iterate_records` does."""
        from mmindex.index.listing import list_record, unpack_listed

        def list_file(txn: Transaction, file_id: int, sealed: memoryview) -> ListedFile:
            listed = unpack_listed(unseal(FILE_ID.pack(file_id), sealed))
            return listed or list_record(self._unpack(txn, file_id, sealed))

        return self.iterate(list_file)

    def iterate_packed(self) -> Iterator[bytes]:
        """Yield every record once, as it is packed, with all its entries."""
        return self.iterate(self._join, _WHOLE_BATCH)

    @reading
    def read_packed(self, txn: Transaction, file_id: int) -> bytes | None:
        """Return the record of a file as `iterate_packed` does; None where it is gone."""
        sealed = txn.get("files", FILE_ID.pack(file_id))
        return None if sealed is None else self._join(txn, file_id, sealed)

    def _join(self, txn: Transaction, file_id: int, sealed: memoryview) -> bytes:
        packed = bytes(unseal(FILE_ID.pack(file_id), sealed))
        length, apart = length_apart(packed), length_of_positions(packed)
        if length is not None:
            packed = join_record(packed, slice_chunks(txn, "entries", file_id, 0, length))
        return packed + slice_chunks(txn, "positions", file_id, 0, apart) if apart else packed

    def iterate(self, take: Take[Taken], most: int = _BATCH) -> Iterator[Taken]:
        """Yield what `take` makes of every record.

        The walk follows the paths: a file keeps its path when a build gives the file another id.
        The files of one stretch of paths come in the order of their ids, in which their records
        lie.
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
        start = b""
        while batch := self._read_repeated(kind, start):
            for uid in (key.decode("latin-1") for key in batch):
                records = list(self.iterate_uid(kind, uid))
                if len(records) > 1:  # still, while a build goes on
                    yield uid, records
            start = batch[-1] + b"\0"

    @reading
    def _read_repeated(self, txn: Transaction, kind: UidKind, start: bytes) -> list[bytes]:
        return list(islice(txn.walk_repeated(kind, start), _BATCH))

    def count_uids(self, kind: UidKind) -> int:
        """Return the number of different UIDs of a kind."""
        return sum(1 for _ in self.iterate_uids(kind))

    @reading
    def read_build(self, txn: Transaction) -> BuildNote | None:
        """Return when and how the last build ran; None where none has ended."""
        from mmindex.index.build_notes import read_note

        return read_note(txn)

    @reading
    def is_copied(self, txn: Transaction) -> bool:
        """Return whether the index file is a copy of the one that was built."""
        from mmindex.index.build_notes import read_file

        return read_file(txn) not in (None, os.stat(self.path).st_ino)

    @reading
    def find_unseen(self, txn: Transaction, seen: bytearray) -> list[int]:
        """Return the ids of files whose byte in `seen` is zero; those beyond it were seen."""
        if txn.count("files") == seen.count(1):
            return []  # each id that was seen and is gone has a new one in its place
        ids = (FILE_ID.unpack(key)[0] for key, _ in txn.walk("files"))
        return [file_id for file_id in ids if file_id < len(seen) and not seen[file_id]]

    @reading
    def find_unscanned(self, txn: Transaction, status: Status) -> list[int]:
        """Return the ids of the files that are not DICOM, or containers, or cannot be read."""
        wanted = status.value.encode()
        return [FILE_ID.unpack(key)[0] for key, value in txn.walk("unscanned") if value == wanted]

    @reading
    def check(self, txn: Transaction) -> CheckedPages:
        """Return which pages were checked; raise IndexFormatError where the index is not whole."""
        from mmindex.index.verify import verify_index

        txn.check(*DATABASES)
        verify_index(txn)
        return CheckedPages(self._environment().opened.key, txn.id())
