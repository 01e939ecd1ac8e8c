"""The update of single files of an archive, in time that the archive's size does not change.

A file is found in the index by its path. Only a folder in which the index has, or had, files costs
a look at all paths of the index: to find which of them are gone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mmindex.index.create import create_index
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.problem_notes import Looked
from mmindex.index.store import Store
from mmindex.model import SEPARATOR, split_path
from mmindex.sources.base import FoundFile, Skipped, WalkRules
from mmindex.update.archive_root import ArchiveRoot, find_archive
from mmindex.update.attribute_values import check_attributes
from mmindex.update.attributes import fill_attributes, follow_attributes
from mmindex.update.commits import Commits
from mmindex.update.containers import Containers
from mmindex.update.guards import (
    find_index,
    find_refusal,
    open_to_build,
    parse_limit,
)
from mmindex.update.met import Met, match_young
from mmindex.update.moves import Renewal
from mmindex.update.places import Below, Places, find_places
from mmindex.update.problems import Skips, forget_settled, mark_accepted
from mmindex.update.report import NAMES_KEPT, BuildReport, counting_requests
from mmindex.update.scan_buffer import ScanOptions, decide_prove
from mmindex.update.scan_file import Target

_TOGETHER = 64  # files scanned between two looks at what waits to be committed


def update(
    root: str | os.PathLike[str],
    paths: Iterable[str | bytes | os.PathLike[str]],
    index: str | os.PathLike[str] | None = None,
    *,
    wait: float = 10.0,
    force: bool = False,
    prove: bool | None = None,
    exclude: Sequence[str] = (),
    follow_links: bool = True,
    one_file_system: bool = False,
    containers: bool = True,
    attributes: str | Sequence[str] = (),
    min_age: float = 0.0,
    max_removed: int | str | None = None,
    check_pages: bool = True,
    store: object = None,
    concurrency: int | None = None,
) -> BuildReport:
    """Bring the index up to date for these files and folders alone.

    New and changed files are scanned, in this process. Files that are gone are dropped, with all
    that was below a folder that is gone. The time depends on the files, not on the archive: only
    a folder in which the index has files, or a path that was one, costs a look at the paths of all
    files of the index. A path like
    `study.zip!/a.dcm` stands for its container, all of whose files are scanned if it changed.

    Parameters
    ----------
    root : path or URL
        The archive's folder, or a bucket as for `build`; or a URL that a web server (http, https)
        serves files below.
    paths : iterable of path
        Files and folders in the archive, absolute or relative to the working directory; of a URL
        keys, relative to it, or URLs below it. A web server has files, and no folders.
    index : path, optional
        The index file; `.mmindex` in `root` unless given, which it has to be for a URL. A new one
        is made where there is none.
    wait : float
        Seconds to wait while another build or update writes the index.
    force, prove, exclude, follow_links, one_file_system, containers, min_age, max_removed
        As for `build`.
    store, concurrency
        As for `build`.
    attributes : str or sequence of str
        As for `build`, where the index is a new one; else that follows what it keeps.
    check_pages : bool
        Check all pages of the index before the first write since this process opened the index,
        which costs 2 s for 200,000 files: to write to a damaged index may end the process. False
        is for a process that ends with the update, as the command does.

    Returns
    -------
    BuildReport

    Raises
    ------
    MissingFileError
        There is no such root.
    IndexFormatError
        The index file is something else, or damaged.
    IndexWriteError
        A path is outside the root; the index cannot be written, or another build was at work all
        the time; more files are gone than `max_removed` allows; the index keeps other attributes.
    RemoteReadError
        A store does not answer which version an object has.
    ValueError
        As for `build`.
    """
    rules = WalkRules(tuple(exclude), follow_links, one_file_system)
    options = UpdateOptions(
        wait,
        ScanOptions(force, decide_prove(prove, root), containers),
        rules,
        min_age,
        max_removed,
        check_pages,
        store,
        concurrency,
        attributes,
    )
    return update_files(root, paths, index, options)


class UpdateOptions(NamedTuple):
    """The arguments of `update` but for the files."""

    wait: float
    scan: ScanOptions
    rules: WalkRules
    min_age: float
    max_removed: int | str | None
    check_pages: bool
    store: object = None
    concurrency: int | None = None
    attributes: str | Sequence[str] = ()
    arrived: Sequence[bytes] = ()  # folders that are new: no file that was known is below


def update_files(
    root: str | os.PathLike[str],
    paths: Iterable[str | bytes | os.PathLike[str]],
    index: str | os.PathLike[str] | None,
    options: UpdateOptions,
) -> BuildReport:
    """Do what `update` does."""
    started = time.monotonic()
    parse_limit(options.max_removed)
    check_attributes(options.attributes)
    archive = find_archive(root, options.rules, options.store, options.concurrency)
    index_path = find_index(archive.path, index)
    places = find_places(archive, index_path)
    wanted = list(dict.fromkeys(places.locate(os.fsencode(path)) for path in paths))
    report = BuildReport(archive.name, index_path, listing=False)
    create_index(index_path, archive.path)
    with (
        counting_requests(report),
        only_writer(index_path, options.wait),
        open_to_build(index_path, archive.path) as store,
    ):
        if not options.check_pages:
            store.trust_pages()
        kept = follow_attributes(store, options.attributes)
        scan = options.scan._replace(attributes=kept, ignore_inode=store.ignores_inode())
        found = _Look(archive, places, options._replace(scan=scan), store, report)
        found.look_at(wanted)
        commits = Commits(store, report, lambda report: None)
        renewal = Renewal(store, report, commits, found.known)
        containers = Containers(store, archive, report, commits, scan, renewal)
        try:
            renewal.write()
            while not containers.is_done:
                for chunk in containers.walk_round(found.walk_chunks()):
                    containers.take(archive.scan(chunk, scan))
                containers.finish()
        finally:
            commits.commit()
        gone = sorted({*found.find_gone(), *containers.find_vanished()})
        known = store.count_files()
        refusal = find_refusal(archive.files, index_path, len(gone), known, options.max_removed)
        if refusal is None:
            commits.remove(gone)
        fill_attributes(store, archive, scan, store.unknown_attributes)
        if refusal is not None:
            raise refusal
        looked_at = {*wanted, *found.met}
        looked = Looked(looked_at, tuple(found.walked))
        found.skips.write(store, None, looked)
        forget_settled(store, archive, looked, found.containers)
        mark_accepted(store, report)
        report.add_totals(store.read_counters())
    report.seconds = time.monotonic() - started
    return report


class _Look:
    """The present state of some paths of an archive, beside their state in the index."""

    def __init__(
        self,
        root: ArchiveRoot,
        places: Places,
        options: UpdateOptions,
        store: Store,
        report: BuildReport,
    ) -> None:
        self.changed: deque[FoundFile] = deque()
        self._root = root
        self._places = places
        self._scan = options.scan
        self._min_age = options.min_age
        self._arrived = {places.locate(path) for path in options.arrived}
        self._store = store
        self._report = report
        self._scanned: list[bytes] = []
        self._gone: list[int] = []
        self.walked: dict[bytes, None] = {}  # folders below which all was met, in order
        self.folders: list[bytes] = []  # below which known files may be gone
        self.containers: list[bytes] = []  # whose files changed, or are gone
        self.met: set[bytes] = set()
        self.known = Met(renews=options.scan.ignore_inode)
        self.skips = Skips(report)

    def look_at(self, paths: list[bytes]) -> None:
        """Look at files and folders; `changed` are then the files to scan."""
        is_young = match_young(self._min_age)
        missing: list[bytes] = []
        wanted = list(dict.fromkeys(map(self._find_container, paths)))
        for path, found in self._places.walk(wanted):
            if found is None:
                missing.append(path)
            elif isinstance(found, Below):
                self.walked[path] = None
                if path not in self._arrived and self._store.has_folder(path):
                    self.folders.append(path)
            elif isinstance(found, Skipped):
                self.skips.add(found)
            elif found.path not in self.met:
                self.met.add(found.path)
                self._take(found, is_young)
                if found.path == path and self._is_new_in_place_of_folder(path):
                    self.walked[path] = None
                    self.folders.append(path)
        for path, known in zip(missing, self._store.find_paths(missing), strict=True):
            members = self._store.find_members(path)
            self._gone += members
            if members:
                self.containers.append(path)
            if known is not None:
                self._gone.append(known[0])
            elif members or path in self.walked:
                continue
            elif self._store.has_folder(path):
                self.walked[path] = None
                self.folders.append(path)
            elif len(self._report.unknown_paths) < NAMES_KEPT and not self._is_known(path):
                self._report.unknown_paths.append(os.fsdecode(path))

    def _is_known(self, path: bytes) -> bool:
        """Return whether something is at a path that is left out, or a problem is noted of it."""
        return bool(self._store.read_notes_of(path)) or self._root.files.has(path)

    def _is_new_in_place_of_folder(self, path: bytes) -> bool:
        return self._store.has_folder(path) and self._store.find_paths([path]) == [None]

    def walk_chunks(self) -> Iterator[list[Target]]:
        """Yield the paths of the files to scan, in chunks, each once."""
        while self.changed:
            count = min(_TOGETHER, len(self.changed))
            chunk = [self.changed.popleft() for _ in range(count)]
            self._scanned += [file.path for file in chunk]
            yield [self._root.target(file) for file in chunk]

    def find_gone(self) -> list[int]:
        """Return the ids of known files that are gone."""
        for path, known in zip(self._scanned, self._store.find_paths(self._scanned), strict=True):
            version = known[1] if known is not None and self._scan.containers else None
            gone = self._store.find_members(path, version)
            if gone or self._store.has_members(path):
                self.containers.append(path)
            self._gone += gone
        if self.folders:
            hidden = tuple(path + b"/" if path else b"" for path in self.skips.hidden)
            for file_id, path in self._store.find_below(self.folders):
                if not (path in self.met or path in self.skips.hidden or path.startswith(hidden)):
                    self._gone.append(file_id)
        return self._gone

    def _find_container(self, path: bytes) -> bytes:
        """Return the path of the container that a path like `study.zip!/a.dcm` is in, or itself."""
        if SEPARATOR.encode() in path and not self._root.files.has(path):
            for container, _ in split_path(path):
                is_known = self._store.find_paths([container]) != [None]
                if is_known or self._places.is_file(container):
                    return container
        return path

    def _take(self, file: FoundFile, is_young: Callable[[int], bool]) -> None:
        """Count a file; note whether it is to be scanned."""
        report = self._report
        report.found += 1
        known = self._store.find_paths([file.path])[0]
        if self.known.is_unchanged(known, self._scan.version(file.fingerprint)):
            report.unchanged += 1
        elif is_young(file.fingerprint.mtime_ns):
            report.postponed += 1
        else:
            self.changed.append(file)
