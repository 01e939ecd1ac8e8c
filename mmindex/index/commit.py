"""The changes of one write transaction of a build to the databases."""

from __future__ import annotations

from collections.abc import Iterable

from mmindex.index.attributes import AttributeChanges, Place
from mmindex.index.carried_values import CarriedValues, take_values
from mmindex.index.checksum import DamageError, seal, unseal
from mmindex.index.chunks import walk_chunks
from mmindex.index.counters import Counters
from mmindex.index.databases import (
    DATABASES,
    FILE_ID,
    LONG_RECORD,
    PATH_VALUE,
    UNSCANNED,
    attributes_key,
    list_ways,
    path_key,
)
from mmindex.index.folders import note_folders
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record import RecordKeys, unpack_keys
from mmindex.index.record_split import length_of_positions, split_record


def replace_files(
    txn: Transaction, packed_records: Iterable[bytes], removed: Iterable[int]
) -> list[Place]:
    """Insert records, replace those of the same files, and remove the files with these ids.

    Returns
    -------
    list of (str, bytes)
        Studies and series whose attributes are no longer known: see `AttributeChanges.unknown`.

    Raises
    ------
    DamageError
        The records to be replaced are damaged.
    """
    counters, attributes = read_counters(txn), AttributeChanges(txn)
    for file_id in removed:
        _remove_file(txn, file_id, counters, attributes)
    by_path: dict[bytes, tuple[bytes, RecordKeys, CarriedValues | None]] = {}
    for with_values in packed_records:
        packed, carried = take_values(with_values)
        keys = unpack_keys(packed)
        by_path[path_key(keys.location)] = packed, keys, carried  # of one path twice, the last one
    next_id = read_next_id(txn)
    new: dict[str, list[tuple[bytes, bytes]]] = {name: [] for name in DATABASES if name != "meta"}
    for key, (packed, keys, carried) in by_path.items():
        known = txn.get("paths", key)
        if known is not None:
            file_id = PATH_VALUE.unpack(unseal(key, known))[0]
            if _remove_file(txn, file_id, counters, attributes) not in (None, keys.location):
                raise DamageError(f"the path of another file leads to file {file_id}")
        id_bytes = FILE_ID.pack(next_id)
        if apart := length_of_positions(packed):
            new["positions"] += walk_chunks(next_id, packed[-apart:])
            packed = packed[:-apart]
        if len(packed) > LONG_RECORD:
            packed, entries = split_record(packed)
            new["entries"] += walk_chunks(next_id, entries)
        new["files"].append((id_bytes, seal(id_bytes, packed)))
        if keys.status in UNSCANNED:
            new["unscanned"].append((id_bytes, keys.status.value.encode()))
        new["paths"].append((key, seal(key, PATH_VALUE.pack(next_id, *keys.fingerprint))))
        for way, way_key in list_ways(keys):
            new[way].append((way_key, id_bytes))
        counters.count(keys, 1)
        attributes.add(keys, carried)
        next_id += 1
    note_folders(txn, (keys.path for _, keys, _ in by_path.values()))
    attributes.write()
    uids = {uid for uid, _ in new["instances"]}
    counters.instances += sum(known is None for known in txn.get_all("instances", uids))
    for name, pairs in new.items():
        txn.put_all(name, pairs, last=name in ("files", "entries", "positions"))
    txn.put("meta", b"next", seal(b"next", FILE_ID.pack(next_id)))
    txn.put("meta", b"counters", seal(b"counters", counters.pack()))
    return attributes.unknown


def read_next_id(txn: Transaction) -> int:
    """Return the id that the next new file will get."""
    next_id: int = FILE_ID.unpack(unseal(b"next", txn.read("meta", b"next")))[0]
    return next_id


def read_counters(txn: Transaction) -> Counters:
    """Return the counters of the index."""
    return Counters.unpack(unseal(b"counters", txn.read("meta", b"counters")))


def _remove_file(
    txn: Transaction, file_id: int, counters: Counters, attributes: AttributeChanges
) -> bytes | None:
    """Drop a file's record and all that leads to it; return where the file is."""
    id_bytes = FILE_ID.pack(file_id)
    sealed = txn.get("files", id_bytes)
    if sealed is None:
        return None
    keys = unpack_keys(bytes(unseal(id_bytes, sealed)))
    txn.delete("files", id_bytes)
    txn.delete("unscanned", id_bytes)
    for name in ("entries", "positions"):
        txn.delete_from(name, id_bytes)
    key = path_key(keys.location)
    known = txn.get("paths", key)
    if known is not None and PATH_VALUE.unpack(unseal(key, known))[0] == file_id:
        txn.delete("paths", key)
    counters.count(keys, -1)
    attributes.remove(keys)
    _remove_ways(txn, keys, id_bytes, counters)
    return keys.location


def _remove_ways(txn: Transaction, keys: RecordKeys, id_bytes: bytes, counters: Counters) -> None:
    """Drop what leads to a file, and the attributes of a study or series without files."""
    for way, key in list_ways(keys):
        txn.delete(way, key, id_bytes)
        if way == "others" or way == "members" or txn.get(way, key) is not None:
            continue
        if way == "instances":
            counters.instances -= 1
        else:
            txn.delete("attributes", attributes_key(way, key))
