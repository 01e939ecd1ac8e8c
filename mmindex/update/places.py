"""Finds the paths that an update is given in an archive, and the files there."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from mmindex.errors import IndexWriteError, is_missing
from mmindex.model import Fingerprint
from mmindex.sources.base import FoundFile, Skipped, WalkRules
from mmindex.sources.folder import (
    match_excluded,
    match_index_files,
    skipped,
    walk_archive,
)
from mmindex.sources.stores import has_query, name_url
from mmindex.update.archive_root import ArchiveRoot, BucketRoot

_NO_NAMES = (b"..", b".")
_ODD_PARTS = {b"", *_NO_NAMES}


class Below(NamedTuple):
    """A folder that was met: what the index knows below it may be gone."""

    path: bytes


Found = FoundFile | Skipped | Below | None  # None: no file is there, or none that counts


class Places(ABC):
    """Paths that an update is given."""

    @abstractmethod
    def locate(self, path: bytes) -> bytes:
        """Return the path in the archive that a walk of it gives the file, empty for the root.

        Raises
        ------
        IndexWriteError
            The path is outside the root.
        """

    @abstractmethod
    def walk(self, paths: Iterable[bytes]) -> Iterator[tuple[bytes, Found]]:
        """Yield each path, and the file there or, one by one, those below it."""

    @abstractmethod
    def is_file(self, path: bytes) -> bool:
        """Return whether a file is at a path."""


def find_places(archive: ArchiveRoot, index: str) -> Places:
    """Return the paths of an archive whose index is at `index`."""
    if isinstance(archive, BucketRoot):
        return BucketPlaces(archive)
    return FolderPlaces(archive.path, index, archive.rules)


class BucketPlaces(Places):
    """Keys of objects, relative to a URL, or URLs below it.

    Parameters
    ----------
    archive : BucketRoot
        The archive.
    """

    def __init__(self, archive: BucketRoot) -> None:
        self._archive = archive
        self._is_left_out = archive.match_left_out()
        self._has_folders = archive.bucket.has_listing

    def locate(self, path: bytes) -> bytes:
        """Return a key, relative to the root; see `Places.locate`."""
        root = self._archive.path
        found: bytes | None = path.strip(b"/")
        shown = os.fsdecode(path)
        if b"://" in path:
            is_signed, shown = has_query(shown), name_url(shown)
            found = None if is_signed else _below(root, os.fsencode(shown).rstrip(b"/"))
            if found and not self._has_folders:  # of URLs of web servers alone, keys are quoted
                found = None if b"%2f" in found.lower() else unquote_to_bytes(found)
        try:
            if found is None or (found and not _ODD_PARTS.isdisjoint(found.split(b"/"))):
                raise ValueError("one outside")
            found.decode()
        except ValueError as error:
            raise IndexWriteError(
                f"expected a key below {root.decode()}, in UTF-8 and without empty parts, "
                f"found {error}",
                path=shown,
            ) from None
        return found

    def walk(self, paths: Iterable[bytes]) -> Iterator[tuple[bytes, Found]]:
        """Yield objects; see `Places.walk`. Many are asked for at once."""
        waiting = iter(paths)
        with ThreadPoolExecutor(self._archive.threads) as threads:
            while batch := list(islice(waiting, 4 * self._archive.threads)):
                for path, file in zip(batch, threads.map(self._find, batch), strict=True):
                    if file is not None:
                        yield path, file
                    else:
                        yield from ((path, found) for found in self._walk_below(path))

    def _find(self, path: bytes) -> FoundFile | None:
        if not path or self._is_left_out(path):
            return None
        return self._archive.bucket.find(path)

    def _walk_below(self, path: bytes) -> Iterator[Found]:
        yield None
        if not self._has_folders or (path and self._is_left_out(path)):
            return
        is_first = True
        for found in self._archive.files.walk(path, self._archive.rules):
            if is_first:
                yield Below(path)
            is_first = False
            yield found

    def is_file(self, path: bytes) -> bool:
        """Return whether an object is at a path."""
        return self._archive.files.has(path)


class FolderPlaces(Places):
    """Turns the paths of files into their paths in an archive.

    Parameters
    ----------
    root : bytes
        The archive's folder, absolute.
    index : str
        Its index.
    rules : WalkRules
        What a walk leaves out; whether a path may lead through a link to a folder outside.
    """

    def __init__(self, root: bytes, index: str, rules: WalkRules) -> None:
        self._given_root = root
        self._root = os.path.normpath(root)
        self._real_root = os.path.realpath(root)
        self._index = os.fsencode(index)
        self._rules = rules
        self._is_excluded = match_excluded(rules.exclude)
        self._is_index_in = match_index_files(self._index)

    def locate(self, path: bytes) -> bytes:
        """Return the path in the archive; see `Places.locate`."""
        path = os.path.join(os.getcwdb(), path)
        folder, name = os.path.split(path.rstrip(b"/") or b"/")
        if name in _NO_NAMES:
            folder, name = os.path.realpath(path), b""
        real = os.path.join(os.path.realpath(folder), name).rstrip(b"/")
        found = _below(self._real_root, real)  # by its own folder, as the walk meets it first
        if found is None and self._rules.follow_links:
            found = _below(self._root, os.path.normpath(path))
        if found is None:
            raise IndexWriteError(
                f"expected a path in the archive {os.fsdecode(self._root)}, found one outside",
                path=os.fsdecode(path),
            )
        return found

    def walk(self, paths: Iterable[bytes]) -> Iterator[tuple[bytes, Found]]:
        """Yield files; see `Places.walk`."""
        for path in paths:
            for found in self._walk(path):
                yield path, found

    def is_file(self, path: bytes) -> bool:
        """Return whether a regular file is at a path."""
        return os.path.isfile(os.path.join(self._given_root, path))

    def _walk(self, path: bytes) -> Iterator[Found]:
        """Yield the file at a path, or those below; None where nothing is, or nothing counts."""
        full_path = os.path.join(self._given_root, path)
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
            yield Below(path)
            yield None  # a file may have been there before
            yield from walk_archive(self._given_root, self._index, self._rules, path)
        elif stat.S_ISREG(status.st_mode):
            yield FoundFile(path, Fingerprint.of(status))
        else:
            yield Skipped(path, "neither a file nor a folder", False)
            yield None

    def _is_left_out(self, path: bytes) -> bool:
        """Return whether the rules leave out a path, or a folder on the way to it."""
        if self._rules == WalkRules():
            return False
        device = os.stat(self._given_root).st_dev
        parts = path.split(b"/")
        for length in range(1, len(parts) + 1):
            part = b"/".join(parts[:length])
            if self._is_excluded(part):
                return True
            status = os.lstat(os.path.join(self._given_root, part))
            if stat.S_ISLNK(status.st_mode) and not self._rules.follow_links:
                return True
            if self._rules.one_file_system and status.st_dev != device:
                return True
        return False


def _below(root: bytes, path: bytes) -> bytes | None:
    """Return a path relative to a root, empty for the root itself; None where it is outside."""
    if path == root:
        return b""
    prefix = os.path.join(root, b"")
    return path[len(prefix) :] if path.startswith(prefix) else None
