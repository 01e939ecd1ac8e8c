"""Files in tar and zip containers by paths like `study.zip!/a.dcm`, read in place.

A container within a container is not opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from mmindex.errors import FormatError, MissingFileError, is_missing
from mmindex.model import SEPARATOR, Fingerprint, InstanceRecord, Member, Status, split_path
from mmindex.sources.base import ByteSource
from mmindex.sources.file import FileSource, open_descriptor
from mmindex.sources.member import (
    NO_FILE,
    STORED,
    DeflatedMember,
    FoundMember,
    InflatedFiles,
    StoredMember,
    strip_name,
)
from mmindex.sources.tar import BLOCK, is_tar, walk_tar
from mmindex.sources.zip import is_zip, walk_zip


def is_container(head: bytes) -> bool:
    """Return whether the first 512 bytes of a file are those of a tar or zip container."""
    return is_zip(head) or is_tar(head)


def is_plain_container(head: bytes) -> bool:
    """Return whether the first 512 bytes are those of a container, and not of a DICOM file."""
    return head[128:132] != b"DICM" and is_container(head)


def walk_members(container: ByteSource, *, others: bool = False) -> Iterator[FoundMember]:
    """Yield the files of a container, in its order; of two with one name the last counts.

    Members that cannot be read are among them, with their reasons.

    Parameters
    ----------
    container : ByteSource
        The container.
    others : bool
        Whether links, folders and devices of a tar are yielded, too, with the reason NO_FILE. They
        take the place of an earlier file of their name, as a later file does.

    Raises
    ------
    FormatError
        The file is no container, or a damaged one. Members before the damage were yielded.
    StaleIndexError, MissingFileError
        As `ByteSource.read`.
    """
    head = container.read(container.first, min(BLOCK, container.size))
    if is_zip(head):
        return walk_zip(container)
    if is_tar(head):
        return walk_tar(container, others=others)
    raise FormatError("expected a tar or zip container", path=container.name, offset=0)


def open_member(
    container: ByteSource, member: Member | FoundMember, inflated: InflatedFiles | None = None
) -> ByteSource:
    """Return the bytes of a member.

    Parameters
    ----------
    container : ByteSource
        The container, which other members may read, too. The member does not close it: the last
        one that reads it lets go of it.
    inflated : InflatedFiles, optional
        What keeps inflated files of several members; a deflated one keeps its own unless given.

    Raises
    ------
    FormatError
        The member cannot be read, for its reason.
    """
    name = None
    if container.name is not None:
        name = container.name + SEPARATOR + os.fsdecode(member.name)
    if isinstance(member, FoundMember):
        if member.reason:
            raise FormatError(member.reason, path=name, offset=member.offset)
        member = member.as_member()
    if member.method == STORED:
        return StoredMember(container, member, name)
    return DeflatedMember(container, member, name, inflated or InflatedFiles())


def find_member(container: ByteSource, *names: bytes) -> FoundMember | None:
    """Return the last file of a container that has one of these names; None if none has.

    Where a link, a folder or a device took the file's place, the reason is NO_FILE.

    Raises
    ------
    FormatError, StaleIndexError, MissingFileError
        As `walk_members`.
    """
    found = None
    for member in walk_members(container, others=True):
        if member.name in names and (found or member.reason != NO_FILE):
            found = member
    return found


def open_member_path(path: str, revalidate_after: float) -> tuple[ByteSource, Member]:
    """Return the bytes of the file at a path like `study.zip!/a.dcm`, and where it is.

    Raises
    ------
    MissingFileError
        There is no such container, or it has no such file.
    FormatError
        As `walk_members` and `open_member`.
    """
    for container_path, name in split_path(os.fsencode(path)):
        full_path, wanted = os.fsdecode(container_path), strip_name(name)
        if _is_file(full_path):
            descriptor = open_descriptor(full_path)
            version = Fingerprint.of(os.stat(descriptor.number))
            container = FileSource(descriptor, full_path, version, revalidate_after)
            found = find_member(container, wanted)
            if found is None:
                raise MissingFileError("the container has no such file", path=path)
            return open_member(container, found), found.as_member()
    raise MissingFileError("there is no such file", path=path)


def place_in_container(record: InstanceRecord, member: Member) -> InstanceRecord:
    """Return the record of a member that was scanned as a file of its own.

    Offsets of a stored member count in the container from then on; frames of a deflated one have
    no place in it.
    """
    if member.method == STORED:
        return count_from(record, member.offset, member)
    status = Status.DEFLATED if record.status is Status.INDEXED else record.status
    return record._replace(status=status, member=member)


def count_from(record: InstanceRecord, first: int, member: Member | None = None) -> InstanceRecord:
    """Return a record whose offsets count from `first` bytes before what was scanned.

    Those of a deflated data set count in the inflated one.
    """
    if record.status is Status.DEFLATED:
        return record._replace(member=member)
    frames = record.frames
    if frames is not None:
        frames = frames._replace(value_offset=frames.value_offset + first)
    anomalies = tuple(
        anomaly._replace(offset=anomaly.offset + first) for anomaly in record.anomalies
    )
    return record._replace(frames=frames, anomalies=anomalies, member=member)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if is_missing(error):
            return False
        raise
