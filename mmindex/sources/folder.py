"""An archive in a folder: its walk, every file once, and its files, opened by path.

Paths are bytes, since file names need not be text, and relative to the root. Symbolic links are
followed; a folder that was walked already, by whatever path, is not walked again.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator

from mmindex.errors import is_missing
from mmindex.model import INDEX_NAME, LOCK, WRITING, Fingerprint
from mmindex.sources.base import FoundFile, Root, Skipped
from mmindex.sources.file import FileSource, open_descriptor


class Folder(Root):
    """An archive in a folder of a local file system.

    Parameters
    ----------
    root : bytes
        The folder.
    index : bytes, optional
        The index of the archive, which the walk leaves out with the files beside it.
    ignore_inode : bool
        Whether files may have other inodes than their versions say: they do in an archive that
        was moved or is mounted anew.
    revalidate_after : float
        Seconds after which a read looks at its file anew.
    """

    __slots__ = ("_ignore_inode", "_index", "_revalidate_after", "_root", "name")

    def __init__(
        self,
        root: bytes,
        index: bytes | None = None,
        *,
        ignore_inode: bool = False,
        revalidate_after: float = 1.0,
    ) -> None:
        self.name = os.fsdecode(root)
        self._root = root
        self._index = index
        self._ignore_inode = ignore_inode
        self._revalidate_after = revalidate_after

    def walk(self) -> Iterator[FoundFile | Skipped]:
        """Yield the files under the folder; see `Root.walk` and `walk_archive`."""
        default = os.path.join(self._root, os.fsencode(INDEX_NAME))
        return walk_archive(self._root, self._index or default)

    def full_path(self, path: bytes) -> str:
        """Return where the file at `path`, relative to the folder, is."""
        return os.fsdecode(os.path.join(self._root, path))

    def open(self, path: bytes, version: Fingerprint | None = None) -> FileSource:
        """Return the file at `path`, open; see `Root.open`."""
        full_path = self.full_path(path)
        descriptor = open_descriptor(full_path)
        found = Fingerprint.of(os.stat(descriptor.number))
        if version is None:
            version = found
        elif self._ignore_inode:
            version = version._replace(inode=found.inode)
        return FileSource(descriptor, full_path, version, self._revalidate_after)


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
