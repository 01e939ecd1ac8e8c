"""The walk of an archive: every file once, as it is met, and what could not be looked at.

Paths are bytes, since file names need not be text, and relative to the root. Symbolic links are
followed; a folder that was walked already, by whatever path, is not walked again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from mmindex.model import Fingerprint


class FoundFile(NamedTuple):
    """A regular file and its fingerprint."""

    path: bytes
    fingerprint: Fingerprint


class Skipped(NamedTuple):
    """Something that is no readable folder or regular file, and why it was left out."""

    path: bytes
    reason: str
    is_folder: bool


def walk_archive(root: bytes, index: bytes) -> Iterator[FoundFile | Skipped]:
    """Yield the files under `root` but for those of the index, as the folders list them."""
    own_files = (index, index + b"-lock")
    unfinished = index + b".new-"
    prefix = len(os.path.join(root, b""))
    walked: set[tuple[int, int]] = set()
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in walked:
                if folder != root:
                    yield Skipped(folder[prefix:], "folder walked already: a link to it", False)
                continue
            walked.add((status.st_dev, status.st_ino))
            entries = os.scandir(folder)
        except OSError as error:
            yield Skipped(folder[prefix:], f"cannot read the folder: {error.strerror}", True)
            continue
        with entries:
            for entry in entries:
                path = entry.path
                try:
                    if entry.is_dir():
                        folders.append(path)
                        continue
                    found = entry.stat()
                except OSError as error:
                    yield Skipped(path[prefix:], f"cannot look at it: {error.strerror}", False)
                    continue
                if not stat.S_ISREG(found.st_mode):
                    yield Skipped(path[prefix:], "neither a file nor a folder", False)
                elif path not in own_files and not path.startswith(unfinished):
                    yield FoundFile(
                        path[prefix:],
                        Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino),
                    )
