"""Reads which files in containers an index knows: by container, and which are obsolete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmindex.index.checksum import DamageError, unseal
from mmindex.index.databases import FILE_ID, PATH_VALUE, path_key
from mmindex.index.index_file import OpenIndex, reading
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record import unpack_version
from mmindex.model import Fingerprint, Status


class MemberReader(OpenIndex):
    """The part of `Reader` for containers. Parameters and exceptions are those of `Store`."""

    @reading
    def find_members(
        self,
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

    @reading
    def has_members(self, txn: Transaction, container: bytes) -> bool:
        """Return whether files in the container at this path are known."""
        return txn.get("members", path_key(container)) is not None

    @reading
    def find_all_members(self, txn: Transaction) -> list[int]:
        """Return the ids of the files in all containers."""
        return [
            FILE_ID.unpack(id_bytes)[0]
            for key, _ in txn.walk("members")
            for id_bytes in txn.walk_values("members", key)
        ]

    @reading
    def mark_members(self, txn: Transaction, seen: bytearray) -> int:
        """Mark the files in containers that were seen and are unchanged; return how many.

        Left out are files whose fingerprint is not that of their container, which an interrupted
        build left there, and containers that this build has put in: their files were met.

        Parameters
        ----------
        seen : bytearray
            One byte a file id, set where the file was met.
        """
        marked = 0
        for key, container_id, version in _walk_containers(txn):
            if container_id >= len(seen) or not seen[container_id]:
                continue
            for file_id, fingerprint in _walk_members(txn, key):
                if fingerprint == version and file_id < len(seen):
                    marked += not seen[file_id]
                    seen[file_id] = 1
        return marked

    @reading
    def find_containers(self, txn: Transaction, *, opened: bool) -> list[int]:
        """Return the ids of the containers of which files are known, or of those of which none."""
        filled = {container_id for _, container_id, _ in _walk_containers(txn)}
        if opened:
            return sorted(filled)
        wanted = Status.CONTAINER.value.encode()
        ids = [FILE_ID.unpack(key)[0] for key, value in txn.walk("unscanned") if value == wanted]
        return [file_id for file_id in ids if file_id not in filled]


def _walk_containers(txn: Transaction) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """Yield path key, id and fingerprint of the containers of which files are known."""
    for key, _ in txn.walk("members"):
        sealed = txn.get("paths", key)
        if sealed is not None:
            container_id, *version = PATH_VALUE.unpack(unseal(key, sealed))
            yield key, container_id, tuple(version)


def _walk_members(txn: Transaction, key: bytes) -> Iterator[tuple[int, Fingerprint]]:
    """Yield ids and fingerprints of the files in the container whose path has this key."""
    for id_bytes in map(bytes, txn.walk_values("members", key)):
        sealed = txn.get("files", id_bytes)
        if sealed is None:
            raise DamageError(f"a container leads to file {id_bytes.hex()}, which is not there")
        yield FILE_ID.unpack(id_bytes)[0], unpack_version(unseal(id_bytes, sealed))
