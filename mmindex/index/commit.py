"""What one write transaction of a build does to the databases."""

from __future__ import annotations

from collections.abc import Iterable

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
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record import split_record, unpack_keys


def replace_files(
    txn: Transaction, packed_records: Iterable[bytes], removed: Iterable[int]
) -> None:
    """Put in records, in place of those at the same paths, and drop those with other ids.

    Raises
    ------
    DamageError
        What is to be replaced is not what was put in.
    """
    for file_id in removed:
        _remove_file(txn, file_id)
    by_path = {}
    for packed in packed_records:
        keys = unpack_keys(packed)
        by_path[path_key(keys.path)] = packed, keys  # of one path twice, the last one
    next_id = read_next_id(txn)
    new: dict[str, list[tuple[bytes, bytes]]] = {name: [] for name in DATABASES if name != "meta"}
    for key, (packed, keys) in by_path.items():
        known = txn.get("paths", key)
        if known is not None:
            file_id = PATH_VALUE.unpack(unseal(key, known))[0]
            if _remove_file(txn, file_id) not in (None, keys.path):
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
    txn.put("meta", b"next", seal(b"next", FILE_ID.pack(next_id)))
    for name, pairs in new.items():
        txn.put_all(name, pairs, last=name in ("files", "entries"))


def read_next_id(txn: Transaction) -> int:
    """Return the id that the next new file will get."""
    next_id: int = FILE_ID.unpack(unseal(b"next", txn.read("meta", b"next")))[0]
    return next_id


def _remove_file(txn: Transaction, file_id: int) -> bytes | None:
    """Drop a file's record and all that leads to it; return its path."""
    id_bytes = FILE_ID.pack(file_id)
    sealed = txn.get("files", id_bytes)
    if sealed is None:
        return None
    keys = unpack_keys(bytes(unseal(id_bytes, sealed)))
    txn.delete("files", id_bytes)
    txn.delete("unscanned", id_bytes)
    txn.delete_from("entries", id_bytes)
    key = path_key(keys.path)
    known = txn.get("paths", key)
    if known is not None and PATH_VALUE.unpack(unseal(key, known))[0] == file_id:
        txn.delete("paths", key)
    for kind, uid in uid_entries(keys):
        txn.delete(kind, uid, id_bytes)
    return keys.path
