"""A transaction: what is read from the databases and written to them, and their pages checked."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

from mmindex.errors import MMIndexError
from mmindex.index.checksum import DamageError

_VALUES_IN_A_NODE = 128  # short values of a key that never take a page of their own


class OvertakenError(Exception):
    """A read without a lock, whose pages a commit may have overwritten: retry it."""


class Opened(NamedTuple):
    """The part of an environment that a transaction needs.

    Attributes
    ----------
    path : str
        The file.
    key : tuple of int
        Its device and inode.
    databases : dict
        LMDB's handle of each, by name.
    checked : dict
        The transaction in which all pages of a database were checked, by name.
    """

    path: str
    key: tuple[int, int]
    databases: dict[str, Any]
    checked: dict[str, int]


class Transaction:
    """One transaction. Hold its environment's lock while it lasts.

    Values are views of the map, which end with the transaction.
    """

    __slots__ = ("_databases", "_opened", "_txn")

    def __init__(self, txn: Any, opened: Opened) -> None:
        self._txn = txn
        self._opened = opened
        self._databases = opened.databases

    def id(self) -> int:
        """Return the number of the transaction that wrote what is read here."""
        number: int = self._txn.id()
        return number

    def get(self, database: str, key: bytes) -> memoryview | None:
        """Return the value of a key, of several the first one; None where there is none."""
        value: memoryview | None = self._txn.get(key, db=self._databases[database])
        return value

    def get_all(self, database: str, keys: Iterable[bytes]) -> Iterator[memoryview | None]:
        """Yield the values of keys, as `get`."""
        return map(self._txn.get, keys, repeat(None), repeat(self._databases[database]))

    def read(self, database: str, key: bytes) -> bytes:
        """Return a copy of the value of a key, empty where there is none."""
        return bytes(self.get(database, key) or b"")

    def count(self, database: str) -> int:
        """Return how many values a database has."""
        entries: int = self._txn.stat(self._databases[database])["entries"]
        return entries

    def walk_repeated(self, database: str, start: bytes = b"") -> Iterator[bytes]:
        """Yield the keys that have several values, from a key on.

        Raises
        ------
        DamageError
            A page is damaged.
        """
        self.check(database)
        with self._txn.cursor(self._databases[database]) as cursor:
            if start and not cursor.set_range(start):
                return
            for key in cursor.iternext_nodup(values=False):
                if cursor.count() > 1:
                    yield bytes(key)

    def walk(self, database: str, start: bytes = b"") -> Iterator[tuple[bytes, memoryview]]:
        """Yield the pairs from a key on, in the order of keys; of several values the first.

        Raises
        ------
        DamageError
            A page is damaged, or the keys are in no order.
        """
        tree = self._txn.stat(self._databases[database])
        if not (tree["entries"] or tree["depth"] or tree["leaf_pages"]):
            return  # there are no pages to check
        self.check(database)
        last: bytes | None = None
        with self._txn.cursor(self._databases[database]) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found:
                key = bytes(cursor.key())
                if key < start or (last is not None and key <= last):
                    raise DamageError("keys are in no order")
                yield key, cursor.value()
                last = key
                found = cursor.next_nodup()

    def sum_hashes(self, database: str) -> int:
        """Return the sum of the hashes of all pairs (key, value); raises as `walk`."""
        self.check(database)
        with self._txn.cursor(self._databases[database]) as cursor:
            return sum(map(hash, cursor.iternext()))

    def count_keys(self, database: str) -> int:
        """Return how many keys a database has; raises as `walk`."""
        self.check(database)
        with self._txn.cursor(self._databases[database]) as cursor:
            return sum(1 for _ in cursor.iternext_nodup(values=False))

    def walk_values(self, database: str, key: bytes, start: bytes = b"") -> Iterator[memoryview]:
        """Yield the values of a key from one on, in their order."""
        with self._txn.cursor(self._databases[database]) as cursor:
            if not cursor.set_key(key):
                return
            if start or cursor.count() > _VALUES_IN_A_NODE:
                self.check(database)
            if not start or cursor.set_range_dup(key, start):
                yield from cursor.iternext_dup()

    def get_only(self, database: str, key: bytes) -> bytes | None:
        """Return a copy of the value of a key that has one; None where it has none or several."""
        with self._txn.cursor(self._databases[database]) as cursor:
            if not cursor.set_key(key) or cursor.count() != 1:
                return None
            return bytes(cursor.value())

    def has(self, database: str, key: bytes, value: bytes) -> bool:
        """Return whether a key has a value among others."""
        with self._txn.cursor(self._databases[database]) as cursor:
            found: bool = cursor.set_key_dup(key, value)
            return found

    def put(self, database: str, key: bytes, value: bytes) -> None:
        """Write a pair; of a database whose keys have one value, in place of the one there."""
        self._txn.put(key, value, db=self._databases[database])

    def put_all(self, database: str, pairs: Iterable[tuple[bytes, bytes]], *, last: bool) -> None:
        """Write new pairs, which is fastest in the order of keys.

        Parameters
        ----------
        last : bool
            Whether their keys come after all that are there.

        Raises
        ------
        DamageError
            One of them is there already.
        """
        in_order = sorted(pairs)
        with self._txn.cursor(self._databases[database]) as cursor:
            _, added = cursor.putmulti(in_order, append=last)
        if added != len(in_order):
            raise DamageError(f"{database!r} has {len(in_order) - added} of the new pairs already")

    def delete(self, database: str, key: bytes, value: bytes = b"") -> None:
        """Delete a key, or one of its values, if it is there."""
        self._txn.delete(key, value, db=self._databases[database])

    def delete_from(self, database: str, prefix: bytes) -> None:
        """Delete all keys that begin with these bytes."""
        with self._txn.cursor(self._databases[database]) as cursor:
            while cursor.set_range(prefix) and bytes(cursor.key()).startswith(prefix):
                cursor.delete()

    def empty(self, database: str) -> None:
        """Delete all pairs of a database."""
        self._txn.drop(self._databases[database], delete=False)

    def check(self, *databases: str) -> None:
        """Check the pages of databases, once a commit.

        Raises
        ------
        DamageError
            A walk of the database would end the process.
        """
        path, key, _, checked = self._opened
        transaction = self.id()
        unchecked = [name for name in databases if checked.get(name) != transaction]
        if not unchecked:
            return
        from mmindex.index.lmdb.page_check import check_pages  # a single look-up needs none

        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) == key:
                check_pages(path, transaction, *unchecked)
        except FileNotFoundError:
            pass  # what is open can be read on, but not be looked at
        except OSError as error:
            raise MMIndexError(f"cannot read the index: {error.strerror}", path=path) from error
        except (ValueError, struct.error) as error:
            raise DamageError(str(error)) from error
        checked.update(dict.fromkeys(unchecked, transaction))
