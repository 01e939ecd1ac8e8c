"""Reads counts, and records by their first bytes alone: sizes, and the files that have trouble."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from mmindex.index.checksum import unseal
from mmindex.index.databases import FILE_ID, PATH_VALUE, UidKind
from mmindex.index.index_file import OpenIndex, reading
from mmindex.index.lmdb.transaction import Transaction

if TYPE_CHECKING:
    from mmindex.index.counters import Counters
    from mmindex.index.listing import Measures

_MEASURED = 1 << 14  # records in one transaction


class MeasureReader(OpenIndex):
    """The part of `Reader` that counts; parameters and errors are those of `Store`."""

    def iterate_measures(self) -> Iterator[list[Measures]]:
        """Yield the measures of all files, a stretch a transaction, in the order of ids.

        Checksums are not looked at, since that would take three times as long.
        """
        start = b""
        while stretch := self._read_measures(start):
            yield stretch
            start = FILE_ID.pack(stretch[-1][0] + 1)

    @reading
    def _read_measures(self, txn: Transaction, start: bytes) -> list[Measures]:
        from mmindex.index.listing import measure

        return [
            measure(FILE_ID.unpack(key)[0], sealed)
            for key, sealed in islice(txn.walk("files", start), _MEASURED)
        ]

    def iterate_troubled(self) -> Iterator[int]:
        """Yield the ids of files that could not be read, or have anomalies."""
        start: bytes | None = b""
        while start is not None:
            start, troubled = self._read_troubled(start)
            yield from troubled

    @reading
    def _read_troubled(self, txn: Transaction, start: bytes) -> tuple[bytes | None, list[int]]:
        """Return the troubled files of a stretch, and where the next one begins."""
        from mmindex.index.listing import is_troubled

        key, found = None, []
        for key, sealed in islice(txn.walk("files", start), _MEASURED):
            if is_troubled(sealed):
                found.append(FILE_ID.unpack(key)[0])
        return None if key is None else key + b"\0", found

    @reading
    def find_shared_versions(self, txn: Transaction) -> set[tuple[int, int]]:
        """Return the sizes and times that several files have, which these do not tell apart.

        Paths of one inode are one file: links, and files in one container. Where no inode is known,
        each path is a file.
        """
        inodes: dict[tuple[int, int], int] = {}
        shared = set()
        for key, sealed in txn.walk("paths"):
            _, size, time_ns, inode, _ = PATH_VALUE.unpack(unseal(key, sealed))
            version = size, time_ns
            if version in inodes and not (inode and inodes[version] == inode):
                shared.add(version)
            inodes[version] = inode
        return shared

    @reading
    def count_duplicates(self, txn: Transaction, kind: UidKind) -> int:
        """Return the number of UIDs of a kind that several files have."""
        from mmindex.index.commit import read_counters

        if kind == "instances" and txn.count(kind) == read_counters(txn).instances:
            return 0  # as many UIDs as files that have one: in constant time
        return sum(1 for _ in txn.walk_repeated(kind))

    @reading
    def count_files(self, txn: Transaction) -> int:
        """Return the number of files that the index knows."""
        return txn.count("files")

    @reading
    def read_counters(self, txn: Transaction) -> Counters:
        """Return how many files, instances and frames the index has, in constant time."""
        from mmindex.index.commit import read_counters

        return read_counters(txn)
