"""The LMDB environments of this process; the only importer of lmdb.

py-lmdb allows one environment a file and process, and none across a fork (its locks belong to
the process). Stores of one file share an environment here, and a forked child opens its own.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import lmdb

from mmindex.errors import IndexFormatError, IndexWriteError, MissingFileError
from mmindex.model import LOCK, WRITING

LMDBError = lmdb.Error


class OvertakenError(Exception):
    """What was read without a lock may have been overwritten meanwhile: read it again."""


# Address space, not disk: the file grows as it is written. The smaller ones are for `ulimit -v`.
_MAP_SIZES = (1 << 40, 1 << 36, 1 << 32, 1 << 30)
_MAX_READERS = 1024
_COPIED = 10_000  # pairs a transaction
# What is beyond the last page, and takes no space on the disk: as far as the two numbers of 16 bits
# lead that LMDB follows in a page before it looks. Beyond the end of a file is SIGBUS.
_ROOM = 1 << 17
_MAGIC = struct.pack("=I", 0xBEEF_C0DE)  # in the first page of every LMDB file
# A reader opens the file as a writer would, where it may, so that a build in the same process can
# share its environment. Without the lock file, as on a read-only disk, no writer knows of it.
_MODES: tuple[dict[str, bool], ...] = (
    {"readonly": False},
    {"readonly": True},
    {"readonly": True, "lock": False},
)


@dataclass(slots=True)
class Environment:
    """An open LMDB file, its databases, and how many stores use it.

    Every transaction holds `lock`: the file can neither be closed nor the process be forked under
    it, which py-lmdb would answer with a crash or wait for without end.
    """

    env: Any
    databases: dict[str, Any]
    generation: int  # of the process that opened it
    key: tuple[int, int]  # device and inode
    locked: bool  # whether writers leave alone what its transactions read
    users: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    closed: bool = False


class Transaction:
    """One transaction, to be entered, and the right to have it while it lasts.

    Parameters
    ----------
    shared : Environment
        Where.
    database : str, optional
        What is read; without it the transaction writes, and is committed unless left by an error.
    buffers : bool
        Whether values are views of the map, which end with the transaction.
    """

    __slots__ = ("_options", "_shared", "_txn")

    def __init__(
        self, shared: Environment, database: str | None = None, *, buffers: bool = False
    ) -> None:
        self._shared = shared
        self._options: dict[str, Any] = {"write": True}
        if database is not None:
            self._options = {"db": shared.databases[database], "buffers": buffers}

    def __enter__(self) -> Any:
        shared = self._shared
        shared.lock.acquire()
        try:
            if shared.closed:
                raise ValueError("the index is closed")
            self._txn = shared.env.begin(**self._options)
            return self._txn.__enter__()
        except BaseException:
            shared.lock.release()
            raise

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        shared = self._shared
        try:
            # A commit frees pages that were read, and the one after the next may use them. Any
            # error may come of such pages; Ctrl-C and exit do not.
            may_be_damage = kind is None or issubclass(kind, Exception)
            unguarded = may_be_damage and not shared.locked
            if unguarded and shared.env.info()["last_txnid"] > self._txn.id() + 1:
                raise OvertakenError
        finally:
            try:
                self._txn.__exit__(kind, *rest)
            finally:
                shared.lock.release()


generation = 0  # counts the forks that led to this process
_environments: dict[tuple[int, int], Environment] = {}
_lock = threading.RLock()


def _before_fork() -> None:
    """Wait until no transaction is under way, and let none begin."""
    _lock.acquire()
    for shared in _environments.values():
        shared.lock.acquire()


def _after_fork_in_parent() -> None:
    for shared in _environments.values():
        shared.lock.release()
    _lock.release()


def _after_fork_in_child() -> None:
    """Close the parent's environments, which does it no harm as long as nobody is in one."""
    global generation, _lock
    generation += 1
    for shared in _environments.values():
        shared.closed = True
        shared.env.close()
        shared.lock = threading.RLock()
    _environments.clear()
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


