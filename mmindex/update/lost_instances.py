"""Files that were DICOM when they were indexed, and are none now: zeroed, emptied, overwritten.

A file that never was DICOM concerns nobody. One that was lost an instance, which somebody has to
know: its record is that of an unreadable file, with the UIDs of the instance, until the file is
DICOM again, is gone, or the problem is accepted. A file that is unreadable first, as one that was
cut, keeps in its record what it was, too.
"""

from __future__ import annotations

from mmindex.errors import NotDicomError
from mmindex.index.carried_values import take_values
from mmindex.index.record import pack_record, status_of_packed, unpack_keys, unpack_record
from mmindex.index.store import Store
from mmindex.model import InstanceRecord, Status

LOST = NotDicomError.__name__  # the error of such a record; no other unreadable file has it
_BEFORE = " when it was indexed before"  # in a reason, after what the file was
_FILE, _CONTAINER = "the file was a DICOM file", "the file was a container of DICOM files"


def keep_lost(store: Store, packed: bytes, next_id: int) -> bytes:
    """Return the packed record to write of a file that was scanned.

    Parameters
    ----------
    store : Store
        The index, which has the record that is replaced.
    packed : bytes
        What the scan found.
    next_id : int
        The first id that the build or update gives: what it wrote itself is no record of before.
    """
    status = status_of_packed(packed)
    if status not in (Status.NOT_DICOM, Status.UNREADABLE):
        return packed
    keys = unpack_keys(packed)
    if keys.sop_instance_uid or take_values(packed)[1] is not None:
        return packed  # its header was read
    found = store.find_paths([keys.location])[0]
    known = None if found is None or found[0] >= next_id else store.read_record(found[0])
    if known is None:
        return packed
    record = unpack_record(packed)
    what = _describe_lost(store, known)
    if not what:
        return packed
    if status is Status.NOT_DICOM:
        reason = f"{what}{_BEFORE}, and is none now: {record.reason}"
        record = record._replace(status=Status.UNREADABLE, error=LOST, reason=reason)
    elif not known.sop_instance_uid:  # nothing else would say what it was
        reason = f"{what}{_BEFORE}, and cannot be read now: {record.reason}"
        record = record._replace(reason=reason)
    return pack_record(
        record._replace(
            sop_class_uid=known.sop_class_uid,
            sop_instance_uid=known.sop_instance_uid,
            study_instance_uid=known.study_instance_uid,
            series_instance_uid=known.series_instance_uid,
            modality=known.modality,
        )
    )


def _describe_lost(store: Store, known: InstanceRecord) -> str:
    """Return what a file was by its record; empty where nothing is lost with that."""
    what, before, _ = known.reason.partition(_BEFORE)
    if known.status is Status.UNREADABLE and before and what.startswith((_FILE, _CONTAINER)):
        return what
    if _was_dicom(known):
        uid = known.sop_instance_uid
        return _FILE + (f" (SOP Instance UID {uid})" if uid else "")
    if known.member is not None:
        return ""
    members = map(store.read_record, store.find_members(known.path))
    has_instances = any(member is not None and _was_dicom(member) for member in members)
    return _CONTAINER if has_instances else ""


def _was_dicom(record: InstanceRecord) -> bool:
    return record.status.is_instance or bool(record.sop_instance_uid)
