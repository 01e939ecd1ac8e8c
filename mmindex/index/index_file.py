"""An index file that is open: which one it is, and what it says of itself."""

from __future__ import annotations

import os
import struct
from typing import Any

from mmindex.errors import IndexFormatError, StaleIndexError
from mmindex.index.checksum import DamageError, unseal
from mmindex.index.create import check_format, create_index
from mmindex.index.databases import DATABASES, FILE_ID
from mmindex.index.lmdb import environment
from mmindex.index.lmdb.environment import Environment, Transaction
from mmindex.index.lmdb.page_check import check_pages
from mmindex.index.reading import reading
from mmindex.model import INDEX_NAME


def find_index_file(path: str | os.PathLike[str]) -> str:
    """Return the index file that a path stands for: a folder stands for the one in it."""
    return os.path.join(path, INDEX_NAME) if os.path.isdir(path) else os.fspath(path)


class OpenIndex:
    """An index file, open: its environment, in this process or after a fork, and its meta.

    Parameters and exceptions are those of `Store`.
    """

    def __init__(self, path: str, *, root: bytes | None = None) -> None:
        self.path = os.path.realpath(path)
        self._write = root is not None
        self._checked: dict[str, int] = {}  # databases, and in which transaction
        if root is not None:
            create_index(self.path, root)
        # An inode is given to another file when it is free; a copy of an index has its number, too.
        self._identity: tuple[tuple[int, int], bytes] | None = None
        self._shared: Environment | None = self._acquire()

    def _acquire(self) -> Environment:
        shared = environment.acquire(self.path, DATABASES, check_format, write=self._write)
        try:
            identity = shared.key, self._get_meta(shared, b"identity")
            if self._identity not in (None, identity):
                raise StaleIndexError("another index is in its place: open it anew", path=self.path)
        except BaseException:
            environment.release(shared)
            raise
        self._identity = identity
        return shared

    def close(self) -> None:
        """Let go of the index."""
        shared, self._shared = self._shared, None
        if shared is not None:
            environment.release(shared)

    def _environment(self) -> Environment:
        shared = self._shared
        if shared is None:
            raise ValueError("the index is closed")
        if shared.generation != environment.generation:  # this process was forked
            shared = self._shared = self._acquire()
            self._checked = {}
        return shared

    def _read(self, database: str, *, buffers: bool = False) -> Transaction:
        return Transaction(self._environment(), database, buffers=buffers)

    @property
    def root(self) -> bytes:
        """The archive's root, absolute."""
        folder = os.path.dirname(os.fsencode(self.path))
        return os.path.normpath(os.path.join(folder, self._get_meta(self._environment(), b"root")))

    def used_bytes(self) -> int:
        """Return the length of the pages of the index, without the room after them."""
        shared = self._environment()
        with shared.lock:
            return environment.used_length(shared.env)

    def next_file_id(self) -> int:
        """Return the id that the next new file will get."""
        file_id: int = FILE_ID.unpack(self._get_meta(self._environment(), b"next"))[0]
        return file_id

    @reading
    def _get_meta(self, shared: Environment, key: bytes) -> bytes:
        with Transaction(shared, "meta") as txn:
            sealed: bytes = txn.get(key, b"")
            return unseal(key, sealed)

    def _check_pages(self, txn: Any, database: str) -> None:
        """Raise DamageError where to go through a database would end the process."""
        transaction = txn.id()
        if self._checked.get(database) == transaction:
            return
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._environment().key:
                check_pages(self.path, transaction, database)
        except FileNotFoundError:
            pass  # what is open can be read on, but not be looked at
        except OSError as error:
            raise IndexFormatError(
                f"cannot read the index: {error.strerror}", path=self.path
            ) from error
        except (ValueError, struct.error) as error:
            raise DamageError(str(error)) from error
        self._checked[database] = transaction
