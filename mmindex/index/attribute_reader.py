"""Reads the attributes of studies and series from an index."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from mmindex.index.databases import AttributesKind, uid_key
from mmindex.index.index_file import OpenIndex, reading
from mmindex.index.lmdb.transaction import Transaction

if TYPE_CHECKING:
    from mmindex.attributes import AttributeSet
    from mmindex.index.attributes import KeptValues

_BATCH = 4096  # UIDs a transaction


class AttributeReader(OpenIndex):
    """The part of `Reader` that reads attributes; most readings of an index need none."""

    @reading
    def read_attribute_set(self, txn: Transaction) -> AttributeSet | None:
        """Return which attributes the index keeps; None where it keeps none."""
        from mmindex.index.attributes import read_set

        return read_set(txn)

    @reading
    def read_attributes(
        self, txn: Transaction, kind: AttributesKind, uid: str
    ) -> KeptValues | None:
        """Return the attributes of a study or series; None where they are not known."""
        from mmindex.index.attributes import read_values

        return read_values(txn, kind, uid_key(uid))

    def iterate_without_attributes(self, kind: AttributesKind) -> Iterator[str]:
        """Yield the UIDs of the studies or series whose attributes are not known."""
        start: bytes | None = b""
        while start is not None:
            start, found = self._find_without(kind, start)
            yield from found

    @reading
    def _find_without(
        self, txn: Transaction, kind: AttributesKind, start: bytes
    ) -> tuple[bytes | None, list[str]]:
        """Return where to go on, None at the end, and what was found from `start` on."""
        from mmindex.index.attributes import is_current

        keys = [key for key, _ in islice(txn.walk(kind, start), _BATCH)]
        found = [key.decode("latin-1") for key in keys if not is_current(txn, kind, key)]
        return (keys[-1] + b"\0" if len(keys) == _BATCH else None), found
