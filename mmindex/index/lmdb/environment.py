"""The LMDB environments of this process: one a file, shared by the stores that have it open.

py-lmdb allows one environment a file and process, and none across a fork (its locks belong to
the process). Stores of one file share an environment here, and a forked child opens its own.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lmdb

from mmindex.errors import IndexFormatError, IndexWriteError, MMIndexError
from mmindex.index.lmdb import locks
from mmindex.index.lmdb.file_length import ROOM, extend, extending, used_length
from mmindex.index.lmdb.opening import (
    MAX_READERS,
    FormatCheck,
    check_lmdb_file,
    missing,
    open_databases,
    open_to_read,
    open_to_write,
    out_of_space,
    remove_blank,
    round_up,
)
from mmindex.index.lmdb.transaction import Opened, OvertakenError, Transaction
from mmindex.model import WRITING

LMDBError = lmdb.Error

generation = 0  # counts the forks that led to this process
_environments: dict[tuple[int, int], Environment] = {}
_dropped: deque[Environment] = deque()  # by stores that were never closed


class Environment:
    """An open LMDB file, its databases, and how many stores use it.

    Every transaction holds `lock`: the file can neither be closed nor the process be forked under
    it, which py-lmdb would answer with a crash or wait for without end.
    """

    def __init__(
        self,
        env: Any,
        opened: Opened,
        generation: int,
        locked: bool,
        map_size: int,
        largest_map: int,
    ) -> None:
        self.env = env
        self.opened = opened
        self.generation = generation  # of the process that opened it
        self.locked = locked  # whether writers leave alone what its transactions read
        self.map_size = map_size
        self.largest_map = largest_map  # with which a writer opened it; 0 of a reader
        self.users = 0
        self.lock = threading.RLock()
        self.closed = False
        self.sound: set[str] = set()  # databases that a writer need not check
        self._last_id = -1  # of the transaction whose pages are known to be within the map

    def begin(self, *, write: bool = False) -> Any:
        """Begin a transaction of LMDB, for a `with` statement. Hold `lock`.

        Raises
        ------
        ValueError
            The index is closed.
        MMIndexError
            LMDB has no place for another reader, or no address space.
        """
        if self.closed:
            raise ValueError("the index is closed")
        try:
            txn = self.env.begin(write=write, buffers=True)
        except lmdb.MapResizedError:
            self._enlarge_map()
            txn = self.env.begin(write=write, buffers=True)
        except (lmdb.LockError, lmdb.ReadersFullError) as error:
            raise self._busy(error, write) from error
        if not write and txn.id() != self._last_id:
            if used_length(self.env) + ROOM > self.map_size:
                txn.abort()
                self._enlarge_map()
                txn = self.env.begin(buffers=True)
            self._last_id = txn.id()
        return txn

    def write(
        self,
        change: Callable[[Transaction], object],
        created: Mapping[str, bool] | None = None,
        *,
        is_note: bool = False,
    ) -> None:
        """Commit what a change writes, or nothing where the change raises an exception.

        The file then is as long as its meta page claims.

        Parameters
        ----------
        created : mapping, optional
            Databases that are created before, where they are not there; as in `acquire`.
        is_note : bool
            Whether the change is a small one, which may be called twice, and be undone where the
            system fails: what was committed before is on the disk then.
        """
        with self.lock:
            self.env.reader_check()  # a reader that was killed would keep pages from being reused
            if is_note and self._write_within_file(change):
                return
            self._resize_map(self.largest_map)
            with extending(self.env, self.opened.path):
                if created is not None:
                    self.open_databases(created, create=True)
                with self.begin(write=True) as raw:
                    change(Transaction(raw, self.opened))

    def _write_within_file(self, change: Callable[[Transaction], object]) -> bool:
        """Commit a change that takes no page beyond the file; return whether there was room for it.

        LMDB takes none beyond its map, so no reader finds the file shorter than the meta page
        claims.
        """
        path = self.opened.path
        if os.path.lexists(path + WRITING):  # of a commit that was killed
            return False
        extend(self.env, path)
        self._resize_map(os.path.getsize(path))
        try:
            with self.begin(write=True) as raw:
                change(Transaction(raw, self.opened))
        except lmdb.MapFullError:
            return False
        extend(self.env, path)
        return True

    def check_overtaken(self, txn: Any) -> None:
        """Raise OvertakenError where pages that a transaction read may have been overwritten.

        A commit frees pages that were read, and the one after the next may use them. Where there
        is the lock file, writers leave such pages alone.
        """
        if not self.locked and self.env.info()["last_txnid"] > txn.id() + 1:
            raise OvertakenError

    def _enlarge_map(self) -> None:
        """Map what the file has grown to; without the address space, close the environment."""
        self._resize_map(max(self.map_size, round_up(2 * (used_length(self.env) + ROOM))))

    def _resize_map(self, size: int) -> None:
        """Map so many bytes; without the address space, close the environment."""
        if size == self.map_size:
            return
        try:
            self.env.set_mapsize(size)
        except lmdb.Error as error:
            _forget(self)
            raise out_of_space(self.opened.path, error) from error
        self.map_size, self._last_id = size, -1

    def _busy(self, error: lmdb.Error, write: bool) -> MMIndexError:
        if isinstance(error, lmdb.ReadersFullError):
            text = f"{MAX_READERS} programs read the index: try again when some have ended"
        else:
            text = (
                "another program of this process id has the index open, as in two containers "
                "that share the folder: run them with one process namespace, or give the reading "
                f"one the folder read-only ({error})"
            )
        kind = IndexWriteError if write else MMIndexError
        return kind(text, path=self.opened.path)

    def open_databases(self, databases: Mapping[str, bool], *, create: bool = False) -> None:
        """Open the databases that are not open yet. Hold `lock`; no transaction may be open."""
        handles = self.opened.databases
        for name, several in databases.items():
            if name not in handles:
                handles[name] = self.env.open_db(
                    name.encode(), create=create, dupsort=several, dupfixed=several
                )

    def open_to_write(self, status: os.stat_result) -> None:
        """Open the file again, to write to it: readers go on with that. Hold `lock`.

        Parameters
        ----------
        status : os.stat_result
            The file.

        Raises
        ------
        MissingFileError, IndexWriteError
            The file was deleted or replaced; as `opening.open_to_write`.
        """
        if self.closed:
            raise ValueError("the index is closed")
        path, handles = self.opened.path, self.opened.databases
        self.env.close()
        try:
            self.env, self.locked, self.map_size = open_to_write(path)
            self.largest_map = self.map_size
            if not os.path.samestat(os.stat(path), status):
                raise IndexWriteError("another index is in its place: try again", path=path)
            for name in handles:
                handles[name] = self.env.open_db(name.encode(), create=False)
        except BaseException:
            _forget(self)
            if remove_blank(path, status.st_size):
                raise missing(path) from None
            raise


def acquire(
    path: str, databases: Mapping[str, bool], check_format: FormatCheck, *, write: bool
) -> Environment:
    """Return the environment of an LMDB file, opened if no store of this process has it open.

    Parameters
    ----------
    path : str
        The file, absolute.
    databases : mapping
        Names of the databases, and whether their keys have sorted duplicates.
    check_format : callable
        Given what "meta" has as "format" and the path; raises IndexFormatError.
    write : bool
        Whether the file has to be writable.

    Raises
    ------
    MissingFileError, IndexFormatError, IndexWriteError
    """
    with locks.process:
        _release_dropped()
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise missing(path) from None
        key = status.st_dev, status.st_ino
        shared = _environments.get(key)
        if shared is None:
            check_lmdb_file(path, status)
            env, locked, map_size = open_to_write(path) if write else open_to_read(path, status)
            try:
                handles = open_databases(env, path, databases, check_format)
            except BaseException:
                env.close()
                if remove_blank(path, status.st_size):
                    raise missing(path) from None
                raise
            opened = Opened(path, key, handles, {})
            largest = map_size if write else 0
            shared = Environment(env, opened, generation, locked, map_size, largest)
            _environments[key] = shared
        else:
            with shared.lock:
                if write and not shared.largest_map:
                    shared.open_to_write(status)
                try:
                    shared.open_databases(databases)
                except lmdb.Error as error:
                    raise IndexFormatError(f"not an mmindex index: {error}", path=path) from error
        shared.users += 1
        return shared


def release(shared: Environment) -> None:
    """Release an environment; the last release closes it."""
    with locks.process:
        _release(shared)
        _release_dropped()


def drop(shared: Environment) -> None:
    """Release an environment when the next one is opened or closed.

    A finalizer calls this, at any time and in any thread: no lock is taken here.
    """
    _dropped.append(shared)


@contextmanager
def exclusively(path: str) -> Iterator[None]:
    """Hold an index file that no store of this process and no other process has open.

    Raises
    ------
    IndexWriteError
        Somebody has it open.
    """
    with locks.process:
        _release_dropped()
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in _environments:
            raise locks.in_use(path)  # to close its lock file would end all locks of this process
        with locks.exclusively(path):
            yield


def _release(shared: Environment) -> None:
    if shared.generation != generation:
        return
    shared.users -= 1
    if not shared.users:
        with shared.lock:
            _forget(shared)


def _release_dropped() -> None:
    while _dropped:
        _release(_dropped.popleft())


def _forget(shared: Environment) -> None:
    """Close an environment; stores that still use it open the file again."""
    _environments.pop(shared.opened.key, None)
    shared.generation = -1
    shared.closed = True
    shared.env.close()


# Before and after a fork. A signal's exception can keep a hook from running: each is registered
# twice, and does nothing where it has run.


def _before_fork() -> None:
    """Wait until no transaction is under way, and let none begin."""
    locks.hold_for_fork(lambda: [shared.lock for shared in _environments.values()])


def _after_fork_in_child() -> None:
    """Close the parent's environments; the parent keeps them, since no transaction is under way."""
    global generation
    generation += 1
    for shared in _environments.values():
        shared.closed = True
        shared.env.close()
        shared.lock = threading.RLock()
    _environments.clear()
    _dropped.clear()
    locks.renew_in_child()


for _ in range(2):
    os.register_at_fork(before=_before_fork, after_in_parent=locks.release_after_fork)
os.register_at_fork(after_in_child=_after_fork_in_child)
