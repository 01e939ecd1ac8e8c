"""Whether an index is whole: each record is led to from everywhere, and nothing leads elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mmindex.index.attributes import KeptValues
from mmindex.index.checksum import DamageError, unseal
from mmindex.index.chunks import ChunkedDatabase
from mmindex.index.commit import read_counters, read_next_id
from mmindex.index.counters import Counters
from mmindex.index.databases import (
    CHUNK_KEY,
    CHUNK_LENGTH,
    DATABASES,
    FILE_ID,
    PATH_VALUE,
    UNSCANNED,
    path_key,
    walk_ways,
)
from mmindex.index.folders import has_folder, parent_of
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record import RecordKeys, unpack_keys
from mmindex.index.record_split import length_apart, length_of_positions


def verify_index(txn: Transaction) -> None:
    """Compare every record with what leads to it, and how many of each there are.

    Raises
    ------
    DamageError, IndexFormatError
        Saying what is wrong. Pages are another matter: see pages.py.
    """
    found: Counter[str] = Counter()
    next_id = read_next_id(txn)
    counters = Counters()
    for id_bytes, sealed in txn.walk("files"):
        packed = bytes(unseal(id_bytes, sealed))
        (file_id,) = FILE_ID.unpack(id_bytes)
        try:
            keys = unpack_keys(packed)
        except ValueError as error:
            raise DamageError(f"file {file_id}: {error}") from error
        if file_id >= next_id:
            raise DamageError(f"expected file ids below {next_id}, found {file_id}")
        found["files"] += 1
        apart: tuple[tuple[ChunkedDatabase, int], ...] = (
            ("entries", length_apart(packed) or 0),
            ("positions", length_of_positions(packed)),
        )
        for database, length in apart:
            found[database] += _verify_chunks(txn, database, file_id, length)
        found.update(_walk_ways(txn, id_bytes, keys))
        counters.count(keys, 1)
    found.update(_walk_others(txn))
    for name in DATABASES:
        entries = txn.count(name)
        if name != "meta" and entries != found[name]:
            raise DamageError(f"expected {found[name]} values in {name!r}, found {entries}")
    counters.instances = sum(1 for _ in txn.walk("instances"))
    if counters != read_counters(txn):
        raise DamageError(f"expected {counters}, found {read_counters(txn)}")


def _walk_others(txn: Transaction) -> Iterator[str]:
    """Yield the databases that no record needs, for each whole value of theirs."""
    for key, sealed in txn.walk("attributes"):
        KeptValues.unpack(bytes(unseal(key, sealed)))
        if txn.get("studies" if key[:1] == b"T" else "series", key[1:]) is None:
            raise DamageError(f"attributes of {key[1:]!r}, of which there is no file")
        yield "attributes"
    for key, sealed in txn.walk("folders"):
        unseal(key, sealed)
        yield "folders"
    for key, sealed in txn.walk("problems"):
        unseal(key, sealed)
        yield "problems"


def _verify_chunks(txn: Transaction, database: ChunkedDatabase, file_id: int, length: int) -> int:
    """Return how many chunks of entries or positions a record has."""
    for start in range(0, length, CHUNK_LENGTH):
        key = CHUNK_KEY.pack(file_id, start // CHUNK_LENGTH)
        sealed = txn.get(database, key)
        if sealed is None or len(unseal(key, sealed)) != min(CHUNK_LENGTH, length - start):
            raise DamageError(f"{database} of file {file_id} are missing")
    return -(-length // CHUNK_LENGTH)


def _walk_ways(txn: Transaction, id_bytes: bytes, keys: RecordKeys) -> Iterator[str]:
    """Yield the databases that lead to a record."""
    (file_id,) = FILE_ID.unpack(id_bytes)
    key = path_key(keys.location)
    sealed = txn.get("paths", key)
    if sealed is None or unseal(key, sealed) != PATH_VALUE.pack(file_id, *keys.fingerprint):
        raise DamageError(f"its path leads elsewhere than to file {file_id}")
    yield "paths"
    if not has_folder(txn, parent_of(keys.path)):
        raise DamageError(f"'folders' misses that of file {file_id}")
    for way, way_key in walk_ways(keys):
        if not txn.has(way, way_key, id_bytes):
            raise DamageError(f"{way_key.decode('latin-1')!r} in {way!r} misses file {file_id}")
        yield way
    if keys.status in UNSCANNED:
        if txn.read("unscanned", id_bytes) != keys.status.value.encode():
            raise DamageError(f"'unscanned' misses file {file_id}")
        yield "unscanned"
