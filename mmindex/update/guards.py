"""Guards against mistakes that would empty an index: a lost mount, a wrong or too large root."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from mmindex.errors import IndexWriteError, MissingFileError
from mmindex.index.names import is_url_root
from mmindex.index.store import Store
from mmindex.index.trust import is_own
from mmindex.model import INDEX_NAME, is_url
from mmindex.sources.base import Root
from mmindex.update.moves import check_move


class RemovalRefusedError(IndexWriteError):
    """More files are gone than a mistake should cost; all else was done."""


_FEW = 100  # files that may go without a question, unless the root is empty
_MOUNTS = "/proc/self/mounts"
_NO_FILES = (b"proc", b"sysfs")  # file systems in which the kernel shows itself
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")  # of blanks, tabs, line breaks and backslashes
_PER_CENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%")


def find_root(root: str | os.PathLike[str], *, one_file_system: bool) -> bytes:
    """Return the path of an archive's folder, absolute.

    Raises
    ------
    MissingFileError
        There is no such folder, or the root is an empty text.
    IndexWriteError
        Folders below it show the running system, such as /proc, and no files.
    """
    if not os.fspath(root):
        raise MissingFileError("the root is an empty text: expected an archive's folder")
    path = os.path.join(os.getcwdb(), os.fsencode(root))
    if not os.path.isdir(path):
        raise MissingFileError("there is no such folder", path=os.fsdecode(path))
    if not one_file_system and (shown := _find_system_folder(os.path.realpath(path))):
        raise IndexWriteError(
            f"{shown} in it shows the running system and has no files to index: name the archive's "
            "own folder, or skip other file systems with --one-file-system (one_file_system=True)",
            path=os.fsdecode(path),
        )
    return path


def find_index(root: bytes, index: str | os.PathLike[str] | None) -> str:
    """Return the path of an archive's index, without symbolic links.

    Raises
    ------
    IndexWriteError
        A link of another user leads to where no file is: to create the index there is that user's
        wish.
    ValueError
        The root is a URL, and no index is given, or one at a URL.
    """
    if is_url_root(root) and index is None:
        raise ValueError("the root is a URL: name the index, a local file: --index PATH (index=)")
    if is_url(index):
        raise ValueError(f"the index is written to a local file, found the URL {index!r}")
    path = os.path.join(os.fsdecode(root), INDEX_NAME) if index is None else os.fspath(index)
    if os.path.islink(path) and not os.path.exists(path) and not is_own(os.lstat(path)):
        raise IndexWriteError(
            "a symbolic link of another user is in the index's place: remove it", path=path
        )
    return os.path.realpath(path)


def _find_system_folder(root: bytes) -> str | None:
    """Return where /proc or its like is mounted at or below a folder; None where it is not."""
    below = os.path.join(root, b"")
    with suppress(OSError), open(_MOUNTS, "rb") as mounts:  # where there is none: no Linux
        for line in mounts:
            _, place, kind, *_ = line.split(b" ")
            if kind not in _NO_FILES:
                continue
            place = _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), place)
            if place == root or place.startswith(below):
                return os.fsdecode(place)
    return None


def parse_limit(max_removed: int | str | None) -> int | float | None:
    """Return how many files may go: a number of files, or as a float their share of all files.

    Raises
    ------
    ValueError
        It is neither a number of files, nor a percentage such as "20%".
    """
    if max_removed is None:
        return None
    text = str(max_removed)
    if text.isdecimal():
        return int(text)
    found = _PER_CENT.fullmatch(text)
    if found is None or float(found[1]) > 100:
        raise ValueError(f"expected a number of files or a percentage such as 20%, found {text!r}")
    return float(found[1]) / 100


def find_refusal(
    root: Root, index: str, gone: int, known: int, max_removed: int | str | None
) -> RemovalRefusedError | None:
    """Return the error to raise in the end where more files are gone than a mistake should cost.

    Parameters
    ----------
    root : Root
        The archive.
    index : str
        Its index.
    gone, known : int
        Files that are to be dropped, and files of the index before.
    max_removed : int or str, optional
        How many may go, or which percentage; unless given, any number up to 100, more only up to
        half of all, and none where the root is empty.
    """
    if not gone:
        return None
    limit = parse_limit(max_removed)
    if limit is None:
        if root.is_empty(index):
            what = "the root is empty"
        elif gone > _FEW and 2 * gone > known:
            what = "over half of the files are gone"
        else:
            return None
    else:
        most = limit * known if isinstance(limit, float) else limit
        if gone <= most:
            return None
        what = f"expected at most {max_removed} to be gone"
    return RemovalRefusedError(
        f"{what}, found {gone} of {known} files missing in {root.name}: nothing was "
        "dropped. Is it mounted? To drop them all the same: --max-removed 100% "
        '(max_removed="100%")',
        path=index,
    )


@contextmanager
def open_to_build(
    index: str, root: bytes, moved_from: str | os.PathLike[str] | None = None
) -> Iterator[Store]:
    """Open the index of the archive at `root` to write it. Hold `only_writer`.

    Parameters
    ----------
    moved_from : path, optional
        Where the archive was before; see `build`.

    Raises
    ------
    IndexFormatError, IndexWriteError
        The index is damaged; it cannot be written, or belongs to another archive.
    """
    with closing(Store(index, write=True)) as store:
        if moved_from is not None:
            check_move(store, root, moved_from)
        elif not _is_same_root(store.root, root):
            known = os.fsdecode(store.root)
            raise IndexWriteError(
                f"expected an index of {os.fsdecode(root)}, found one of {known}: name another "
                f"index or, if that archive was moved, build with --moved-from "
                f"{shlex.quote(known)} (moved_from=...)",
                path=index,
            )
        yield store


def _is_same_root(one: bytes, other: bytes) -> bool:
    if one == other or is_url_root(one) or is_url_root(other):
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)
