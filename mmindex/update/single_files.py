"""The update of single files of an archive, in time that the archive's size does not change.

A file is found in the index by its path. Only a folder costs a walk of the index's paths: to find
what the index knows below it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mmindex.errors import IndexWriteError, is_missing
from mmindex.index.create import create_index
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.record import unpack_keys
from mmindex.index.store import Store
from mmindex.model import SEPARATOR, Fingerprint, split_path
from mmindex.sources.base import FoundFile, Skipped
from mmindex.sources.folder import (
    WalkRules,
    match_excluded,
    match_index_files,
    skipped,
    walk_archive,
)
from mmindex.update.commits import Commits
from mmindex.update.containers import Containers
from mmindex.update.guards import (
    check_removal,
    find_index,
    find_root,
    open_to_build,
    parse_limit,
)
from mmindex.update.problems import Skips, forget_settled, mark_accepted
from mmindex.update.report import BuildReport
from mmindex.update.scan_buffer import ScanOptions
from mmindex.update.scan_file import Target, scan_files

_TOGETHER = 64  # files scanned between two looks at what waits to be committed
_NO_NAMES = (b"..", b".")


def update(
    root: str | os.PathLike[str],
    paths: Iterable[str | bytes | os.PathLike[str]],
    index: str | os.PathLike[str] | None = None,
    *,
    wait: float = 10.0,
    force: bool = False,
    prove: bool = True,
    exclude: Sequence[str] = (),
    follow_links: bool = True,
    one_file_system: bool = False,
    containers: bool = True,
    min_age: float = 0.0,
    max_removed: int | str | None = None,
    check_pages: bool = True,
) -> BuildReport:
    """Bring the index up to date for these files and folders alone.

    New and changed files are scanned, in this process. Files that are gone are dropped, with all
    that was below a folder that is gone. The time depends on the files, not on the archive: only
    a folder, or a path that was one, costs a walk of the index's paths. A path like
    `study.zip!/a.dcm` stands for its container, of which all files are looked at if it changed.

    Parameters
    ----------
    root : path
        The archive's folder.
    paths : iterable of path
        Files and folders in the archive, absolute or relative to the working directory.
    index : path, optional
        The index file; `.mmindex` in `root` unless given. A new one is made where there is none.
    wait : float
        Seconds to wait while another build or update writes the index.
    force, prove, exclude, follow_links, one_file_system, containers, min_age, max_removed
        As for `build`.
    check_pages : bool
        Look at all pages of the index before the first write since this process opened the index,
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
        the time; more files are gone than `max_removed` allows.
    ValueError
        `max_removed` is neither a number nor a percentage.
    """
    rules = WalkRules(tuple(exclude), follow_links, one_file_system)
    options = UpdateOptions(
        wait, ScanOptions(force, prove, containers), rules, min_age, max_removed, check_pages
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


def update_files(
    root: str | os.PathLike[str],
    paths: Iterable[str | bytes | os.PathLike[str]],
    index: str | os.PathLike[str] | None,
    options: UpdateOptions,
) -> BuildReport:
    """Do what `update` does."""
    started = time.monotonic()
    rules = options.rules
    parse_limit(options.max_removed)
    root_bytes = find_root(root, one_file_system=rules.one_file_system)
    index_path = find_index(root_bytes, index)
    places = Places(root_bytes, follow_links=rules.follow_links)
    wanted = list(dict.fromkeys(places.locate(os.fsencode(path)) for path in paths))
    report = BuildReport(os.fsdecode(root_bytes), index_path, listing=False)
    create_index(index_path, root_bytes)
    with only_writer(index_path, options.wait), open_to_build(index_path, root_bytes) as store:
        if not options.check_pages:
            store.trust_pages()
        found = _Look(root_bytes, index_path, options, store, report)
        found.look_at(wanted)
        commits = Commits(store, report, lambda report: None)
        containers = Containers(store, root_bytes, report, commits, options.scan)
        try:
            while not containers.is_done:
                for chunk in containers.walk_round(found.walk_chunks()):
                    containers.take(scan_files(root_bytes, chunk, options.scan))
                containers.finish()
        finally:
            commits.commit()
        gone = found.find_gone()
        check_removal(root_bytes, index_path, len(gone), store.count_files(), options.max_removed)
        commits.remove(gone)
        looked_at = {*wanted, *found.met}
        found.skips.write(store, None, looked_at, found.folders)
        forget_settled(store, root_bytes, None if found.folders else looked_at)
        mark_accepted(store, report)
        report.add_totals(store.read_counters())
    report.seconds = time.monotonic() - started
    return report


class Places:
    """Turns the paths of files into their paths in an archive.

    Parameters
    ----------
    root : bytes
        The archive's folder, absolute.
    follow_links : bool
        Whether a path may lead through a link to a folder outside the archive.
    """

    def __init__(self, root: bytes, *, follow_links: bool = True) -> None:
        self._root = os.path.normpath(root)
        self._real_root = os.path.realpath(root)
        self._follow_links = follow_links

    def locate(self, path: bytes) -> bytes:
        """Return the path in the archive that a walk of it gives the file, empty for the root.

        Raises
        ------
        IndexWriteError
            The path is outside the root.
        """
        path = os.path.join(os.getcwdb(), path)
        folder, name = os.path.split(path.rstrip(b"/") or b"/")
        if name in _NO_NAMES:
            folder, name = os.path.realpath(path), b""
        real = os.path.join(os.path.realpath(folder), name).rstrip(b"/")
        found = _below(self._real_root, real)  # by its own folder, as the walk meets it first
        if found is None and self._follow_links:
            found = _below(self._root, os.path.normpath(path))
        if found is None:
            raise IndexWriteError(
                f"expected a path in the archive {os.fsdecode(self._root)}, found one outside",
                path=os.fsdecode(path),
            )
        return found


def _below(root: bytes, path: bytes) -> bytes | None:
    """Return a path relative to a root, empty for the root itself; None where it is outside."""
    if path == root:
        return b""
    prefix = os.path.join(root, b"")
    return path[len(prefix) :] if path.startswith(prefix) else None


class _Look:
    """The present state of some paths of an archive, beside their state in the index."""

    def __init__(
        self,
        root: bytes,
        index: str,
        options: UpdateOptions,
        store: Store,
        report: BuildReport,
    ) -> None:
        self.changed: list[bytes] = []
        self._root = root
        self._index = os.fsencode(index)
        self._rules = options.rules
        self._opens_containers = options.scan.containers
        self._min_age = options.min_age
        self._store = store
        self._report = report
        self._is_excluded = match_excluded(options.rules.exclude)
        self._is_index_in = match_index_files(self._index)
        self._scanned: list[bytes] = []
        self._gone: list[int] = []
        self.folders: list[bytes] = []  # below which known files may be gone
        self.met: set[bytes] = set()
        self.skips = Skips(report)

    def look_at(self, paths: list[bytes]) -> None:
        """Look at files and folders; `changed` are then the files to scan."""
        youngest = time.time_ns() - int(self._min_age * 1e9)
        missing: list[bytes] = []
        for path in dict.fromkeys(map(self._find_container, paths)):
            for found in self._walk(path):
                if found is None:
                    missing.append(path)
                elif isinstance(found, Skipped):
                    self.skips.add(found)
                elif found.path not in self.met:
                    self.met.add(found.path)
                    self._take(found, youngest)
                    if found.path == path and self._is_new_in_place_of_folder(path):
                        self.folders.append(path)
        for path, known in zip(missing, self._store.find_paths(missing), strict=True):
            members = self._store.find_members(path)
            self._gone += members
            if known is not None:
                self._gone.append(known[0])
            elif members:
                continue
            elif path not in self.folders and self._store.has_folder(path):
                self.folders.append(path)

    def _is_new_in_place_of_folder(self, path: bytes) -> bool:
        return self._store.has_folder(path) and self._store.find_paths([path]) == [None]

    def walk_chunks(self) -> Iterator[list[Target]]:
        """Yield the paths of the files to scan, in chunks, each once."""
        while self.changed:
            chunk, self.changed = self.changed[:_TOGETHER], self.changed[_TOGETHER:]
            self._scanned += chunk
            yield list(chunk)

    def find_gone(self) -> list[int]:
        """Return the ids of known files that are gone."""
        for path, known in zip(self._scanned, self._store.find_paths(self._scanned), strict=True):
            version = known[1] if known is not None and self._opens_containers else None
            self._gone += self._store.find_members(path, version)
        if self.folders:
            prefixes = tuple(path + b"/" if path else b"" for path in self.folders)
            hidden = tuple(path + b"/" if path else b"" for path in self.skips.hidden)
            below = [
                keys.location
                for keys in map(unpack_keys, self._store.iterate_packed())
                if keys.path.startswith(prefixes)
                and keys.path not in self.met
                and keys.path not in self.skips.hidden
                and not keys.path.startswith(hidden)
            ]
            found = self._store.find_paths(below)
            self._gone += [each[0] for each in found if each is not None]
        return sorted(set(self._gone))

    def _find_container(self, path: bytes) -> bytes:
        """Return the path of the container that a path like `study.zip!/a.dcm` is in, or itself."""
        if SEPARATOR.encode() in path and not os.path.lexists(os.path.join(self._root, path)):
            for container, _ in split_path(path):
                is_known = self._store.find_paths([container]) != [None]
                if is_known or os.path.isfile(os.path.join(self._root, container)):
                    return container
        return path

    def _walk(self, path: bytes) -> Iterator[FoundFile | Skipped | None]:
        """Yield the file at a path, or those below; None where nothing is, or nothing counts."""
        full_path = os.path.join(self._root, path)
        folder, name = os.path.split(full_path)
        if path and self._is_index_in(os.path.realpath(folder))(name):
            return
        try:
            if self._is_left_out(path):
                yield None
                return
            status = os.stat(full_path)
        except OSError as error:
            if not is_missing(error) or os.path.islink(full_path):
                yield skipped(path, error)
            if is_missing(error):
                yield None
            return
        if stat.S_ISDIR(status.st_mode):
            self.folders.append(path)
            yield None  # a file may have been there before
            yield from walk_archive(self._root, self._index, self._rules, path)
        elif stat.S_ISREG(status.st_mode):
            yield FoundFile(path, Fingerprint.of(status))
        else:
            yield Skipped(path, "neither a file nor a folder", False)
            yield None

    def _is_left_out(self, path: bytes) -> bool:
        """Return whether the rules leave out a path, or a folder on the way to it."""
        if self._rules == WalkRules():
            return False
        device = os.stat(self._root).st_dev
        parts = path.split(b"/")
        for length in range(1, len(parts) + 1):
            part = b"/".join(parts[:length])
            if self._is_excluded(part):
                return True
            status = os.lstat(os.path.join(self._root, part))
            if stat.S_ISLNK(status.st_mode) and not self._rules.follow_links:
                return True
            if self._rules.one_file_system and status.st_dev != device:
                return True
        return False

    def _take(self, file: FoundFile, youngest: int) -> None:
        """Count a file; note whether it is to be scanned."""
        report = self._report
        report.found += 1
        known = self._store.find_paths([file.path])[0]
        if known is not None and known[1] == file.fingerprint:
            report.unchanged += 1
        elif self._min_age > 0 and file.fingerprint.mtime_ns > youngest:
            report.postponed += 1
        else:
            self.changed.append(file.path)
