"""Creates an index, and empties one of an older format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from mmindex.errors import IndexFormatError, IndexWriteError
from mmindex.index.build_notes import note_of_file
from mmindex.index.checksum import DamageError, seal, unseal
from mmindex.index.counters import Counters
from mmindex.index.databases import DATABASES, FILE_ID, FORMAT, OLDEST
from mmindex.index.index_file import check_format
from mmindex.index.lmdb import environment
from mmindex.index.lmdb.environment import Environment, LMDBError
from mmindex.index.lmdb.new_file import create
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.names import is_url_root
from mmindex.index.record import FORMAT_VERSION

_FIRST_SEALED = 3  # format whose values of meta have checksums
_OUR_FORMAT = FORMAT.pack(b"mmindex", FORMAT_VERSION)


def create_index(path: str, root: bytes) -> None:
    """Create an empty index of the archive at `root`, unless there is a file at `path`.

    Raises
    ------
    IndexWriteError
    """
    if os.path.exists(path):
        return
    path = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(path)):
        raise IndexWriteError("cannot create the index: there is no such folder", path=path)
    meta = _make_meta(portable_root(path, root), FILE_ID.pack(1))
    create(path, DATABASES, {b"format": _OUR_FORMAT, **meta}, note_of_file)


def _make_meta(root: bytes, next_id: bytes) -> dict[bytes, bytes]:
    """Return what an index has beside its format."""
    meta = {
        b"root": root,
        b"next": next_id,
        b"identity": os.urandom(16),
        b"counters": Counters().pack(),
    }
    return {key: seal(key, value) for key, value in meta.items()}


@contextmanager
def older_emptied(path: str) -> Iterator[None]:
    """Empty an index of an older format, in which the next build finds nothing known.

    The file stays open inside, so that a store of it opens at once.

    Raises
    ------
    IndexFormatError, IndexWriteError
        It is of a newer format, or none; it cannot be written.
    """
    accept_older = partial(check_format, accept_older=True)
    shared = environment.acquire(path, OLDEST, accept_older, write=True)
    try:
        _empty_older(shared)
        yield
    finally:
        environment.release(shared)


def _empty_older(shared: Environment) -> None:
    path = shared.opened.path
    try:
        with shared.lock:
            with shared.begin() as raw:
                if Transaction(raw, shared.opened).read("meta", b"format") == _OUR_FORMAT:
                    return
            shared.write(_empty, created=DATABASES)
    except DamageError as error:
        raise IndexFormatError(f"damaged index: {error}; delete it", path=path) from error
    except (LMDBError, OSError) as error:
        raise IndexWriteError(f"cannot write the index: {error}", path=path) from error


def _empty(txn: Transaction) -> None:
    """Drop all that an index of an older format holds, but its root and its next file id."""
    version = FORMAT.unpack(txn.read("meta", b"format"))[1]
    root, next_id = (txn.read("meta", key) for key in (b"root", b"next"))
    if version >= _FIRST_SEALED:
        root, next_id = unseal(b"root", root), unseal(b"next", next_id)
    for name in DATABASES:
        if name != "meta":
            txn.empty(name)
    for pair in _make_meta(root, next_id).items():
        txn.put("meta", *pair)
    txn.put("meta", b"format", _OUR_FORMAT)


def portable_root(index: str, root: bytes) -> bytes:
    """Return the root relative to the index's folder where the index lies inside, else absolute.

    A bucket's URL stays what it is.
    """
    if is_url_root(root):
        return root
    folder = os.path.realpath(os.path.dirname(os.fsencode(index)))
    root = os.path.realpath(root)
    if os.path.commonpath([folder, root]) == root:
        return os.path.relpath(root, folder)
    return root
