"""Opens an LMDB file: with its lock file where that is safe, with a map that fits.

A map takes address space, and neither disk nor memory. A reader's is as large as the file needs, a
writer's as large as the system allows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import lmdb

from mmindex.errors import IndexFormatError, IndexWriteError, MissingFileError, MMIndexError
from mmindex.index.lmdb import locks
from mmindex.index.lmdb.beside import read_length_before_writing
from mmindex.index.lmdb.file_length import ROOM, used_length
from mmindex.index.names import begins_like_lmdb
from mmindex.model import LOCK

# Address space, not disk: the file grows as it is written. The smaller ones are for `ulimit -v`.
MAP_SIZES = (1 << 40, 1 << 36, 1 << 32, 1 << 30, 1 << 28)
_LEAST_MAP = 1 << 20
MAX_READERS = 1024
# Without the lock file no writer knows of a reader.
_MODES: tuple[dict[str, bool], ...] = ({"readonly": True}, {"readonly": True, "lock": False})
_NOT_LMDB = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError)

FormatCheck = Callable[[bytes | None, str], None]


def open_largest(path: str, **mode: bool) -> Any:
    """Open an LMDB file with the largest map that the system allows."""
    permissions = os.stat(path).st_mode & 0o666
    for size in MAP_SIZES:
        try:
            return _open_in(path, size, permissions, mode)
        except (lmdb.Error, MemoryError) as error:
            if not _is_out_of_space(error) or size == MAP_SIZES[-1]:
                raise
    raise AssertionError


def _open_in(path: str, map_size: int, permissions: int, mode: Mapping[str, bool]) -> Any:
    return lmdb.open(
        path,
        subdir=False,
        map_size=map_size,
        max_dbs=16,
        max_readers=MAX_READERS,
        readahead=False,
        mode=permissions,  # of the lock file
        **mode,
    )


def open_to_write(path: str) -> tuple[Any, bool, int]:
    """Return what `open_to_read` does, always with the lock file, and with a large map."""
    if not locks.wait_for_lmdb(path):
        raise IndexWriteError(
            f"another program has held the lock file for {locks.LONGEST_WAIT:.0f} seconds: end it",
            path=path + LOCK,
        )
    try:
        env = open_largest(path, metasync=False)
    except _NOT_LMDB as error:
        raise IndexFormatError(f"not an mmindex index: {error}", path=path) from error
    except (lmdb.Error, MemoryError) as error:
        raise IndexWriteError(f"cannot write the index: {error}", path=path) from error
    return env, True, env.info()["map_size"]


def open_to_read(path: str, status: os.stat_result) -> tuple[Any, bool, int]:
    """Return a file's environment, whether it has the lock file, and the size of its map."""
    least = status.st_size + ROOM
    problem: Exception | None = None
    for mode in _MODES:
        locked = mode.get("lock", True)
        if locked and not locks.wait_for_lmdb(path, status):
            continue
        for size in (round_up(2 * least), least):
            try:
                return _open_in(path, size, status.st_mode & 0o666, mode), locked, size
            except _NOT_LMDB as error:
                raise IndexFormatError(f"not an mmindex index: {error}", path=path) from error
            except (lmdb.Error, MemoryError) as error:
                problem = error
                if not _is_out_of_space(error):
                    break
    assert problem is not None
    if _is_out_of_space(problem):
        raise out_of_space(path, problem) from problem
    if not os.path.exists(path):
        raise missing(path) from problem
    raise MMIndexError(f"cannot open the index: {problem}", path=path) from problem


def missing(path: str) -> MissingFileError:
    """Return the error where there is no index."""
    return MissingFileError("there is no such index; `mmindex build` creates one", path=path)


def remove_blank(path: str, length: int) -> bool:
    """Remove the file that LMDB creates where an index is deleted while it is being opened.

    An index gets its name when it is whole: a file without any transaction is none, and a build
    would take it for something else.

    Parameters
    ----------
    length : int
        Length of the index before it was opened, in bytes.

    Returns
    -------
    bool
        Whether there was such a file.
    """
    with suppress(OSError, lmdb.Error, IndexWriteError):
        if os.path.getsize(path) >= length:  # most damaged indexes
            return False
        with locks.alone_in(os.path.dirname(path)):
            with lmdb.open(path, subdir=False, readonly=True, lock=False) as env:
                is_blank = env.info()["last_txnid"] == 0
            if is_blank:
                os.remove(path)
            return is_blank
    return False


def _is_out_of_space(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def out_of_space(path: str, error: Exception) -> MMIndexError:
    """Return the error where the system gives no address space for a map."""
    return MMIndexError(
        f"cannot map the index: out of address space (see `ulimit -v`): {error}", path=path
    )


def round_up(size: int) -> int:
    """Return a size of a map for a file that may grow, in bytes."""
    return max(_LEAST_MAP, -(-size // _LEAST_MAP) * _LEAST_MAP)


def check_lmdb_file(path: str, status: os.stat_result) -> None:
    """Raise IndexFormatError for a file that does not begin like LMDB's, before LMDB sees it."""
    if not stat.S_ISREG(status.st_mode):
        raise IndexFormatError("not an mmindex index: no regular file", path=path)
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            head = os.read(number, 28)
        finally:
            os.close(number)
    except OSError as error:
        raise IndexFormatError(f"cannot read the index: {error.strerror}", path=path) from error
    if not begins_like_lmdb(head):
        raise IndexFormatError("not an mmindex index", path=path)


def open_databases(
    env: Any, path: str, databases: Mapping[str, bool], check_format: FormatCheck
) -> dict[str, Any]:
    """Return the databases of a file that is as long as it says it is, and of our format."""
    try:
        needed = used_length(env)
        size = os.path.getsize(path)
        if size < needed and size < read_length_before_writing(path, needed):
            raise IndexFormatError(
                f"damaged index: expected {needed} bytes, found {size}; delete it and rebuild",
                path=path,
            )
        meta = env.open_db(b"meta", create=False)
        with env.begin(db=meta) as txn:
            check_format(txn.get(b"format"), path)
        return {
            name: env.open_db(name.encode(), create=False, dupsort=several, dupfixed=several)
            for name, several in databases.items()
        }
    except lmdb.Error as error:
        raise IndexFormatError(f"not an mmindex index: {error}", path=path) from error
