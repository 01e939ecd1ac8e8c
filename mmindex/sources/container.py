"""Files in tar and zip containers by paths like `study.zip!/a.dcm`, read in place.

A container within a container is not opened.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterator

from mmindex.errors import FormatError, MissingFileError, is_missing
from mmindex.model import Fingerprint, InstanceRecord, Status
from mmindex.sources.base import SEPARATOR, ByteSource
from mmindex.sources.file import FileSource, open_descriptor
from mmindex.sources.member import STORED, DeflatedMember, Member, StoredMember, strip_name
from mmindex.sources.tar import BLOCK, is_tar, walk_tar
from mmindex.sources.zip import is_zip, walk_zip


def is_container(head: bytes) -> bool:
    """Return whether the first 512 bytes of a file are those of a tar or zip container."""
    return is_zip(head) or is_tar(head)


def walk_members(container: ByteSource) -> Iterator[Member]:
    """Yield the files of a container, in its order; of two with one name the last counts.

    Members that cannot be read are among them, with their reasons.

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
        return walk_tar(container)
    raise FormatError("expected a tar or zip container", path=container.name, offset=0)


def open_member(container: ByteSource, member: Member) -> ByteSource:
    """Return the bytes of a member; the container is closed with them.

    Raises
    ------
    FormatError
        The member cannot be read, for its reason.
    """
    name = None
    if container.name is not None:
        name = container.name + SEPARATOR + os.fsdecode(member.name)
    if member.reason:
        raise FormatError(member.reason, path=name, offset=member.offset)
    kind = StoredMember if member.method == STORED else DeflatedMember
    return kind(container, member, name)


def open_member_path(path: str, revalidate_after: float) -> ByteSource:
    """Return the bytes of the file at a path like `study.zip!/a.dcm`.

    Raises
    ------
    MissingFileError
        There is no such container, or it has no such file.
    FormatError
        As `walk_members` and `open_member`.
    """
    at = path.find(SEPARATOR)
    while at >= 0:
        container_path, wanted = path[:at], strip_name(os.fsencode(path[at + len(SEPARATOR) :]))
        if _is_file(container_path):
            descriptor = open_descriptor(container_path)
            version = Fingerprint.of(os.stat(descriptor.number))
            container = FileSource(descriptor, container_path, version, revalidate_after)
            found = None
            for member in walk_members(container):
                if member.name == wanted:
                    found = member
            if found is None:
                raise MissingFileError("the container has no such file", path=path)
            return open_member(container, found)
        at = path.find(SEPARATOR, at + 1)
    raise MissingFileError("there is no such file", path=path)


def place_in_container(record: InstanceRecord, source: ByteSource) -> InstanceRecord:
    """Return the record of a member that was scanned as a file of its own.

    Offsets of a stored member count in the container from then on; frames of a deflated one have
    no place in it.
    """
    if isinstance(source, DeflatedMember):
        is_indexed = record.status is Status.INDEXED
        return dataclasses.replace(record, status=Status.DEFLATED) if is_indexed else record
    frames, by = record.frames, source.first
    if frames is not None and record.status is not Status.DEFLATED:
        frames = dataclasses.replace(frames, value_offset=frames.value_offset + by)
    moved = tuple(
        dataclasses.replace(anomaly, offset=anomaly.offset + by) for anomaly in record.anomalies
    )
    return dataclasses.replace(record, frames=frames, anomalies=moved)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if is_missing(error):
            return False
        raise
