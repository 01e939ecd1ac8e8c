"""Attributes of studies and series in an index: this docstring is the format.

`meta` has "attributes" where any are kept: JSON with a keyword and its tag, of 8 hex digits, by
level: `{"studies":{"PatientName":"00100010"},"series":{}}`. In `attributes`, a study and a series
have one value each, little-endian:

    offset  size  type   field
    0       8     i8     modification time in ns of the file that the values are of
    8       4     u4     length of its path
    12            path   relative to the archive's root; of a member of a container, the path of
                         this, a zero byte and the member's name
                  utf-8  values in the DICOM JSON model (PS3.18 annex F), to the end

Of several files, the values are those of the file that changed last; of files that changed at the
same time, of the one whose path is last in the order of bytes. A study or series has no value while
it is not known which file this is: when this file was removed, until another header is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from mmindex.attributes import AttributeSet
from mmindex.index.carried_values import CarriedValues
from mmindex.index.checksum import DamageError, seal, unseal
from mmindex.index.databases import (
    MAX_UID_LENGTH,
    PATH_VALUE,
    AttributesKind,
    attributes_key,
    path_key,
)
from mmindex.index.lmdb.transaction import Transaction

if TYPE_CHECKING:
    from mmindex.index.record import RecordKeys

META_KEY = b"attributes"
_HEAD = struct.Struct("<qI")  # time, length of the path

Place = tuple[AttributesKind, bytes]  # a study or series and its UID


class KeptValues(NamedTuple):
    """Values of a study or series, and the file that they are of."""

    time_ns: int
    path: bytes
    values: bytes

    @property
    def place(self) -> tuple[int, bytes]:
        """The rank of the file: of two, the values of the one with the greater place count."""
        return self.time_ns, self.path

    def pack(self) -> bytes:
        """Return the values as the database has them."""
        return _HEAD.pack(self.time_ns, len(self.path)) + self.path + self.values

    @classmethod
    def unpack(cls, packed: bytes) -> KeptValues:
        """Return the values that were packed.

        Raises
        ------
        DamageError
            The bytes are no such values.
        """
        if len(packed) < _HEAD.size:
            raise DamageError(f"expected attributes, found {len(packed)} bytes")
        time_ns, length = _HEAD.unpack_from(packed)
        start = _HEAD.size + length
        if start > len(packed):
            raise DamageError("the path of a file with attributes runs past their end")
        return cls(time_ns, packed[_HEAD.size : start], packed[start:])


def read_set(txn: Transaction) -> AttributeSet | None:
    """Return which attributes the index keeps; None where it keeps none."""
    sealed = txn.read("meta", META_KEY)
    if not sealed:
        return None
    try:
        return AttributeSet.unpack(unseal(META_KEY, sealed))
    except ValueError as error:
        raise DamageError(str(error)) from error


def write_set(txn: Transaction, kept: AttributeSet | None) -> None:
    """Write which attributes the index keeps, and drop those that it has."""
    txn.empty("attributes")
    if kept is None:
        txn.delete("meta", META_KEY)
    else:
        txn.put("meta", META_KEY, seal(META_KEY, kept.pack()))


def read_values(txn: Transaction, kind: AttributesKind, uid: bytes) -> KeptValues | None:
    """Return the values of a study or series; None where they are not known."""
    key = attributes_key(kind, uid)
    sealed = txn.get("attributes", key)
    return None if sealed is None else KeptValues.unpack(bytes(unseal(key, sealed)))


def is_current(txn: Transaction, kind: AttributesKind, uid: bytes) -> bool:
    """Return whether values are known, of a file that the index has as it was then.

    A program that knows no attributes may have replaced the file.
    """
    known = read_values(txn, kind, uid)
    if known is None:
        return False
    key = path_key(known.path)
    sealed = txn.get("paths", key)
    return sealed is not None and PATH_VALUE.unpack(unseal(key, sealed))[2] == known.time_ns


class AttributeChanges:
    """The changes of one transaction to the attributes of studies and series.

    Parameters
    ----------
    txn : Transaction
        The transaction.

    Attributes
    ----------
    unknown : list of (str, bytes)
        Studies and series whose values were dropped with their file, with other files left.
    """

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._is_kept = txn.get("meta", META_KEY) is not None
        self._newest: dict[Place, KeptValues] = {}
        self._removed: dict[Place, KeptValues] = {}  # values whose file was dropped
        self.unknown: list[Place] = []

    def remove(self, keys: RecordKeys) -> None:
        """Note a file, before anything of it is dropped."""
        for place in _walk_places(keys) if self._is_kept else ():
            known = read_values(self._txn, *place)
            if known is not None and known.path == keys.location:
                self._removed[place] = known

    def add(self, keys: RecordKeys, carried: CarriedValues | None) -> None:
        """Note a file that is put in, with the values that its record brings along.

        A record that brings none, in place of one of the same path and time, keeps those known.
        """
        if not self._is_kept or not keys.status.is_instance:
            return
        for place in _walk_places(keys):
            known = self._removed.get(place)
            if carried is not None:
                values = carried[place[0] == "series"]
            elif known is not None and known.place == (keys.fingerprint.mtime_ns, keys.location):
                values = known.values
            else:
                continue
            found = KeptValues(keys.fingerprint.mtime_ns, keys.location, values)
            if place not in self._newest or found.place >= self._newest[place].place:
                self._newest[place] = found

    def write(self) -> None:
        """Write and drop values. Call this while `studies` and `series` lack the new files."""
        for place in {**self._newest, **self._removed}:
            new, known = self._newest.get(place), read_values(self._txn, *place)
            if new is not None and (
                new.place >= known.place if known else self._txn.get(*place) is None
            ):
                key = attributes_key(*place)
                self._txn.put("attributes", key, seal(key, new.pack()))
            elif known is not None and place in self._removed:
                self._txn.delete("attributes", attributes_key(*place))
                self.unknown.append(place)


def _walk_places(keys: RecordKeys) -> Iterator[Place]:
    """Yield the study and the series of a file, where it has them."""
    places: tuple[Place, Place] = (
        ("studies", keys.study_instance_uid),
        ("series", keys.series_instance_uid),
    )
    return (place for place in places if 0 < len(place[1]) <= MAX_UID_LENGTH)
