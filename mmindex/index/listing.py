"""The part of a record that listings and counts need, read from its packed bytes."""

from __future__ import annotations

import struct
from typing import NamedTuple

from mmindex.errors import IndexFormatError
from mmindex.index.record_parts import (
    BOUNDARIES,
    IN_CONTAINER,
    STATUS_NUMBERS,
    check_path,
    status_of,
    unpack_member,
    unpack_texts,
)
from mmindex.model import SEPARATOR, Anomaly, Boundaries, InstanceRecord, Status

# Status, Number of Frames, number of anomalies, microseconds of the scan; see `record.py`.
_MEASURES = struct.Struct("<B32xQ68xHI")
# Status, boundaries, flags, offset of the entries, file size, Number of Frames, anomalies.
_LISTED_HEAD = struct.Struct("<BBxBIxQ16xQ68xH")
_MEMBER_OF = SEPARATOR.encode()
_WITH_FRAMES = {number for status, number in STATUS_NUMBERS.items() if status.has_frames}
_UNREADABLE = STATUS_NUMBERS[Status.UNREADABLE]
_INSTANCES = {number: status for status, number in STATUS_NUMBERS.items() if status.is_instance}
_TEXTS = 10  # of a record: the path, six that are listed, others


Measures = tuple[int, int, int]  # file id, frames, microseconds of the scan


class ListedFile(NamedTuple):
    """A file as a listing has it; the attributes are those of an `InstanceRecord`."""

    location: bytes
    status: Status
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    number_of_frames: int
    boundaries: Boundaries
    size: int
    reason: str
    anomalies: tuple[Anomaly, ...]


def measure(file_id: int, packed: memoryview) -> Measures:
    """Return what is counted of a record; of a file without frames to be read, 0 frames.

    Raises
    ------
    IndexFormatError
        The bytes are no record.
    """
    try:
        status, frames, _, microseconds = _MEASURES.unpack_from(packed)
    except struct.error as error:
        raise _damaged(error) from error
    return file_id, frames if status in _WITH_FRAMES else 0, microseconds


def is_troubled(packed: memoryview) -> bool:
    """Return whether a file could not be read, or has anomalies; raises as `measure`."""
    try:
        status, _, anomalies, _ = _MEASURES.unpack_from(packed)
    except struct.error as error:
        raise _damaged(error) from error
    return bool(anomalies) or status == _UNREADABLE


def unpack_listed(packed: memoryview) -> ListedFile | None:
    """Return what is listed of a record, None where the whole record has to be unpacked for that.

    Raises
    ------
    IndexFormatError
        The bytes are no record.
    """
    try:
        return _unpack_listed(packed)
    except (struct.error, ValueError, IndexError) as error:
        raise _damaged(error) from error


def list_record(record: InstanceRecord) -> ListedFile:
    """Return what is listed of a whole record."""
    return ListedFile(*[getattr(record, name) for name in ListedFile._fields])


def _unpack_listed(packed: memoryview) -> ListedFile | None:
    number, boundaries, flags, end, size, number_of_frames, anomalies = _LISTED_HEAD.unpack_from(
        packed
    )
    status = _INSTANCES.get(number)
    if anomalies or status is None:  # what these have lies behind parts of any length
        status_of(number)
        return None
    head = bytes(packed[:end])
    (path, syntax, sop_class, sop_instance, study, series, modality), _ = unpack_texts(head, 7)
    check_path(path)
    if flags & IN_CONTAINER:
        member, _ = unpack_member(head, unpack_texts(head, _TEXTS)[1])
        path, size = path + _MEMBER_OF + member.name, member.length
    values = (
        path,
        status,
        str(syntax, "latin-1"),
        str(sop_class, "latin-1"),
        str(sop_instance, "latin-1"),
        str(study, "latin-1"),
        str(series, "latin-1"),
        str(modality, "latin-1"),
        number_of_frames,
        BOUNDARIES[boundaries],
        size,
        "",
        (),
    )
    return tuple.__new__(ListedFile, values)


def _damaged(error: Exception) -> IndexFormatError:
    return IndexFormatError(f"damaged record: {error}; rebuild the index")
