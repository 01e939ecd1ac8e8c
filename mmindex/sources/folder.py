"""The walk of an archive: every file once, as it is met, and what could not be looked at.

Paths are bytes, since file names need not be text, and relative to the root. Symbolic links are
followed; a folder that was walked already, by whatever path, is not walked again.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mmindex.errors import is_missing
from mmindex.model import INDEX_NAME, LOCK, WRITING, Fingerprint


class FoundFile(NamedTuple):
    """A regular file and its fingerprint."""

    path: bytes
    fingerprint: Fingerprint


class Skipped(NamedTuple):
    """Something that is no readable folder or regular file, and why it was left out.

    `may_hide` says whether files may be at or under its path though they were not met.
    """

    path: bytes
    reason: str
    may_hide: bool


def walk_archive(root: bytes, index: bytes) -> Iterator[FoundFile | Skipped]:
    """Yield the files under `root`, as the folders list them, but for those of indexes.

    Folders are walked before links to folders, so that a folder has its own path.
    """
    index_folder, name = os.path.split(os.path.realpath(index))
    own = _match_index_files(name)
    others = _match_index_files(os.fsencode(INDEX_NAME))
    prefix = len(os.path.join(root, b""))
    walked: set[tuple[int, int]] = set()
    folders = [root]
    links: list[bytes] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in walked:
                yield Skipped(folder[prefix:], "a link to a folder that was walked already", False)
                continue
            walked.add((status.st_dev, status.st_ino))
            has_index = os.path.realpath(folder) == index_folder
            with os.scandir(folder) as entries:
                for entry in entries:
                    if others(entry.name) or (has_index and own(entry.name)):
                        continue
                    try:
                        if entry.is_dir():
                            (links if entry.is_symlink() else folders).append(entry.path)
                            continue
                        found = entry.stat()
                    except OSError as error:
                        yield _skipped(entry.path[prefix:], error)
                        continue
                    if not stat.S_ISREG(found.st_mode):
                        yield Skipped(entry.path[prefix:], "neither a file nor a folder", False)
                    else:
                        yield FoundFile(entry.path[prefix:], Fingerprint.of(found))
        except OSError as error:
            yield _skipped(folder[prefix:], error, "cannot read the folder")


def _match_index_files(name: bytes) -> Callable[[bytes], object]:
    """Return what tells the names of an index and of the files that are made beside it."""
    lock, writing = re.escape(LOCK.encode()), re.escape(WRITING.encode())
    unfinished = rb"\.new-[0-9]+(" + lock + rb")?"
    beside = rb"|".join((lock, writing, unfinished))
    return re.compile(re.escape(name) + rb"(" + beside + rb")?").fullmatch


def _skipped(path: bytes, error: OSError, what: str = "cannot look at it") -> Skipped:
    return Skipped(path, f"{what}: {error.strerror}", not is_missing(error))
