"""What one write transaction of a build does to the databases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmindex.index.checksum import DamageError, seal, unseal
from mmindex.index.databases import (
    CHUNK_KEY,
    CHUNK_LENGTH,
    DATABASES,
    FILE_ID,
    LONG_RECORD,
    PATH_VALUE,
    UNSCANNED,
    path_key,
    uid_entries,
)
from mmindex.index.record import split_record, unpack_keys


def replace_files(
    txn: Any, databases: dict[str, Any], packed_records: Iterable[bytes], removed: Iterable[int]
) -> None:
    """Put in records, in place of those at the same paths, and drop those with other ids.

    Raises
    ------
    DamageError
        What is to be replaced is not what was put in.
    """
    for file_id in removed:
        _remove_file(txn, databases, file_id)
    by_path = {}
    for packed in packed_records:
        keys = unpack_keys(packed)
        by_path[path_key(keys.path)] = packed, keys  # of one path twice, the last one
    next_id = read_next_id(txn, databases)
    new: dict[str, list[tuple[bytes, bytes]]] = {name: [] for name in DATABASES}
    for key, (packed, keys) in by_path.items():
        known = txn.get(key, db=databases["paths"])
        if known is not None:
            file_id = PATH_VALUE.unpack(unseal(key, known))[0]
            if _remove_file(txn, databases, file_id) not in (None, keys.path):
                raise DamageError(f"the path of another file leads to file {file_id}")
        id_bytes = FILE_ID.pack(next_id)
        if len(packed) > LONG_RECORD:
            packed, entries = split_record(packed)
            for number, at in enumerate(range(0, len(entries), CHUNK_LENGTH)):
                chunk_key = CHUNK_KEY.pack(next_id, number)
                chunk = seal(chunk_key, entries[at : at + CHUNK_LENGTH])
                new["entries"].append((chunk_key, chunk))
        new["files"].append((id_bytes, seal(id_bytes, packed)))
        if keys.status in UNSCANNED:
            new["unscanned"].append((id_bytes, keys.status.value.encode()))
        new["paths"].append((key, seal(key, PATH_VALUE.pack(next_id, *keys.fingerprint))))
        for kind, uid in uid_entries(keys):
            new[kind].append((uid, id_bytes))
        next_id += 1
    new["meta"].append((b"next", seal(b"next", FILE_ID.pack(next_id))))
    for name, pairs in new.items():
        with txn.cursor(databases[name]) as cursor:  # LMDB is fastest when keys come in order
            _, added = cursor.putmulti(sorted(pairs), append=name in ("files", "entries"))
        if added != len(pairs):
            raise DamageError(f"{name!r} has {len(pairs) - added} of the new pairs already")


def read_next_id(txn: Any, databases: dict[str, Any]) -> int:
    """Return the id that the next new file will get."""
    sealed = txn.get(b"next", b"", db=databases["meta"])
    next_id: int = FILE_ID.unpack(unseal(b"next", sealed))[0]
    return next_id


def _remove_file(txn: Any, databases: dict[str, Any], file_id: int) -> bytes | None:
    """Drop a file's record and all that leads to it; return its path."""
    id_bytes = FILE_ID.pack(file_id)
    sealed = txn.pop(id_bytes, db=databases["files"])
    if sealed is None:
        return None
    packed = unseal(id_bytes, sealed)
    txn.delete(id_bytes, db=databases["unscanned"])
    with txn.cursor(databases["entries"]) as cursor:
        while cursor.set_range(id_bytes) and cursor.key().startswith(id_bytes):
            cursor.delete()
    keys = unpack_keys(packed)
    key = path_key(keys.path)
    known = txn.get(key, db=databases["paths"])
    if known is not None and PATH_VALUE.unpack(unseal(key, known))[0] == file_id:
        txn.delete(key, db=databases["paths"])
    for kind, uid in uid_entries(keys):
        txn.delete(uid, id_bytes, db=databases[kind])
    return keys.path
