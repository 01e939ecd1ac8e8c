"""A new LMDB file, or one that is a copy of another: whole at its path, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import lmdb

from mmindex.errors import IndexWriteError
from mmindex.index.lmdb.beside import (
    create_alone,
    explain,
    permissions_in,
    remove_lock_file,
)
from mmindex.index.lmdb.environment import Environment
from mmindex.index.lmdb.file_length import extend
from mmindex.index.lmdb.locks import alone_in
from mmindex.index.lmdb.opening import open_largest

_COPIED = 10_000  # pairs a transaction


def create(
    path: str,
    databases: Mapping[str, bool],
    meta: Mapping[bytes, bytes],
    own: Callable[[int], Mapping[bytes, bytes]],
) -> None:
    """Create an LMDB file with these databases, and these pairs in the one named "meta".

    `own` takes the file's inode, and returns more pairs.

    The file has another name while it is written, so that there is a whole one at `path` or none.

    Raises
    ------
    IndexWriteError
    """
    folder = os.path.dirname(path)
    unfinished = f"{path}.new-{os.getpid()}"
    try:
        create_alone(unfinished, permissions_in(folder))
        try:
            env = open_largest(unfinished, lock=False)
            try:
                with env.begin(write=True) as txn:
                    for name, several in databases.items():
                        env.open_db(name.encode(), txn=txn, dupsort=several, dupfixed=several)
                    for key, value in {**meta, **own(os.stat(unfinished).st_ino)}.items():
                        txn.put(key, value, db=env.open_db(b"meta", txn=txn))
                extend(env, unfinished)
            finally:
                env.close()
            with alone_in(folder):
                if not os.path.lexists(path):  # another build may have created it meanwhile
                    # A process that has a deleted index open keeps this file's old contents.
                    remove_lock_file(path)
                    os.link(unfinished, path)
        finally:
            with suppress(FileNotFoundError):
                os.remove(unfinished)
    except lmdb.Error as error:
        raise IndexWriteError(f"cannot create the index: {error}", path=path) from error
    except OSError as error:
        raise IndexWriteError(f"cannot create the index: {explain(error)}", path=path) from error


def copy(
    source: Environment,
    path: str,
    databases: Mapping[str, bool],
    own: Callable[[int], Mapping[bytes, bytes]],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write all that an environment holds to a new LMDB file. Hold its lock.

    py-lmdb's own compacting copy ends the process (3.0.0, where a key has many values).

    Parameters
    ----------
    databases : mapping
        Their names, and whether their keys have sorted duplicates.
    own : callable
        Takes the new file's inode; returns what is in the database "meta" in place of values there.
    progress : callable, optional
        Called after each batch with the number of pairs copied and of all pairs.
    """
    create_alone(path, os.stat(source.opened.path).st_mode & 0o666)
    changed = own(os.stat(path).st_ino)
    env = open_largest(path, lock=False)
    try:
        copied = 0
        with source.begin() as read:
            total = sum(read.stat(source.opened.databases[name])["entries"] for name in databases)
            for name, several in databases.items():
                target = env.open_db(name.encode(), dupsort=several, dupfixed=several)
                database = source.opened.databases[name]
                others = changed if name == "meta" else {}
                for pairs in _copy_database(read, database, env, target, several, others):
                    copied += pairs
                    if progress is not None:
                        progress(copied, total)
        extend(env, path)
        env.sync(True)  # the file may take another one's place
    finally:
        env.close()


def _copy_database(
    read: Any, database: Any, env: Any, target: Any, several: bool, changed: Mapping[bytes, bytes]
) -> Iterator[int]:
    """Copy the pairs of a database, some with other values; yield how many are in each batch."""
    with read.cursor(database) as cursor:
        pairs = iter(cursor)
        if changed:
            pairs = ((key, changed.get(key, value)) for key, value in cursor)
        while batch := list(islice(pairs, _COPIED)):
            with env.begin(write=True) as txn, txn.cursor(target) as cursor_to:
                # Where keys have many values, py-lmdb 2.1 appends only one of them.
                _, added = cursor_to.putmulti(batch, append=not several)
            if added != len(batch):
                raise lmdb.Error(f"{added} of {len(batch)} pairs were copied")
            yield added
