"""Reads records by their first bytes alone: counts, and the files that have trouble."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mmindex.index.checksum import unseal
from mmindex.index.databases import FILE_ID, PATH_VALUE
from mmindex.index.index_file import OpenIndex, reading
from mmindex.index.listing import Measures, is_troubled, measure
from mmindex.index.lmdb.transaction import Transaction

_MEASURED = 1 << 14  # records in one transaction


class MeasureReader(OpenIndex):
    """The part of `Reader` that reads first bytes; parameters and errors are those of `Store`."""

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
        key, found = None, []
        for key, sealed in islice(txn.walk("files", start), _MEASURED):
            if is_troubled(sealed):
                found.append(FILE_ID.unpack(key)[0])
        return None if key is None else key + b"\0", found

    @reading
    def find_shared_versions(self, txn: Transaction) -> set[tuple[int, int]]:
        """Return the sizes and times that several files have, which these do not tell apart.

        Paths of one inode are one file: links, and files in one container.
        """
        inodes: dict[tuple[int, int], int] = {}
        shared = set()
        for key, sealed in txn.walk("paths"):
            _, size, time_ns, inode, _ = PATH_VALUE.unpack(unseal(key, sealed))
            if inodes.setdefault((size, time_ns), inode) != inode:
                shared.add((size, time_ns))
        return shared
