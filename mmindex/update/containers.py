"""The tar and zip containers of a build or an update: walked once their scan has found them.

A container's own record is written after those of its files: a build that is interrupted before
walks the container again, and scans only the files that are not in the index yet.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from mmindex.errors import MissingFileError, MMIndexError
from mmindex.index.record import pack_record, status_of_packed, unpack_keys, unpack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status, locate
from mmindex.sources.container import walk_members
from mmindex.sources.member import NO_FILE, FoundMember
from mmindex.update.archive_root import ArchiveRoot
from mmindex.update.commits import Commits
from mmindex.update.met import LOOKED_UP, walk_chunks
from mmindex.update.moves import Renewal
from mmindex.update.report import BuildReport
from mmindex.update.scan_buffer import ScanOptions, explain_failure, unreadable
from mmindex.update.scan_file import UNKNOWN, Target
from mmindex.update.scan_members import MemberTarget

_MOST_WALKED = 4096  # containers whose records wait for those of their files
_TOGETHER = 4096  # files dropped together
_HASH = (1 << 64) - 1


class _Found(NamedTuple):
    """A container that a scan has found."""

    path: bytes
    fingerprint: Fingerprint


class _Walked(NamedTuple):
    """A container whose walk has ended.

    `is_known` says whether files of it were in the index before, `repeated` are hashes of names
    that may be there twice.
    """

    path: bytes
    fingerprint: Fingerprint
    record: InstanceRecord
    is_known: bool
    repeated: frozenset[int]


class Containers:
    """Takes what scans return: records are committed, containers among them are walked.

    Parameters
    ----------
    store : Store
        The index, open to be written.
    root : ArchiveRoot
        The archive.
    report : BuildReport
        Counts the files that are met.
    commits : Commits
        Takes the records.
    options : ScanOptions
        What every scan is asked; without `containers`, none is walked.
    renewal : Renewal, optional
        Has the known files that are met, here and by others.
    """

    def __init__(
        self,
        store: Store,
        root: ArchiveRoot,
        report: BuildReport,
        commits: Commits,
        options: ScanOptions,
        renewal: Renewal | None = None,
    ) -> None:
        self._store = store
        self._root = root
        self._report = report
        self._commits = commits
        self._options = options
        self._renewal = renewal or Renewal(store, report, commits)
        self._met = self._renewal.met
        self._found: deque[_Found] = deque()
        self._walked: list[_Walked] = []
        self._unread: Counter[bytes] = Counter()  # files that a store did not return, by container
        self._vanished: set[bytes] = set()
        self._is_cut = True  # whether files wait that the last round did not come to

    @property
    def is_done(self) -> bool:
        """Whether the last round came to its end, and found no more containers."""
        return not self._is_cut and not self._found

    def take(self, packed_records: list[bytes]) -> None:
        """Commit records, but for those of files that are gone, and of containers to be walked."""
        others = []
        for packed in packed_records:
            status = status_of_packed(packed)
            if status is Status.CONTAINER and self._options.containers:
                keys = unpack_keys(packed)
                self._found.append(_Found(keys.path, keys.fingerprint))
                continue
            if status is Status.UNREADABLE:
                keys = unpack_keys(packed)
                if unpack_record(packed).error == MissingFileError.__name__:
                    self._vanished.add(keys.path)
                    self._report.found -= 1
                    continue
                if keys.location != keys.path and keys.fingerprint == UNKNOWN:
                    self._unread[keys.path] += 1
            others.append(packed)
        self._commits.take(others)

    def find_vanished(self) -> list[int]:
        """Return the ids of known files that were gone when they were to be scanned."""
        paths = sorted(self._vanished)
        known = [found[0] for found in self._store.find_paths(paths) if found is not None]
        return known + [each for path in paths for each in self._store.find_members(path)]

    def walk_round(self, chunks: Iterator[list[Target]]) -> Iterator[list[Target]]:
        """Yield chunks of files, and after each the files of containers that were found meanwhile.

        A round ends early where many containers wait for `finish`.
        """
        self._is_cut = True
        for chunk in chunks:
            yield chunk
            yield from self.walk_chunks()
            if len(self._walked) >= _MOST_WALKED:
                return
        yield from self.walk_chunks()
        self._is_cut = False

    def walk_chunks(self) -> Iterator[list[Target]]:
        """Return the new and changed files of the containers found so far, in chunks."""
        return walk_chunks(self._walk_found())

    def _walk_found(self) -> Iterator[tuple[MemberTarget, int]]:
        while self._found and len(self._walked) < _MOST_WALKED:
            for target in self._walk(self._found.popleft()):
                yield target, 0 if target.member.reason else target.member.length

    def finish(self) -> None:
        """Write the records of the containers that were walked, once all their files are taken.

        What the index knows of them besides is dropped: it is no longer there.
        """
        walked, self._walked = self._walked, []
        for each in walked:
            for target in self._find_last(each) if each.repeated else ():
                self._write_last(target)
        self._commits.commit()
        obsolete: list[int] = []
        for each in walked:
            if each.is_known:
                obsolete += self._store.find_members(each.path, each.fingerprint, self._met.seen)
            if len(obsolete) >= _TOGETHER:
                self._commits.remove(obsolete)
                obsolete = []
        self._commits.remove(obsolete)
        for each in walked:
            record, version = each.record, each.fingerprint
            if record.error == MissingFileError.__name__:
                self._vanished.add(each.path)
            if each.path in self._vanished:
                self._report.found -= 1
                continue
            if unread := self._unread.pop(each.path, 0):
                reason = f"{unread} of its files could not be read: the next build looks again"
                record, version = unreadable("RemoteReadError", reason), UNKNOWN
            elif record.error == "RemoteReadError":
                version = UNKNOWN
            self._commits.take([pack_record(record, each.path, version)])

    def _write_last(self, target: MemberTarget) -> None:
        """Write the record of the last member of a name, in place of those before."""
        for packed in map(self._commits.keep_lost, self._root.scan([target], self._options)):
            if target.member.reason == NO_FILE:
                record = unpack_record(packed)
                self._report.add_problem(record.location, record.reason)
            self._commits.renew(packed)  # all files of the name were counted when they were met

    def _walk(self, container: _Found) -> Iterator[MemberTarget]:
        """Yield the files of a container that are new or changed, and note that it was walked."""
        path, fingerprint = container
        is_known = self._store.has_members(container.path)
        hashes, files = array("Q"), 0
        waiting: list[FoundMember] = []
        record: InstanceRecord | None = None
        try:
            for member in self._walk_members(container):
                hashes.append(hash(member.name) & _HASH)
                if member.reason == NO_FILE:
                    continue
                files += 1
                waiting.append(member)
                if len(waiting) == LOOKED_UP:
                    yield from self._select_changed(container, waiting)
                    waiting = []
        except MMIndexError as error:
            error.path = None  # the record has it
            record = unreadable(type(error).__name__, str(error))
        except Exception as error:  # a bug, too, costs this container alone
            record = explain_failure(error, "container")
        yield from self._select_changed(container, waiting)
        if record is None:
            counted = f"{files} file" + "s" * (files != 1)
            reason = f"a container of {counted}, each of which has a path of its own"
            record = InstanceRecord(Status.CONTAINER, reason=reason, error="NotDicomError")
        else:  # while the index has its files
            record = unpack_record(self._commits.keep_lost(pack_record(record, path, fingerprint)))
        repeated = _find_repeated(hashes)
        self._walked.append(_Walked(*container, record, is_known, repeated))

    def _walk_members(self, container: _Found | _Walked) -> Iterator[FoundMember]:
        source = self._root.open_container(container.path, container.fingerprint)
        yield from walk_members(source, others=True)
        source.check()

    def _select_changed(
        self, container: _Found, members: list[FoundMember]
    ) -> Iterator[MemberTarget]:
        path, fingerprint = container
        self._report.found += len(members)
        names = [locate(path, member.name) for member in members]
        known_files = self._store.find_paths(names)
        for member, known in zip(members, known_files, strict=True):
            is_unchanged = self._met.is_unchanged(known, fingerprint)
            # Files of a container have its version to the time, which an ETag may outlive.
            if is_unchanged and known is not None and known[1] == fingerprint:
                self._report.unchanged += 1
            else:
                yield MemberTarget(path, fingerprint, member)
        self._renewal.write()

    def _find_last(self, container: _Walked) -> Iterable[MemberTarget]:
        """Return of files that share a name the last one, which counts."""
        last: dict[bytes, tuple[int, FoundMember]] = {}  # with the files that came before
        try:
            for member in self._walk_members(container):
                if hash(member.name) & _HASH in container.repeated:
                    count, before = last.get(member.name, (0, member))
                    is_after_file = before is not member and before.reason != NO_FILE
                    last[member.name] = count + is_after_file, member
        except Exception:  # its record says so; what was found before counts
            pass
        return [
            MemberTarget(container.path, container.fingerprint, member)
            for count, member in last.values()
            if count
        ]


def _find_repeated(hashes: array[int]) -> frozenset[int]:
    ascending = sorted(hashes)
    return frozenset(first for first, second in pairwise(ascending) if first == second)
