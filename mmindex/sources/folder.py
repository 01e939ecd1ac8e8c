"""An archive in a folder: its walk, every file once, and its files, opened by path.

Paths are bytes, since file names need not be text, and relative to the root. Symbolic links are
followed unless the rules say otherwise; a folder that was walked already, by whatever path, is not
walked again.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from functools import lru_cache

from mmindex.errors import is_missing
from mmindex.model import INDEX_NAME, LOCK, WRITING, Fingerprint, VersionKind
from mmindex.sources.base import FoundFile, Root, Skipped, WalkRules
from mmindex.sources.file import FileSource, open_descriptor

_INDEX_NAME = os.fsencode(INDEX_NAME)


class Folder(Root):
    """An archive in a folder of a local file system.

    Parameters
    ----------
    root : bytes
        The folder.
    ignore_inode : bool
        Whether files may have other inodes than their versions say: they do in an archive that
        was moved or is mounted anew.
    revalidate_after : float
        Seconds after which a read looks at its file anew.
    """

    __slots__ = ("_ignore_inode", "_revalidate_after", "_root", "name")

    def __init__(
        self, root: bytes, *, ignore_inode: bool = False, revalidate_after: float = 1.0
    ) -> None:
        self.name = os.fsdecode(root)
        self._root = root
        self._ignore_inode = ignore_inode
        self._revalidate_after = revalidate_after

    def walk(
        self, start: bytes = b"", rules: WalkRules | None = None, index: bytes | None = None
    ) -> Iterator[FoundFile | Skipped]:
        """Yield the files under the folder; see `Root.walk` and `walk_archive`."""
        default = os.path.join(self._root, os.fsencode(INDEX_NAME))
        return walk_archive(self._root, index or default, rules or _ALL, start)

    def find(self, path: bytes) -> FoundFile | None:
        """Return the file at `path` as it is now; see `Root.find`. A link leads to its file."""
        try:
            found = os.stat(os.path.join(self._root, path))
        except (OSError, ValueError):  # of a NUL character
            return None
        return FoundFile(path, Fingerprint.of(found)) if stat.S_ISREG(found.st_mode) else None

    def has(self, path: bytes) -> bool:
        """Return whether something is at `path`: a file, a folder, a link that leads nowhere."""
        return os.path.lexists(os.path.join(self._root, path))

    def is_empty(self, index: str) -> bool:
        """Return whether the folder is gone, or has no entry but its index."""
        is_own = match_index_files(os.fsencode(index))(os.path.realpath(self._root))
        try:
            with os.scandir(self._root) as entries:
                return all(is_own(entry.name) for entry in entries)
        except OSError:
            return True

    def open(self, path: bytes, version: Fingerprint | None = None) -> FileSource:
        """Return the file at `path`, open; see `Root.open`."""
        full_path = os.fsdecode(os.path.join(self._root, path))
        descriptor = open_descriptor(full_path)
        if version is None:
            version = Fingerprint.of(os.stat(descriptor.number))
        elif self._ignore_inode and version.kind == VersionKind.LOCAL:
            version = version._replace(inode=os.stat(descriptor.number).st_ino)
        return FileSource(descriptor, full_path, version, self._revalidate_after)


_ALL = WalkRules()


def walk_archive(
    root: bytes, index: bytes, rules: WalkRules = _ALL, start: bytes = b""
) -> Iterator[FoundFile | Skipped]:
    """Yield the files under `root`, as the folders list them, but for those of indexes.

    Folders are walked before links to folders, so that a folder has its own path.

    Parameters
    ----------
    root : bytes
        The archive's folder.
    index : bytes
        The index file, which is left out with the files beside it.
    rules : WalkRules
        What else is left out.
    start : bytes
        A folder in the archive, relative to `root`: only files below it are yielded.
    """
    index_folder, index_name = os.path.split(os.path.realpath(index))
    place_of_index, is_of_index = identify_folder(index_folder), _match_names(index_name)
    is_excluded = match_excluded(rules.exclude) if rules.exclude else None
    prefix, new, follow_links = len(os.path.join(root, b"")), tuple.__new__, rules.follow_links
    device = os.stat(root).st_dev if rules.one_file_system else None
    walked: set[tuple[int, int]] = set()
    first = os.path.join(root, start) if start else root
    is_link = bool(start) and os.path.islink(first)
    folders, links = ([], [first]) if is_link else ([first], [])
    while folders or links:
        is_link = not folders
        folder = folders.pop() if folders else links.pop()
        try:
            status = os.stat(folder)
            if device not in (None, status.st_dev):
                continue
            place = status.st_dev, status.st_ino
            if place in walked or (start and is_link and _is_inside(root, folder, is_excluded)):
                yield Skipped(folder[prefix:], "a link to a folder that was walked already", False)
                continue
            walked.add(place)
            has_index = place == place_of_index
            with os.scandir(folder) as entries:
                for entry in entries:
                    name, path = entry.name, entry.path[prefix:]
                    if name.startswith(_INDEX_NAME) and match_index_name(name):
                        continue
                    if (has_index and is_of_index(name)) or (is_excluded and is_excluded(path)):
                        continue
                    try:
                        if not follow_links and entry.is_symlink():
                            continue
                        if entry.is_dir():
                            (links if entry.is_symlink() else folders).append(entry.path)
                            continue
                        found = entry.stat()
                    except OSError as error:
                        if not _is_gone(entry.path, error):
                            yield skipped(path, error)
                        continue
                    if not stat.S_ISREG(found.st_mode):
                        yield Skipped(path, "neither a file nor a folder", False)
                    else:
                        yield new(FoundFile, (path, Fingerprint.of(found)))
        except OSError as error:
            if folder == root or not _is_gone(folder, error):
                yield skipped(folder[prefix:], error, "cannot read the folder")


def _is_inside(root: bytes, link: bytes, is_excluded: Callable[[bytes], object] | None) -> bool:
    """Return whether a link leads to a folder of the archive, which a walk of all meets first."""
    real_root, target = os.path.realpath(root), os.path.realpath(link)
    if target == real_root:
        return True
    if not target.startswith(os.path.join(real_root, b"")):
        return False
    parts = os.path.relpath(target, real_root).split(b"/")
    return is_excluded is None or not any(
        is_excluded(b"/".join(parts[: length + 1])) for length in range(len(parts))
    )


def _is_gone(path: bytes, error: OSError) -> bool:
    """Return whether what a folder listed was removed since; a link that leads nowhere is there."""
    return is_missing(error) and not os.path.islink(path)


def match_excluded(globs: tuple[str, ...]) -> Callable[[bytes], object]:
    """Return what reports whether a file or folder, by its path in the archive, is excluded."""
    if not globs:
        return lambda path: None
    by_path, by_name = (
        re.compile(
            b"|".join(_translate(glob) for glob in globs if ("/" in glob) is slash) or rb"(?!)"
        )
        for slash in (True, False)
    )
    return lambda path: by_path.match(path) or by_name.match(os.path.basename(path))


def _translate(glob: str) -> bytes:
    """Return a glob as a regular expression of bytes; a slash at its ends has no meaning."""
    import fnmatch  # a frame is read without

    text = os.fsencode(glob.strip("/")).decode("latin-1")
    return fnmatch.translate(text).encode("latin-1")


def match_index_files(index: bytes) -> Callable[[bytes], Callable[[bytes], object]]:
    """Return what takes a folder, and gives what reports names of index files in this folder."""
    index_folder, name = os.path.split(os.path.realpath(index))
    is_of_index = _match_index(name)
    return lambda folder: is_of_index if folder == index_folder else match_index_name


def _match_index(name: bytes) -> Callable[[bytes], object]:
    """Return what reports names of index files in the folder of an index of this name."""
    own = _match_names(name)
    return lambda found: match_index_name(found) or own(found)


def identify_folder(folder: bytes) -> tuple[int, int] | None:
    """Return device and inode of a folder; None where there is none."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@lru_cache(maxsize=16)
def _match_names(name: bytes) -> Callable[[bytes], object]:
    """Return what tells the names of an index and of the files that are made beside it."""
    lock, writing = re.escape(LOCK.encode()), re.escape(WRITING.encode())
    unfinished = rb"\.new-[0-9]+(" + lock + rb")?"
    beside = rb"|".join((lock, writing, unfinished))
    return re.compile(re.escape(name) + rb"(" + beside + rb")?").fullmatch


def match_index_name(found: bytes) -> object:
    """Report names of indexes and of the files beside them, in whatever folder or bucket."""
    return found.startswith(_INDEX_NAME) and _match_names(_INDEX_NAME)(found)


def skipped(path: bytes, error: OSError, what: str = "cannot access it") -> Skipped:
    """Return what an error of the system left out."""
    return Skipped(path, f"{what}: {error.strerror}", not is_missing(error))
