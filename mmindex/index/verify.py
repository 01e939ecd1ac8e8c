"""Whether an index is whole: each record is led to from everywhere, and nothing leads elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from mmindex.index.checksum import DamageError, unseal
from mmindex.index.commit import read_next_id
from mmindex.index.databases import (
    CHUNK_KEY,
    CHUNK_LENGTH,
    FILE_ID,
    PATH_VALUE,
    UNSCANNED,
    path_key,
    uid_entries,
)
from mmindex.index.record import RecordKeys, length_apart, unpack_keys


def verify_index(txn: Any, databases: dict[str, Any]) -> None:
    """Compare every record with what leads to it, and how many of each there are.

    Raises
    ------
    DamageError, IndexFormatError
        Saying what is wrong. Pages are another matter: see pages.py.
    """
    found: Counter[str] = Counter()
    next_id = read_next_id(txn, databases)
    with txn.cursor(databases["files"]) as cursor:
        for id_bytes, sealed in cursor:
            packed = unseal(id_bytes, sealed)
            (file_id,) = FILE_ID.unpack(id_bytes)
            try:
                keys = unpack_keys(packed)
            except ValueError as error:
                raise DamageError(f"file {file_id}: {error}") from error
            if file_id >= next_id:
                raise DamageError(f"expected file ids below {next_id}, found {file_id}")
            found["files"] += 1
            found["entries"] += _verify_entries(txn, databases, file_id, length_apart(packed) or 0)
            found.update(_walk_ways(txn, databases, id_bytes, keys))
    for name, database in databases.items():
        entries = txn.stat(database)["entries"]
        if name != "meta" and entries != found[name]:
            raise DamageError(f"expected {found[name]} values in {name!r}, found {entries}")


def _verify_entries(txn: Any, databases: dict[str, Any], file_id: int, length: int) -> int:
    """Return how many chunks of entries a record has."""
    for start in range(0, length, CHUNK_LENGTH):
        key = CHUNK_KEY.pack(file_id, start // CHUNK_LENGTH)
        sealed = txn.get(key, db=databases["entries"])
        if sealed is None or len(unseal(key, sealed)) != min(CHUNK_LENGTH, length - start):
            raise DamageError(f"entries of file {file_id} are missing")
    return -(-length // CHUNK_LENGTH)


def _walk_ways(
    txn: Any, databases: dict[str, Any], id_bytes: bytes, keys: RecordKeys
) -> Iterator[str]:
    """Yield the databases that lead to a record."""
    (file_id,) = FILE_ID.unpack(id_bytes)
    key = path_key(keys.path)
    sealed = txn.get(key, db=databases["paths"])
    if sealed is None or unseal(key, sealed) != PATH_VALUE.pack(file_id, *keys.fingerprint):
        raise DamageError(f"its path leads elsewhere than to file {file_id}")
    yield "paths"
    for kind, uid in uid_entries(keys):
        with txn.cursor(databases[kind]) as cursor:
            if not cursor.set_key_dup(uid, id_bytes):
                raise DamageError(f"{uid.decode('latin-1')!r} in {kind!r} misses file {file_id}")
        yield kind
    if keys.status in UNSCANNED:
        if txn.get(id_bytes, db=databases["unscanned"]) != keys.status.value.encode():
            raise DamageError(f"'unscanned' misses file {file_id}")
        yield "unscanned"
