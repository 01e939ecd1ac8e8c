"""Records put into an index in batches: few commits, each of bounded memory and age."""

from __future__ import annotations

import time
from collections.abc import Iterable

from mmindex.index.store import Store


class BatchWriter:
    """Commits records when there are enough of them, or when the last commit is long ago.

    Parameters
    ----------
    store : Store
        The index, open to be written.
    most_files, most_bytes : int
        Number of records, or of their bytes, that is committed at the latest.
    most_seconds : float
        Seconds after the last commit at which the next one is due.
    """

    def __init__(
        self,
        store: Store,
        *,
        most_files: int,
        most_bytes: int,
        most_seconds: float = float("inf"),
    ) -> None:
        self._store = store
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._records: list[bytes] = []
        self._bytes = 0
        self._last_commit = time.monotonic()

    def add(self, packed_records: Iterable[bytes]) -> None:
        """Take records, and commit when a limit is reached; raises as `Store.replace`."""
        for packed in packed_records:
            self._records.append(packed)
            self._bytes += len(packed)
        if (
            len(self._records) >= self._most_files
            or self._bytes >= self._most_bytes
            or time.monotonic() - self._last_commit >= self._most_seconds
        ):
            self.commit()

    def commit(self) -> None:
        """Commit what was taken since the last commit; raises as `Store.replace`."""
        if self._records:
            self._store.replace(self._records)
            self._records = []
            self._bytes = 0
        self._last_commit = time.monotonic()
