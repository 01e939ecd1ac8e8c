"""Problems that an index keeps: paths that were skipped, and problems that the user accepted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mmindex.index.build_notes import BuildNote
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.problem_notes import EVERYWHERE, AcceptedProblem, Looked, SkippedPath
from mmindex.index.store import Store
from mmindex.model import SEPARATOR, Anomaly, Fingerprint, InstanceRecord, Status
from mmindex.sources.base import Skipped
from mmindex.update.guards import open_to_build
from mmindex.update.report import BuildReport

if TYPE_CHECKING:
    from mmindex.update.archive_root import ArchiveRoot


class Skips:
    """Paths that a build or an update could not look at.

    Parameters
    ----------
    report : BuildReport
        Counts them as problems.
    """

    def __init__(self, report: BuildReport) -> None:
        self.hidden: list[bytes] = []  # where files may be that were not met
        self._report = report
        self._skipped: dict[bytes, str] = {}

    def add(self, skipped: Skipped) -> None:
        """Take a path that was skipped."""
        self._report.add_problem(skipped.path, skipped.reason)
        self._skipped[skipped.path] = skipped.reason
        if skipped.may_hide:
            self.hidden.append(skipped.path)

    def write(self, store: Store, note: BuildNote | None, looked: Looked) -> None:
        """Write what was skipped in place of what was noted where the build or update looked."""
        looked = looked._replace(hidden=tuple(self.hidden))
        if note is not None or self._skipped or store.has_skipped(looked):
            notes = [SkippedPath(path, reason) for path, reason in self._skipped.items()]
            store.write_build(note, looked, notes)


def describe_unreadable(record: InstanceRecord) -> str:
    """Return why a file that was scanned has no frames that can be read."""
    return f"{record.error}: {record.reason}"


def describe_anomaly(anomaly: Anomaly) -> str:
    """Return an anomaly with its place, and how often it was met."""
    times = f" ({anomaly.count} times)" if anomaly.count > 1 else ""
    return f"{anomaly.code} @0x{anomaly.offset:x}{times}"


def describe_refusal(error: OSError) -> str:
    """Return why a file that the index knows cannot be looked at."""
    return f"cannot access it: {error.strerror}"


def describe_change(found: os.stat_result, record: InstanceRecord) -> str:
    """Return that a file changed after it was indexed, and what it is now."""
    known = record.fingerprint
    if known is not None and known.without_inode() == Fingerprint.of(found).without_inode():
        return (
            "the file changed after it was indexed: it is another one (by its inode) of the same "
            "size and time, as in an archive that was copied; rebuild the index, of a copy with "
            "--moved-from"
        )
    try:
        changed = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):  # a year that no datetime has
        changed = f"{found.st_mtime:.0f} s since 1970"
    return (
        f"the file changed after it was indexed: it has {found.st_size} bytes of {changed}; "
        "rebuild the index"
    )


def accept_problems(
    index: str, root: bytes, problems: Iterable[AcceptedProblem], wait: float
) -> None:
    """Note problems as accepted, in place of those that were; see `Archive.accept`."""
    with only_writer(index, wait), open_to_build(index, root) as store:
        store.accept(problems)


def forget_settled(
    store: Store,
    root: ArchiveRoot,
    looked: Looked = EVERYWHERE,
    containers: Iterable[bytes] = (),
) -> None:
    """Drop accepted problems that are gone or no longer the same.

    Parameters
    ----------
    store : Store
        The index, open to be written.
    root : ArchiveRoot
        The archive.
    looked : Looked
        Only problems of these files, and below these folders; of all unless given.
    containers : iterable of bytes
        Also problems of files in these containers.
    """
    if not store.has_problem_notes():
        return
    inside = tuple(path + SEPARATOR.encode() for path in containers)
    if looked.folders or inside:
        notes = (
            note
            for note in store.iterate_problem_notes()
            if looked.has(note.path) or note.path.startswith(inside)
        )
    else:
        notes = (note for path in looked.paths for note in store.read_notes_of(path))
    accepted = (note for note in notes if isinstance(note, AcceptedProblem))
    settled = [note for note in accepted if not _is_so_still(store, root, note)]
    if settled:
        store.forget(settled)


def mark_accepted(store: Store, report: BuildReport) -> None:
    """Note in a report which of its problems were accepted; call `forget_settled` before."""
    for path, _ in report.problems:
        notes = store.read_notes_of(os.fsencode(path))
        if any(isinstance(note, AcceptedProblem) and note.kind == "unreadable" for note in notes):
            report.accepted.add(path)


def _is_so_still(store: Store, root: ArchiveRoot, problem: AcceptedProblem) -> bool:
    """Return whether a problem that was accepted is there, by the index and the file."""
    path, kind, detail = problem
    record = store.find_record(path)
    if kind == "unreadable" and store.find_skipped(path) == detail:
        return True
    if record is None:
        return kind == "new" and root.files.has(path)
    if kind == "unreadable" and detail == describe_unreadable(record):
        return record.status is Status.UNREADABLE
    if kind == "anomaly":
        return detail in map(describe_anomaly, record.anomalies)
    if kind == "duplicate":
        return len(store.find_uid("instances", record.sop_instance_uid)) > 1
    found, change = root.find_problem(path, record)
    return kind == found and (kind == "missing" or change == detail)
