"""What is wrong with the files of an archive: as they were scanned, and as they are now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmindex.model import Anomaly, Fingerprint, InstanceRecord, Status

if TYPE_CHECKING:
    from mmindex.read.archive import Archive
    from mmindex.read.listings import Progress


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one file.

    Attributes
    ----------
    path : str
        The file, relative to the archive's root.
    kind : str
        "missing": it is gone. "stale": it changed after it was indexed. "unreadable": its frames
        cannot be found. "anomaly": it breaks the standard, and its frames can be read.
        "duplicate": another file has the same SOP Instance UID.
    detail : str
        What exactly, for people.
    anomaly : Anomaly or None
        Code, place and count, of an anomaly.
    """

    path: str
    kind: str
    detail: str
    anomaly: Anomaly | None = None


def walk_problems(archive: Archive, progress: Progress | None = None) -> Iterator[Problem]:
    """Yield every problem of an archive's files; see `Archive.problems`."""
    archive.check_index()
    for record in archive.records(progress=progress):
        yield from _walk_file_problems(archive, record)
    for uid, records in archive.duplicates():
        first, *others = sorted(os.fsdecode(record.location) for record in records)
        count = len(others)
        detail = f"SOP Instance UID {uid} is also that of {others[0]}"
        yield Problem(first, "duplicate", detail + (f" and {count - 1} more" if count > 1 else ""))
        for path in others:
            yield Problem(path, "duplicate", f"SOP Instance UID {uid} is also that of {first}")


def _walk_file_problems(archive: Archive, record: InstanceRecord) -> Iterator[Problem]:
    path = os.fsdecode(record.location)
    if record.member is None:  # else its container says it once for all
        yield from _walk_changes(archive, record, path)
    if record.status is Status.UNREADABLE:
        yield Problem(path, "unreadable", f"{record.error}: {record.reason}")
    for anomaly in record.anomalies:
        times = f" ({anomaly.count} times)" if anomaly.count > 1 else ""
        detail = f"{anomaly.code} @0x{anomaly.offset:x}{times}"
        yield Problem(path, "anomaly", detail, anomaly)


def _walk_changes(archive: Archive, record: InstanceRecord, path: str) -> Iterator[Problem]:
    """Yield whether a file is gone or changed."""
    try:
        found = os.stat(archive.full_path(record))
    except OSError as error:
        yield Problem(path, "missing", error.strerror or "it is gone")
    else:
        expected = archive.expected_fingerprint(record, found)
        if record.status is not Status.UNREADABLE and Fingerprint.of(found) != expected:
            yield Problem(path, "stale", "the file changed after it was indexed; rebuild the index")
