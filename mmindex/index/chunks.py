"""The entries of a long frame table, which are kept apart from their record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from mmindex.index.checksum import DamageError, seal, unseal
from mmindex.index.databases import CHUNK_KEY, CHUNK_LENGTH
from mmindex.index.lmdb.transaction import Transaction

if TYPE_CHECKING:
    from mmindex.index.reader import Reader

ChunkedDatabase = Literal["entries", "positions"]

_KEPT = 1 << 24  # bytes of entries up to which they are kept in memory


class StoredEntries:
    """Entries that are read from the index where they are sliced.

    Chunks stay in memory once read, up to a limit: the record of a file id never changes.
    """

    __slots__ = ("_chunks", "_file_id", "_length", "_store")

    def __init__(self, store: Reader, file_id: int, length: int) -> None:
        self._store = store
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
            return self._store.read_entries(self._file_id, start, stop)
        chunk = self._chunks.get(number)
        if chunk is None:
            begin = start - at
            end = min(begin + CHUNK_LENGTH, self._length)
            chunk = self._chunks[number] = self._store.read_entries(self._file_id, begin, end)
        return chunk[at : at + stop - start]

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
