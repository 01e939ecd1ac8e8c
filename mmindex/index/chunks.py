"""Long parts of a record that are kept apart from it: entries, and positions of tiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from mmindex.errors import StaleIndexError
from mmindex.index.checksum import DamageError, seal, unseal
from mmindex.index.databases import CHUNK_KEY, CHUNK_LENGTH, FILE_ID
from mmindex.index.index_file import OpenIndex, read_identity, reading
from mmindex.index.lmdb.transaction import Transaction

ChunkedDatabase = Literal["entries", "positions"]

_KEPT = 1 << 24  # bytes of entries up to which they are kept in memory


class ChunkReader(OpenIndex):
    """The part of `Reader` that reads chunks. Parameters and exceptions are those of `Store`."""

    @reading
    def read_entries(
        self, txn: Transaction, file_id: int, start: int, stop: int, identity: bytes | None = None
    ) -> bytes:
        """Return bytes [start, stop) of the entries of a record that are kept apart.

        Parameters
        ----------
        identity : bytes, optional
            The index that the record was read from.

        Raises
        ------
        StaleIndexError
            The record is gone: a build has replaced or removed it; or it was that of another index.
        """
        return self._read_chunks(txn, "entries", file_id, start, stop, identity)

    @reading
    def read_positions(
        self, txn: Transaction, file_id: int, start: int, stop: int, identity: bytes | None = None
    ) -> bytes:
        """Return bytes [start, stop) of the positions of a file's tiles; as `read_entries`."""
        return self._read_chunks(txn, "positions", file_id, start, stop, identity)

    def _read_chunks(
        self,
        txn: Transaction,
        database: ChunkedDatabase,
        file_id: int,
        start: int,
        stop: int,
        identity: bytes | None,
    ) -> bytes:
        if identity is not None and read_identity(txn) != identity:
            raise StaleIndexError(
                "another index was written over it: open it again", path=self.path
            )
        if start < stop and txn.get("files", FILE_ID.pack(file_id)) is None:
            raise StaleIndexError(
                "the index was rebuilt: look the instance up again", path=self.path
            )
        return slice_chunks(txn, database, file_id, start, stop)


class StoredEntries:
    """Entries, or positions of tiles, that are read from the index where they are sliced.

    Chunks stay in memory once read, up to a limit: the record of a file id never changes. The
    identity of the index tells when another one was written over it, which has the same file ids.
    """

    __slots__ = ("_chunks", "_database", "_file_id", "_identity", "_length", "_store")

    def __init__(
        self,
        store: ChunkReader,
        identity: bytes,
        file_id: int,
        length: int,
        database: ChunkedDatabase = "entries",
    ) -> None:
        self._store = store
        self._identity = identity
        self._database: ChunkedDatabase = database
        self._file_id = file_id
        self._length = length
        self._chunks: dict[int, bytes] | None = {} if length <= _KEPT else None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, where: slice, /) -> bytes:
        start, stop, _ = where.indices(self._length)
        stop = max(start, stop)
        number, at = divmod(start, CHUNK_LENGTH)
        if self._chunks is None or at + stop - start > CHUNK_LENGTH:
            return self._read(start, stop)
        chunk = self._chunks.get(number)
        if chunk is None:
            begin = start - at
            end = min(begin + CHUNK_LENGTH, self._length)
            chunk = self._read(begin, end)
            self._chunks[number] = chunk
        return chunk[at : at + stop - start]

    def _read(self, start: int, stop: int) -> bytes:
        store = self._store
        read = store.read_entries if self._database == "entries" else store.read_positions
        return read(self._file_id, start, stop, self._identity)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (bytes, StoredEntries)):
            return self[:] == other[:]
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self[:])

    def __reduce__(self) -> tuple[object, ...]:
        return bytes, (self[:],)


def walk_chunks(file_id: int, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and sealed chunks of a file's entries or positions."""
    for number, at in enumerate(range(0, len(data), CHUNK_LENGTH)):
        key = CHUNK_KEY.pack(file_id, number)
        yield key, seal(key, data[at : at + CHUNK_LENGTH])


def slice_chunks(
    txn: Transaction, database: ChunkedDatabase, file_id: int, start: int, stop: int
) -> bytes:
    """Return bytes [start, stop) of the entries or positions of a record that is there.

    Raises
    ------
    DamageError
        They are not there, or not as they were written.
    """
    pieces = []
    for number in range(start // CHUNK_LENGTH, -(-stop // CHUNK_LENGTH)):
        key = CHUNK_KEY.pack(file_id, number)
        sealed = txn.get(database, key)
        if sealed is None:
            break
        at = number * CHUNK_LENGTH
        pieces.append(bytes(unseal(key, sealed)[max(0, start - at) : stop - at]))
    found = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(found) != max(0, stop - start):
        raise DamageError(f"{database} of file {file_id} are missing")
    return found
