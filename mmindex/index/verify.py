"""A check that an index is whole: each record is led to from everywhere, nothing else is."""

from __future__ import annotations

import struct
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
    MAX_UID_LENGTH,
    PATH_VALUE,
    UNSCANNED,
    list_ways,
    path_key,
)
from mmindex.index.folders import has_folder, parent_of
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record import unpack_keys
from mmindex.index.record_parts import APART, IN_CONTAINER, POSITIONS, status_of, unpack_texts
from mmindex.index.record_split import length_apart, length_of_positions
from mmindex.model import Status, locate

# Of a record: status, flags, size of the file, Number of Frames; version and its kind.
_COUNTED = struct.Struct("<B2xB5xQ16xQ")
_VERSION, _KIND = slice(9, 33), slice(8, 9)
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

    def add(self, database: str, key: bytes, value: bytes) -> None:
        """Add a pair."""
        added = self.found[database]
        added[0] += 1
        added[1] += hash((key, value))

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
    counters.instances = txn.count_keys("instances")
    if counters != read_counters(txn):
        raise DamageError(f"expected {counters}, found {read_counters(txn)}")


def _verify_records(txn: Transaction, sums: _Sums) -> Counters:
    """Add up what has to lead to the records; return what they count, but for their UIDs.

    Reads fields where they are: to unpack the keys of each record takes half as long again.
    """
    next_id = read_next_id(txn)
    folder: bytes | None = None
    found = sums.found
    paths, studies, series = found["paths"], found["studies"], found["series"]
    by_sop = {each: found["instances" if each.has_frames else "others"] for each in Status}
    files_of, frames_of = dict.fromkeys(Status, 0), dict.fromkeys(Status, 0)
    file_bytes = 0
    for id_bytes, sealed in txn.walk("files"):
        packed = unseal(id_bytes, bytes(sealed))
        number, flags, size, frames = _COUNTED.unpack_from(packed)
        (file_id,) = FILE_ID.unpack(id_bytes)
        try:
            status = status_of(number)
            (path, _, _, sop_uid, study_uid, series_uid), _ = unpack_texts(packed, 6)
            member = unpack_keys(packed).member if flags & IN_CONTAINER else b""
        except ValueError as error:
            raise DamageError(f"file {file_id}: {error}") from error
        if file_id >= next_id:
            raise DamageError(f"expected file ids below {next_id}, found {file_id}")
        if folder != (folder := parent_of(path)) and not has_folder(txn, folder):
            raise DamageError(f"'folders' misses that of file {file_id}")
        key = path_key(locate(path, member) if member else path)
        value = id_bytes[::-1] + packed[_VERSION] + packed[_KIND]  # as PATH_VALUE packs them
        paths[1] += hash((key, seal(key, value)))
        for leading, uid in (by_sop[status], sop_uid), (studies, study_uid), (series, series_uid):
            if 0 < len(uid) <= MAX_UID_LENGTH:
                leading[0] += 1
                leading[1] += hash((uid, id_bytes))
        files_of[status] += 1
        frames_of[status] += frames
        if member:
            sums.add("members", path_key(path), id_bytes)
        else:
            file_bytes += size
        if status in UNSCANNED:
            sums.add("unscanned", id_bytes, status.value.encode())
        if flags & (APART | POSITIONS):
            _verify_apart(txn, packed, file_id, sums)
    found["files"][0] = paths[0] = sum(files_of.values())
    frames = sum(count for status, count in frames_of.items() if status.has_frames)
    return Counters(files_of, 0, frames, file_bytes)


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
