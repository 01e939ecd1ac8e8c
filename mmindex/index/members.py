"""The files in containers, as an index knows them: by path, which they are, which are obsolete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mmindex.index.checksum import DamageError, unseal
from mmindex.index.databases import FILE_ID, PATH_VALUE, path_key
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record import unpack_version
from mmindex.model import Fingerprint, InstanceRecord, Status, locate, split_path

if TYPE_CHECKING:
    from mmindex.index.reader import Reader


def find_record(index: Reader, path: bytes) -> InstanceRecord | None:
    """Return the record of the file at a path; None where there is none.

    A path like `study.zip!/a.dcm` is that of a file in a container, unless a file has this path.
    """
    for key in (path, *(locate(*parts) for parts in split_path(path))):
        record = index.read_path(key)
        if record is not None and record.key == key:
            return record
    return None


def find_members(
    txn: Transaction,
    container: bytes,
    other_than: tuple[int, ...] | None = None,
    seen: Sequence[int] = b"",
) -> list[int]:
    """Return the ids of the files in the container at a path.

    Parameters
    ----------
    other_than : Fingerprint, optional
        Files of this version of the container are left out,
    seen : sequence of int
        but for those whose value here, by their ids, is 0.
    """
    found = []
    for file_id, fingerprint in _walk_members(txn, path_key(container)):
        was_missed = file_id < len(seen) and not seen[file_id]
        if was_missed or fingerprint != other_than:
            found.append(file_id)
    return found


def walk_all_members(txn: Transaction) -> Iterator[int]:
    """Yield the ids of the files in all containers."""
    for key, _ in txn.walk("members"):
        for id_bytes in txn.walk_values("members", key):
            yield FILE_ID.unpack(id_bytes)[0]


def mark_members(txn: Transaction, seen: bytearray) -> int:
    """Mark the files in containers that were seen and are unchanged; return how many.

    Left out are files whose fingerprint is not that of their container, which an interrupted build
    left there, and containers that this build has put in: their files were met.

    Parameters
    ----------
    seen : bytearray
        One byte a file id, set where the file was met.
    """
    marked = 0
    for key, _ in txn.walk("members"):
        sealed = txn.get("paths", key)
        if sealed is None:
            continue
        container_id, *version = PATH_VALUE.unpack(unseal(key, sealed))
        if container_id >= len(seen) or not seen[container_id]:
            continue
        for file_id, fingerprint in _walk_members(txn, key):
            if fingerprint == tuple(version) and file_id < len(seen):
                marked += not seen[file_id]
                seen[file_id] = 1
    return marked


def find_containers(txn: Transaction, *, opened: bool) -> list[int]:
    """Return the ids of the containers of which files are known, or of those of which none."""
    filled = set()
    for key, _ in txn.walk("members"):
        sealed = txn.get("paths", key)
        if sealed is not None:
            filled.add(PATH_VALUE.unpack(unseal(key, sealed))[0])
    if opened:
        return sorted(filled)
    wanted = Status.CONTAINER.value.encode()
    ids = [FILE_ID.unpack(key)[0] for key, value in txn.walk("unscanned") if value == wanted]
    return [file_id for file_id in ids if file_id not in filled]


def _walk_members(txn: Transaction, key: bytes) -> Iterator[tuple[int, Fingerprint]]:
    """Yield ids and fingerprints of the files in the container whose path has this key."""
    for id_bytes in map(bytes, txn.walk_values("members", key)):
        sealed = txn.get("files", id_bytes)
        if sealed is None:
            raise DamageError(f"a container leads to file {id_bytes.hex()}, which is not there")
        yield FILE_ID.unpack(id_bytes)[0], unpack_version(unseal(id_bytes, sealed))