def acquire(
    path: str,
    databases: dict[str, bool],
    check_format: Callable[[bytes | None, str], None],
    *,
    write: bool,
) -> Environment:
    """Return the environment of an LMDB file, opened if no store of this process has it open.

    Parameters
    ----------
    path : str
        The file, absolute.
    databases : dict
        Names of the databases, and whether their keys have sorted duplicates.
    check_format : callable
        Given what "meta" has as "format" and the path; raises IndexFormatError.
    write : bool
        Whether it has to be writable.

    Raises
    ------
    MissingFileError, IndexFormatError, IndexWriteError
    """
    with _lock:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise MissingFileError(
                "there is no such index; `mmindex build` makes one", path=path
            ) from None
        key = status.st_dev, status.st_ino
        shared = _environments.get(key)
        if shared is None:
            _check_lmdb_file(path)
            env, locked = _open(path, _MODES[:1] if write else _MODES)
            try:
                opened = _open_databases(env, path, databases, check_format)
            except BaseException:
                env.close()
                raise
            shared = _environments[key] = Environment(env, opened, generation, key, locked)
        shared.users += 1
        return shared


def release(shared: Environment) -> None:
    """Let go of an environment; the last one to do so closes it."""
    with _lock:
        if shared.generation != generation:
            return
        shared.users -= 1
        if not shared.users:
            del _environments[shared.key]
            with shared.lock:
                shared.closed = True
                shared.env.close()


