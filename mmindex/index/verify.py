"""A check that an index is whole: each record is led to from everywhere, nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

from mmindex.index.attributes import KeptValues
from mmindex.index.checksum import DamageError, seal, unseal
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
    list_ways,
    path_key,
)
from mmindex.index.folders import has_folder, parent_of
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record import unpack_keys
from mmindex.index.record_parts import APART, FLAGS_AT, POSITIONS
from mmindex.index.record_split import length_apart, length_of_positions
from mmindex.model import locate

_LEADING = "paths", "instances", "others", "studies", "series", "members", "unscanned"


class _Sums:
    """The number of pairs (key, value) in each database, and the sum of their hashes.

    The hashes have a random key: what leads elsewhere changes the sum, whatever else does.
    """

    def __init__(self) -> None:
        self.found: dict[str, list[int]] = {name: [0, 0] for name in DATABASES}

    def count(self, database: str, number: int) -> None:
        """Count pairs that were looked at one by one."""
        self.found[database][0] += number

    def compare(self, txn: Transaction) -> None:
        """Raise DamageError where a database has other pairs than these."""
        for name, (count, total) in self.found.items():
            entries = txn.count(name)
            if name != "meta" and entries != count:
                raise DamageError(f"expected {count} values in {name!r}, found {entries}")
            if name in _LEADING and total != txn.sum_hashes(name):
                raise DamageError(f"{name!r} leads elsewhere than its records say")


def verify_index(txn: Transaction) -> None:
    """Compare every record with what leads to it, and how many of each there are.

    Raises
    ------
    DamageError, IndexFormatError
        Saying what is wrong. Pages are another matter: see lmdb/page_check.py.
    """
    sums = _Sums()
    counters = _verify_records(txn, sums)
    for name in _walk_others(txn):
        sums.count(name, 1)
    try:
        sums.compare(txn)
    except DamageError:
        _explain(txn)  # by name, where it can
        raise
    counters.instances = sum(1 for _ in txn.walk("instances"))
    if counters != read_counters(txn):
        raise DamageError(f"expected {counters}, found {read_counters(txn)}")


def _verify_records(txn: Transaction, sums: _Sums) -> Counters:
    """Add up what has to lead to the records; return what they count, but for their UIDs."""
    next_id = read_next_id(txn)
    counters = Counters()
    folder: bytes | None = None
    found, pack_value = sums.found, PATH_VALUE.pack
    files, paths, unscanned = found["files"], found["paths"], found["unscanned"]
    for id_bytes, sealed in txn.walk("files"):
        packed = unseal(id_bytes, bytes(sealed))
        (file_id,) = FILE_ID.unpack(id_bytes)
        try:
            keys = unpack_keys(packed)
        except ValueError as error:
            raise DamageError(f"file {file_id}: {error}") from error
        if file_id >= next_id:
            raise DamageError(f"expected file ids below {next_id}, found {file_id}")
        files[0] += 1
        if packed[FLAGS_AT] & (APART | POSITIONS):
            _verify_apart(txn, packed, file_id, sums)
        path, member, version, status, *_ = keys
        key = path_key(locate(path, member) if member else path)
        paths[1] += hash((key, seal(key, pack_value(file_id, *version))))
        for way, way_key in list_ways(keys):
            leading = found[way]
            leading[0] += 1
            leading[1] += hash((way_key, id_bytes))
        if status in UNSCANNED:
            unscanned[0] += 1
            unscanned[1] += hash((id_bytes, status.value.encode()))
        if folder != (folder := parent_of(path)) and not has_folder(txn, folder):
            raise DamageError(f"'folders' misses that of file {file_id}")
        counters.count(keys, 1)
    paths[0] = files[0]
    return counters


def _verify_apart(txn: Transaction, packed: bytes, file_id: int, sums: _Sums) -> None:
    """Look at the entries and positions that a record has apart."""
    apart: tuple[tuple[ChunkedDatabase, int], ...] = (
        ("entries", length_apart(packed) or 0),
        ("positions", length_of_positions(packed)),
    )
    for database, length in apart:
        sums.count(database, _verify_chunks(txn, database, file_id, length))


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


def _explain(txn: Transaction) -> None:
    """Raise DamageError for the first record that is not led to; each is looked up."""
    for id_bytes, sealed in txn.walk("files"):
        keys = unpack_keys(bytes(unseal(id_bytes, sealed)))
        (file_id,) = FILE_ID.unpack(id_bytes)
        key = path_key(keys.location)
        known = txn.get("paths", key)
        if known is None or unseal(key, known) != PATH_VALUE.pack(file_id, *keys.fingerprint):
            raise DamageError(f"its path leads elsewhere than to file {file_id}")
        for way, way_key in list_ways(keys):
            if not txn.has(way, way_key, id_bytes):
                raise DamageError(f"{way_key.decode('latin-1')!r} in {way!r} misses file {file_id}")
        status = keys.status.value.encode()
        if keys.status in UNSCANNED and txn.read("unscanned", id_bytes) != status:
            raise DamageError(f"'unscanned' misses file {file_id}")
