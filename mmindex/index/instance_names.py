"""Which instance is meant: a SOP Instance UID of the whole index, or of one study or series of it.

Files of two studies may have one SOP Instance UID, of two patients at worst: a caller who chose a
study or a series never gets a file of another one.
"""

from __future__ import annotations

from typing import NamedTuple

from mmindex.index.checksum import unseal
from mmindex.index.databases import UidKind, uid_key
from mmindex.index.lmdb.transaction import Transaction
from mmindex.model import Fingerprint, InstanceRecord


class UidWithin(NamedTuple):
    """A SOP Instance UID within a study, a series, or a series of a study.

    Attributes
    ----------
    study_instance_uid, series_instance_uid : str or None
        None of any.
    version : Fingerprint or None
        The version of the file that is meant, where what is known of it was read before.
    """

    sop_instance_uid: str
    study_instance_uid: str | None
    series_instance_uid: str | None
    version: Fingerprint | None = None

    def has(self, record: InstanceRecord) -> bool:
        """Return whether a record is of this study and series."""
        study, series = self.study_instance_uid, self.series_instance_uid
        return study in (None, record.study_instance_uid) and series in (
            None,
            record.series_instance_uid,
        )


InstanceName = str | UidWithin


def name_of(record: InstanceRecord) -> UidWithin:
    """Return the name that leads to a record's file alone: neither another nor a later one."""
    return UidWithin(
        record.sop_instance_uid,
        record.study_instance_uid,
        record.series_instance_uid,
        record.fingerprint,
    )


def uid_of(name: InstanceName) -> str:
    """Return the SOP Instance UID of a name."""
    return name if isinstance(name, str) else name.sop_instance_uid


def means(name: InstanceName, record: InstanceRecord) -> bool:
    """Return whether a record is of the UID, study and series of a name, whatever its version."""
    return uid_of(name) == record.sop_instance_uid and (isinstance(name, str) or name.has(record))


def allows(name: InstanceName, version: Fingerprint | None) -> bool:
    """Return whether a name can mean a file of this version."""
    return isinstance(name, str) or name.version in (None, version)


def find_only(txn: Transaction, name: InstanceName) -> memoryview | None:
    """Return the record of the only file that has a SOP Instance UID; None of none or several.

    None of one that is not within the study and series of the name. Versions are not compared:
    `allows` does that.
    """
    id_bytes = txn.get_only("instances", uid_key(uid_of(name)))
    if id_bytes is None:
        return None
    if not isinstance(name, str):
        where: tuple[tuple[UidKind, str | None], ...] = (
            ("studies", name.study_instance_uid),
            ("series", name.series_instance_uid),
        )
        for kind, uid in where:
            if uid is not None and not txn.has(kind, uid_key(uid), id_bytes):
                return None
    sealed = txn.get("files", id_bytes)
    return None if sealed is None else unseal(id_bytes, sealed)
