"""The plan of a build: which files are new or changed, and which are gone.

The walk of the archive streams; only one byte a known file is held.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import partial
from itertools import islice

from mmindex.index.problem_notes import is_below
from mmindex.index.store import Store
from mmindex.model import Status
from mmindex.sources.base import FoundFile, Skipped
from mmindex.update.archive_root import ArchiveRoot
from mmindex.update.commits import Commits
from mmindex.update.lost_instances import LOST
from mmindex.update.met import LOOKED_UP, Met, match_young, walk_chunks
from mmindex.update.moves import Renewal
from mmindex.update.problems import Skips
from mmindex.update.report import BuildReport, Progress
from mmindex.update.scan_buffer import ScanOptions
from mmindex.update.scan_file import NOT_OPENED, Target


class Plan:
    """One walk of an archive beside its index.

    Parameters
    ----------
    store : Store
        The index.
    root : ArchiveRoot
        The archive, with what its walk leaves out.
    report : BuildReport
        Counts what is met.
    commits : Commits
        Takes records of unchanged files that are renewed.
    full : bool
        Scan unchanged files, too.
    options : ScanOptions
        What every scan is asked; with `force`, files that are not DICOM are scanned again.
    min_age : float
        Seconds since its last change after which a file is looked at.
    is_moved : bool
        Whether the archive was moved or copied: files with the size and time of known ones are
        unchanged then, unless several of these have both.
    progress : callable
        Called with the report so far, often.

    Attributes
    ----------
    met : Met
        The known files that were met.
    renewal : Renewal
        Renews their records.
    """

    def __init__(
        self,
        store: Store,
        root: ArchiveRoot,
        report: BuildReport,
        commits: Commits,
        *,
        full: bool,
        options: ScanOptions,
        min_age: float,
        is_moved: bool,
        progress: Progress,
    ) -> None:
        self._store = store
        self._root = root
        self._report = report
        rescanned = _find_rescanned(store, options, full=full)
        doubtful = store.find_shared_versions() if is_moved else ()
        renews = is_moved or options.ignore_inode
        self.met = Met(store.next_file_id(), rescanned, renews=renews, doubtful=doubtful)
        self.renewal = Renewal(store, report, commits, self.met)
        self._options = options
        self._min_age = min_age
        self._progress = progress
        self.skips = Skips(report)

    def walk_chunks(self) -> Iterator[list[Target]]:
        """Return the paths of new and changed files, in chunks."""
        return walk_chunks(
            (self._root.target(file), file.fingerprint.size) for file in self._walk_changed()
        )

    def find_gone(self) -> list[int]:
        """Return the ids of files that the walk did not meet, unless they may be hidden from it.

        Those in containers that are unchanged count as met.
        """
        if self._options.containers:
            marked = self._store.mark_members(self.met.seen)
            self._report.found += marked
            self._report.unchanged += marked
        gone = self._store.find_unseen(self.met.seen)
        if self.skips.hidden:
            gone = [file_id for file_id in gone if not self._may_be_hidden(file_id)]
        return gone

    def find_shut(self) -> list[int]:
        """Return the ids of files in containers where these are not opened any more."""
        return [] if self._options.containers else self._store.find_all_members()

    def _walk_changed(self) -> Iterator[FoundFile]:
        """Yield new and changed files as the walk meets them; mark the known ones as seen."""
        walk = iter(self._root.walk(self._store.path))
        while met := list(islice(walk, LOOKED_UP)):
            files = [found for found in met if isinstance(found, FoundFile)]
            if len(files) < len(met):
                for found in met:
                    if isinstance(found, Skipped):
                        self.skips.add(found)
            changed = self._select_changed(files)
            self._report.listing = len(met) == LOOKED_UP
            yield from changed
        self._report.listing = False

    def _select_changed(self, files: list[FoundFile]) -> list[FoundFile]:
        """Return the files that are to be scanned, counting the others."""
        self._report.found += len(files)
        changed = []
        postponed = 0
        is_young = match_young(self._min_age)
        known_files = self._store.find_paths([file.path for file in files])
        versions = self._options.versions(files)
        for file, known, version in zip(files, known_files, versions, strict=True):
            if self.met.is_unchanged(known, version):
                continue
            if is_young(file.fingerprint.mtime_ns):
                postponed += 1
                continue
            changed.append(file)
        self._report.postponed += postponed
        self._report.unchanged += len(files) - len(changed) - postponed
        self.renewal.write()
        self._progress(self._report)
        return changed

    def _may_be_hidden(self, file_id: int) -> bool:
        record = self._store.read_record(file_id)
        path = b"" if record is None else record.path
        return any(is_below(path, hidden) for hidden in self.skips.hidden)


def _find_rescanned(store: Store, options: ScanOptions, *, full: bool) -> Container[int]:
    """Return the ids of known files that are scanned again though they did not change.

    Without `full`, these are files that another build looked at with other options.
    """
    if full:
        return range(store.next_file_id())
    found = set(store.find_containers(opened=not options.containers))
    if options.containers:  # those that are empty stay as they are
        found = {file_id for file_id in found if _is_shut(store, file_id)}
    if options.force:
        found.update(store.find_unscanned(Status.NOT_DICOM))
        found.update(filter(partial(_is_lost, store), store.find_unscanned(Status.UNREADABLE)))
        found.update(store.find_containers(opened=True))
    return found


def _is_lost(store: Store, file_id: int) -> bool:
    """Return whether an unreadable file is one that was DICOM and looks like none now."""
    record = store.read_record(file_id)
    return record is not None and record.error == LOST


def _is_shut(store: Store, file_id: int) -> bool:
    """Return whether a container was not opened by the build that put it in."""
    record = store.read_record(file_id)
    return record is not None and record.reason == NOT_OPENED
