"""Problems of the files of an archive: as they were scanned, and as they are now."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mmindex.errors import IndexFormatError, RemoteReadError, is_missing
from mmindex.index.problem_notes import AcceptedProblem, SkippedPath
from mmindex.model import Anomaly, Fingerprint, InstanceRecord, Status, split_path
from mmindex.read.changed_files import compare_archive
from mmindex.read.index_check import IndexCheck, begin_check
from mmindex.sources.base import Skipped, WalkRules
from mmindex.update.met import match_young
from mmindex.update.problems import (
    describe_anomaly,
    describe_change,
    describe_refusal,
    describe_unreadable,
)

if TYPE_CHECKING:
    from mmindex.index.reader import Reader
    from mmindex.read.archive import Archive
    from mmindex.read.listings import Progress

KINDS = "unreadable", "stale", "missing", "duplicate", "anomaly", "new"
_ALL = WalkRules()
_OF_YOUNG_FILES = "unreadable", "stale", "missing", "new"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one file.

    Attributes
    ----------
    path : str
        The file, relative to the archive's root.
    kind : str
        "missing": the file is gone. "stale": it changed after it was indexed. "unreadable": its
        frames cannot be found, or the path cannot be looked at. "anomaly": it breaks the standard,
        and its frames can be read. "duplicate": another file has the same SOP Instance UID. "new":
        the index does not know it.
    detail : str
        The problem in words, for people.
    anomaly : Anomaly or None
        Code, place and count, of an anomaly.
    sop_instance_uid : str
        The UID that several files have, of a duplicate; else empty.
    accepted : bool
        Whether the problem was accepted; see `Archive.accept`.
    """

    path: str
    kind: str
    detail: str
    anomaly: Anomaly | None = None
    sop_instance_uid: str = ""
    accepted: bool = False


def walk_problems(
    archive: Archive,
    store: Reader,
    progress: Progress | None = None,
    *,
    kinds: Collection[str] | None = None,
    rules: WalkRules = _ALL,
    min_age: float = 0.0,
) -> Iterator[Problem]:
    """Yield every problem of an archive's files; see `Archive.problems`."""
    checks_index = kinds is None
    kinds = KINDS if kinds is None else kinds
    if unknown := set(kinds).difference(KINDS):
        raise ValueError(f"expected kinds of {', '.join(KINDS)}, found {', '.join(unknown)}")
    found = _walk_all(archive, store, progress, kinds, rules, checks_index=checks_index)
    wanted: Iterable[Problem] = (problem for problem in found if problem.kind in kinds)
    if min_age > 0 and not archive.is_remote:  # an object is whole as soon as it is there
        wanted = _walk_settled(archive, wanted, min_age)
    return (
        replace(problem, accepted=True) if store.is_accepted(note_of(problem)) else problem
        for problem in wanted
    )


def _walk_settled(
    archive: Archive, problems: Iterable[Problem], min_age: float
) -> Iterator[Problem]:
    """Yield problems but those that a file has which came, changed or went lately."""
    is_young = match_young(min_age)
    root = os.fsencode(archive.root)
    for problem in problems:
        is_of_young = problem.kind in _OF_YOUNG_FILES
        if not (is_of_young and is_young(_changed_at(root, os.fsencode(problem.path)))):
            yield problem


def _changed_at(root: bytes, path: bytes) -> int:
    """Return when a file changed last, in ns since 1970; 0 where none can be looked at.

    A file in a container changed when that did. A file that is gone changed when the folder did
    that it was in, or the first one that is there.
    """
    for each in (path, *(container for container, _ in split_path(path))):
        with suppress(OSError):
            found = os.stat(os.path.join(root, each))
            if stat.S_ISREG(found.st_mode):
                return found.st_mtime_ns
    while True:
        try:
            return os.stat(os.path.join(root, path)).st_mtime_ns
        except OSError as error:
            if not (path and is_missing(error)):
                return 0
        path = os.path.dirname(path)


def note_of(problem: Problem) -> AcceptedProblem:
    """Return what an index keeps of a problem that is accepted."""
    return AcceptedProblem(os.fsencode(problem.path), problem.kind, problem.detail)


def _walk_all(
    archive: Archive,
    store: Reader,
    progress: Progress | None,
    kinds: Collection[str],
    rules: WalkRules,
    *,
    checks_index: bool,
) -> Iterator[Problem]:
    compares = bool({"missing", "stale", "new"}.intersection(kinds))
    walks = compares and not archive.is_remote
    check = begin_check(store) if checks_index and walks else None
    if check is not None:
        with closing(check):
            yield from _withhold(_walk_differences(archive, store, progress, rules), check)
    elif checks_index:
        archive.check_index()
    if "unreadable" in kinds or "anomaly" in kinds:
        for record in _walk_recorded(store, kinds):
            yield from _walk_scan_problems(record)
    if "unreadable" in kinds:
        yield from _walk_skipped(store)
    if walks and check is None:
        yield from _walk_differences(archive, store, progress, rules)
    elif not walks:
        if compares:
            yield from _walk_remote(archive, store, rules)
        if progress is not None:
            total = store.count_files()
            progress(total, total)
    if "duplicate" in kinds:
        yield from _walk_duplicates(archive)


