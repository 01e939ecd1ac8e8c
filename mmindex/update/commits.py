"""The records that wait to be committed, in batches: what a build or an update writes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmindex.index.batch_writer import BatchWriter
from mmindex.index.record import unpack_count, unpack_record
from mmindex.index.store import Store
from mmindex.model import Status
from mmindex.update.lost_instances import keep_lost
from mmindex.update.report import NAMES_KEPT, BuildReport, Progress

_COMMIT_FILES, _COMMIT_BYTES, _COMMIT_SECONDS = 4000, 1 << 24, 5.0


class Commits:
    """Takes packed records, counts them in the report, and commits when there are enough.

    Parameters
    ----------
    store : Store
        The index, open to be written.
    report : BuildReport
        Grows with each record.
    progress : callable
        Called with the report after each batch of records.
    """

    def __init__(self, store: Store, report: BuildReport, progress: Progress) -> None:
        self._store = store
        self._report = report
        self._progress = progress
        self._next_id = store.next_file_id()
        self._writer = BatchWriter(
            store,
            most_files=_COMMIT_FILES,
            most_bytes=_COMMIT_BYTES,
            most_seconds=_COMMIT_SECONDS,
        )

    def take(self, packed_records: list[bytes]) -> None:
        """Count records, and commit when there are enough of them."""
        report = self._report
        kept = list(map(self.keep_lost, packed_records))
        for packed in kept:
            status, number_of_frames = unpack_count(packed)
            report.scanned += 1
            report.statuses[status.value] += 1
            report.frames += number_of_frames
            if status is Status.UNREADABLE:
                record = unpack_record(packed)
                report.add_problem(record.location, record.reason)
        self._writer.add(kept)
        self._progress(report)

    def keep_lost(self, packed: bytes) -> bytes:
        """Return the packed record to write: see `lost_instances`."""
        return keep_lost(self._store, packed, self._next_id)

    def renew(self, packed: bytes) -> None:
        """Write the record of a file that the report has counted already."""
        self._writer.add([packed])

    def commit(self) -> None:
        """Write the records that wait."""
        self._writer.commit()

    def remove(self, file_ids: Sequence[int]) -> None:
        """Drop files, a batch a transaction, and count them."""
        for at in range(0, len(file_ids), _COMMIT_FILES):
            self._note_names(file_ids[at : at + _COMMIT_FILES])
            self._store.replace([], removed=file_ids[at : at + _COMMIT_FILES])
        self._report.removed += len(file_ids)

    def _note_names(self, file_ids: Sequence[int]) -> None:
        """Note the paths of files that are dropped, in the report."""
        for file_id in file_ids:
            if len(self._report.removed_paths) >= NAMES_KEPT:
                return
            record = self._store.read_record(file_id)
            if record is not None:
                self._report.removed_paths.append(os.fsdecode(record.location))