@contextmanager
def exclusively(path: str) -> Iterator[None]:
    """Hold an index file that no store of this process and no other process has open.

    LMDB's users each hold a shared lock on the first byte of its lock file, and wait for it.

    Raises
    ------
    IndexWriteError
        Somebody has it open.
    """
    import fcntl

    with _lock:
        status = os.stat(path)
        in_use = IndexWriteError(
            "programs have the index open: try again when they have closed it", path=path
        )
        if (status.st_dev, status.st_ino) in _environments:
            raise in_use  # to open and close its lock file would end all locks of this process
        with open(path + LOCK, "ab") as lock_file:
            try:
                fcntl.lockf(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            except OSError:
                raise in_use from None
            yield


def used_length(env: Any) -> int:
    """Return the length that the file of an environment has to have, in bytes."""
    length: int = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    return length


@contextmanager
def lengthening(shared: Environment, path: str) -> Iterator[None]:
    """Let a transaction be committed, and give the file the length that it then says it has.

    LMDB leaves pages at the end unwritten that were freed in the transaction that took them. A
    file beside the index says meanwhile how long it was before.
    """
    writing = path + WRITING
    with open(writing, "w", encoding="ascii") as file:
        file.write(str(os.path.getsize(path)))  # it gets no shorter
    try:
        yield
        with shared.lock:
            _lengthen(shared.env, path)
    finally:
        os.remove(writing)


def _lengthen(env: Any, path: str) -> None:
    needed = used_length(env) + _ROOM
    if os.path.getsize(path) < needed:
        os.truncate(path, needed)


def create(path: str, databases: dict[str, bool], meta: dict[bytes, bytes]) -> None:
    """Make a new LMDB file with these databases, and these pairs in the one named "meta".

    It is made under another name first, so that there is a whole one at `path` or none.

    Raises
    ------
    IndexWriteError
    """
    unfinished = f"{path}.new-{os.getpid()}"
    try:
        env, _ = _open(unfinished, _MODES[:1])
        try:
            with env.begin(write=True) as txn:
                for name, duplicates in databases.items():
                    env.open_db(name.encode(), txn=txn, dupsort=duplicates, dupfixed=duplicates)
                for key, value in meta.items():
                    txn.put(key, value, db=env.open_db(b"meta", txn=txn))
            _lengthen(env, unfinished)
        finally:
            env.close()
        with _alone_in(os.path.dirname(path)):
            if not os.path.lexists(path):  # another build may have made it meanwhile
                # Who still has an index open that was deleted keeps this file's old contents.
                with suppress(FileNotFoundError):
                    os.remove(path + LOCK)
                os.link(unfinished, path)
    except (lmdb.Error, OSError) as error:
        raise IndexWriteError(f"cannot make the index: {error}", path=path) from error
    finally:
        for leftover in (unfinished, unfinished + LOCK):
            with suppress(FileNotFoundError):
                os.remove(leftover)


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Wait for other processes that do this in the same folder."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:  # to close it is not enough where a process was forked meanwhile
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def copy(source: Any, opened: dict[str, Any], path: str, databases: dict[str, bool]) -> None:
    """Write all that a transaction reads, whose values are views, to a new LMDB file.

    py-lmdb's own compacting copy ends the process (3.0.0, where a key has many values).

    Parameters
    ----------
    opened : dict
        The databases that are read.
    databases : dict
        Their names, and whether their keys have sorted duplicates.
    """
    env, _ = _open(path, _MODES[:1])
    try:
        for name, duplicates in databases.items():
            target = env.open_db(name.encode(), dupsort=duplicates, dupfixed=duplicates)
            with source.cursor(opened[name]) as cursor:
                pairs = iter(cursor)
                while batch := list(islice(pairs, _COPIED)):
                    with env.begin(write=True) as txn, txn.cursor(target) as cursor_to:
                        # Where keys have many values, py-lmdb 2.1 appends only one of them.
                        _, added = cursor_to.putmulti(batch, append=not duplicates)
                    if added != len(batch):
                        raise lmdb.Error(f"{added} of {len(batch)} pairs of {name!r} were copied")
        _lengthen(env, path)
    finally:
        env.close()
        with suppress(FileNotFoundError):
            os.remove(path + LOCK)


def _open(path: str, modes: tuple[dict[str, bool], ...]) -> tuple[Any, bool]:
    """Open an LMDB file in the first mode and with the largest map that the system allows.

    Returns
    -------
    tuple
        The environment, and whether it has the lock file.
    """
    problem: Exception | None = None
    for mode in modes:
        for map_size in _MAP_SIZES:
            try:
                env = lmdb.open(
                    path,
                    subdir=False,
                    map_size=map_size,
                    max_dbs=16,
                    max_readers=_MAX_READERS,
                    readahead=False,
                    **mode,
                )
                return env, mode.get("lock", True)
            except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
                raise IndexFormatError(f"not an mmindex index: {error}", path=path) from error
            except (lmdb.Error, MemoryError) as error:
                problem = error
                if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
                    break
    if len(modes) == 1:
        raise IndexWriteError(f"cannot write the index: {problem}", path=path) from problem
    raise IndexFormatError(f"cannot open the index: {problem}", path=path) from problem


def _length_before_writing(path: str, otherwise: int) -> int:
    """Return the length that an index had before a commit that is under way, or was killed."""
    try:
        with open(path + WRITING, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return otherwise


def _check_lmdb_file(path: str) -> None:
    """Raise IndexFormatError for a file that does not begin like LMDB's, before LMDB sees it."""
    if not os.path.isfile(path):
        raise IndexFormatError("not an mmindex index: no regular file", path=path)
    try:
        with open(path, "rb") as file:
            head = file.read(28)
    except OSError as error:
        raise IndexFormatError(f"cannot read the index: {error.strerror}", path=path) from error
    if _MAGIC not in (head[16:20], head[24:28]):
        raise IndexFormatError("not an mmindex index", path=path)


def _open_databases(
    env: Any,
    path: str,
    databases: dict[str, bool],
    check_format: Callable[[bytes | None, str], None],
) -> dict[str, Any]:
    """Return the databases of a file that is as long as it says it is, and of our format."""
    try:
        needed = used_length(env)
        size = os.path.getsize(path)
        if size < needed and size < _length_before_writing(path, needed):
            raise IndexFormatError(
                f"damaged index: expected {needed} bytes, found {size}; delete it and build anew",
                path=path,
            )
        meta = env.open_db(b"meta", create=False)
        with env.begin(db=meta) as txn:
            check_format(txn.get(b"format"), path)
        return {
            name: env.open_db(name.encode(), create=False, dupsort=duplicates, dupfixed=duplicates)
            for name, duplicates in databases.items()
        }
    except lmdb.Error as error:
        raise IndexFormatError(f"not an mmindex index: {error}", path=path) from error
