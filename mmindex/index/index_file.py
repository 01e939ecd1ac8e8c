"""An open index file: its identity, its meta values, and the wrapper of every read."""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from mmindex.errors import IndexFormatError, StaleIndexError
from mmindex.index.checksum import DamageError, unseal
from mmindex.index.databases import DATABASES, FILE_ID, FORMAT
from mmindex.index.lmdb import environment
from mmindex.index.lmdb.environment import Environment, LMDBError
from mmindex.index.lmdb.file_length import used_length
from mmindex.index.lmdb.transaction import OvertakenError, Transaction
from mmindex.index.names import is_url_root
from mmindex.index.record import FORMAT_VERSION

_DAMAGE = (LMDBError, struct.error, DamageError)  # what reading a damaged index may end in
_MOST_READINGS = 100  # of what commits overtake each time

Opened = TypeVar("Opened", bound="OpenIndex")
Taken = TypeVar("Taken")
Asked = ParamSpec("Asked")


class CheckedPages(NamedTuple):
    """The pages of an index that a check found sound.

    Attributes
    ----------
    key : tuple of int
        Device and inode of the index.
    transaction : int
        The transaction that sees them.
    """

    key: tuple[int, int]
    transaction: int


def damaged(path: str, error: Exception) -> IndexFormatError:
    """Return the error for an index that is damaged."""
    return IndexFormatError(f"damaged index: {error}; delete it and rebuild", path=path)


def reading(
    read: Callable[Concatenate[Opened, Transaction, Asked], Taken],
) -> Callable[Concatenate[Opened, Asked], Taken]:
    """Give a method a transaction, its second argument, for one call.

    Reports damage as IndexFormatError, and retries a read that a commit overtook. No memory of
    LMDB may leave the method.
    """

    @wraps(read)
    def read_in_transaction(self: Opened, /, *args: Asked.args, **kwargs: Asked.kwargs) -> Taken:
        for _ in range(_MOST_READINGS):
            try:
                shared = self._environment()
                with shared.lock, shared.begin() as raw:
                    txn = Transaction(raw, shared.opened)
                    try:
                        taken = read(self, txn, *args, **kwargs)
                    except Exception:  # any may come of pages that a commit used again
                        shared.check_overtaken(raw)
                        raise
                    shared.check_overtaken(raw)
                    return taken
            except OvertakenError:
                continue
            except IndexFormatError as error:  # `naming` takes as long as a short read
                raise error.at(self.path) from error.__cause__
            except _DAMAGE as error:
                raise damaged(self.path, error) from error
        raise IndexFormatError(
            "the index is written faster than it can be read: its lock file cannot be opened",
            path=self.path,
        )

    return read_in_transaction


def read_identity(txn: Transaction) -> bytes:
    """Return the 16 random bytes that no other index has."""
    return unseal(b"identity", txn.read("meta", b"identity"))


class OpenIndex:
    """An index file, open: its environment, in this process or after a fork, and its meta.

    Parameters and exceptions are those of `Store`.
    """

    def __init__(self, path: str, *, write: bool = False) -> None:
        self.path = os.path.realpath(path)
        self._is_writer = write
        # An inode is given to another file when it is free; a copy of an index has its number, too.
        self._identity: tuple[tuple[int, int], bytes] | None = None
        self._let_go: weakref.finalize[..., OpenIndex] | None = None
        self._shared: Environment | None = None
        self._acquire()

    def _acquire(self) -> Environment:
        shared = environment.acquire(self.path, DATABASES, check_format, write=self._is_writer)
        if self._let_go is not None:
            self._let_go.detach()
        # A store that is dropped without a call of close() releases its map.
        self._let_go = weakref.finalize(self, environment.drop, shared)
        self._let_go.atexit = False
        previous, self._shared = self._shared, shared
        try:
            identity = shared.opened.key, self._read_identity()
            if self._identity not in (None, identity):
                raise StaleIndexError(
                    "another index is in its place: open it again", path=self.path
                )
        except BaseException:
            self.close()
            self._shared = previous  # of the parent: who reads again after a fork hears the same
            raise
        self._identity = identity
        return shared

    @property
    def identity(self) -> bytes:
        """The index that was opened: 16 random bytes, of it alone."""
        assert self._identity is not None
        return self._identity[1]

    def close(self) -> None:
        """Release the index."""
        shared, self._shared = self._shared, None
        if shared is not None and self._let_go is not None and self._let_go.detach():
            environment.release(shared)

    def _environment(self) -> Environment:
        shared = self._shared
        if shared is None:
            raise ValueError("the index is closed")
        if shared.generation != environment.generation:  # this process was forked
            shared = self._acquire()
        return shared

    def note_checked(self, pages: CheckedPages) -> bool:
        """Note that another process found these pages sound; reads leave out their check.

        Returns
        -------
        bool
            Whether they are pages of this index; those of another one are not noted.
        """
        opened = self._environment().opened
        if pages.key != opened.key:
            return False
        opened.checked.update(dict.fromkeys(DATABASES, pages.transaction))
        return True

    @property
    def root(self) -> bytes:
        """The archive's root: a folder's absolute path, or a bucket's URL."""
        return self.resolve_root(self.stored_root)

    def resolve_root(self, stored_root: bytes) -> bytes:
        """Return the archive's root, of what the index has as its root."""
        if is_url_root(stored_root):
            return stored_root
        folder = os.path.dirname(os.fsencode(self.path))
        return os.path.normpath(os.path.join(folder, stored_root))

    @property
    def stored_root(self) -> bytes:
        """The archive's root as the index has it: relative to its folder where it lies inside."""
        return self._get_meta(b"root")

    @property
    def is_inside(self) -> bool:
        """Whether the index was created inside its archive, whose root then is relative to it."""
        return not os.path.isabs(self._get_meta(b"root"))

    @reading
    def ignores_inode(self, txn: Transaction) -> bool:
        """Return whether the archive's files are known without their inodes."""
        from mmindex.index.build_notes import read_options  # of a build alone

        return read_options(txn).ignore_inode

    def used_bytes(self) -> int:
        """Return the length of the pages of the index, without the room after them."""
        shared = self._environment()
        with shared.lock:
            return used_length(shared.env)

    def next_file_id(self) -> int:
        """Return the id that the next new file will get."""
        file_id: int = FILE_ID.unpack(self._get_meta(b"next"))[0]
        return file_id

    @reading
    def _read_identity(self, txn: Transaction) -> bytes:
        return read_identity(txn)

    @reading
    def _get_meta(self, txn: Transaction, key: bytes) -> bytes:
        return unseal(key, txn.read("meta", key))


def check_format(found: bytes | None, path: str, *, accept_older: bool = False) -> None:
    """Raise IndexFormatError unless this is the format that is read here."""
    if found is None or len(found) != FORMAT.size or not found.startswith(b"mmindex"):
        raise IndexFormatError("not an mmindex index", path=path)
    version = FORMAT.unpack(found)[1]
    if version > FORMAT_VERSION or (version < FORMAT_VERSION and not accept_older):
        remedy = "update mmindex" if version > FORMAT_VERSION else "`mmindex build` rebuilds it"
        raise IndexFormatError(
            f"expected index format {FORMAT_VERSION}, found {version}: {remedy}", path=path
        )