def _withhold(problems: Iterator[Problem], check: IndexCheck) -> Iterator[Problem]:
    """Yield problems once the check of the index has ended; raise what it found wrong."""
    held = []
    try:
        for problem in problems:
            held.append(problem)
            if check.is_done():
                break
    except IndexFormatError:
        check.end()  # knows best what is wrong
        raise
    check.end()
    yield from held
    yield from problems


def _walk_recorded(store: Reader, kinds: Collection[str]) -> Iterator[InstanceRecord]:
    """Yield the records that may have problems of the scan."""
    if "anomaly" in kinds:
        ids: Iterable[int] = store.iterate_troubled()
    else:
        ids = store.find_unscanned(Status.UNREADABLE)
    for file_id in ids:
        record = store.read_record(file_id)
        if record is not None:
            yield record


def _walk_skipped(store: Reader) -> Iterator[Problem]:
    for note in store.iterate_problem_notes():
        if isinstance(note, SkippedPath):
            yield Problem(os.fsdecode(note.path), "unreadable", note.reason)


def _walk_remote(archive: Archive, store: Reader, rules: WalkRules) -> Iterator[Problem]:
    """Yield which objects are missing, changed or new; what is new needs a listing."""
    from mmindex.read.remote_problems import Listing, walk_changes

    bucket, is_mirror = archive.bucket
    listing = Listing(store, bucket, is_mirror=is_mirror, exclude=rules.exclude)
    try:
        for kind, path, detail in listing.walk():
            yield Problem(os.fsdecode(path), kind, detail)
        found = listing.walk_missing()
    except RemoteReadError as error:
        yield Problem(".", "unreadable", f"new objects cannot be looked for: {error.message}")
        found = walk_changes(store.iterate_records(), archive.open_source)
    for kind, path, detail in found:
        yield Problem(os.fsdecode(path), kind, detail)


def _walk_differences(
    archive: Archive, store: Reader, progress: Progress | None, rules: WalkRules
) -> Iterator[Problem]:
    """Yield files that are gone, changed or new, and paths that cannot be looked at."""
    done, total = 0, store.count_files()

    def count(files: int) -> None:
        nonlocal done
        for _ in range(files):
            done += 1
            if progress is not None:
                progress(done, total)

    root = os.fsencode(archive.root)
    for record, found in compare_archive(
        store, root, rules, ignores_inode=archive.is_moved, count=count
    ):
        if record is not None:
            yield from _walk_changes(archive, record)
        elif isinstance(found, Skipped):
            yield Problem(os.fsdecode(found.path), "unreadable", found.reason)
        elif found is not None:
            detail = "the index does not know the file; rebuild the index"
            yield Problem(os.fsdecode(found.path), "new", detail)


def _walk_duplicates(archive: Archive) -> Iterator[Problem]:
    for uid, records in archive.duplicates():
        first, *others = sorted(os.fsdecode(record.location) for record in records)
        count = len(others)
        detail = f"SOP Instance UID {uid} is also that of {others[0]}"
        detail += f" and {count - 1} more" if count > 1 else ""
        yield Problem(first, "duplicate", detail, sop_instance_uid=uid)
        detail = f"SOP Instance UID {uid} is also that of {first}"
        for path in others:
            yield Problem(path, "duplicate", detail, sop_instance_uid=uid)


def _walk_changes(archive: Archive, record: InstanceRecord) -> Iterator[Problem]:
    """Yield whether a file is gone or changed."""
    path = os.fsdecode(record.location)
    try:
        found = os.stat(archive.full_path(record))
    except OSError as error:
        if is_missing(error):
            yield Problem(path, "missing", error.strerror or "it is gone")
        else:
            yield Problem(path, "unreadable", describe_refusal(error))
    else:
        expected = archive.expected_fingerprint(record, found)
        is_same = expected.matches(Fingerprint.of(found))
        if record.status is not Status.UNREADABLE and not is_same:
            yield Problem(path, "stale", describe_change(found, record))


def _walk_scan_problems(record: InstanceRecord) -> Iterator[Problem]:
    path = os.fsdecode(record.location)
    if record.status is Status.UNREADABLE:
        yield Problem(path, "unreadable", describe_unreadable(record))
    for anomaly in record.anomalies:
        yield Problem(path, "anomaly", describe_anomaly(anomaly), anomaly)
