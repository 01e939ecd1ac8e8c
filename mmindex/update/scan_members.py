"""Workers scan the files in a container in place, and return packed records."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import NamedTuple

from mmindex.errors import FormatError, MMIndexError
from mmindex.index.record import pack_record
from mmindex.model import Buffer, Fingerprint, InstanceRecord, Member, Status
from mmindex.scan import inflate
from mmindex.scan.known_runs import KnownRuns
from mmindex.sources.container import is_plain_container, place_in_container
from mmindex.sources.member import (
    DEFLATED,
    FoundMember,
    check_lengths,
    inflate_head,
    inflate_member,
)
from mmindex.sources.tar import BLOCK
from mmindex.update.long_inflations import taking_turns
from mmindex.update.scan_buffer import (
    ScanOptions,
    explain_failure,
    scan_buffer,
    unreadable,
)
from mmindex.update.scan_ranges import open_descriptor, scan_by_ranges

HEAD = 4096  # deflated bytes of which the first block of a file is inflated


class MemberTarget(NamedTuple):
    """A file in a container that is to be scanned.

    Attributes
    ----------
    container : bytes
        Path of the container, relative to the archive's root.
    fingerprint : Fingerprint
        The container as it was walked.
    member : FoundMember
        Where the file is, or why it cannot be read.
    """

    container: bytes
    fingerprint: Fingerprint
    member: FoundMember


class MemberScanner:
    """Scans files of containers, of which the last one stays open.

    Parameters
    ----------
    root : bytes
        The archive's folder.
    options : ScanOptions
        What every scan is asked.
    known_runs : KnownRuns
        Shared by the scans of one chunk.
    """

    def __init__(self, root: bytes, options: ScanOptions, known_runs: KnownRuns) -> None:
        self._root = root
        self._options = options
        self._known_runs = known_runs
        self._open: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Close the container."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def scan(self, target: MemberTarget) -> bytes:
        """Return the packed record of a file; one that can't be read has its reason in it."""
        started = perf_counter_ns()
        if target.member.reason:
            return pack_refused(target)
        container, fingerprint, found = target
        member = found.as_member()
        try:
            number = self._descriptor(container)
            is_same = fingerprint.matches(Fingerprint.of(os.stat(number)))
            record = self._scan(number, member) if is_same else None
            if record is None or not fingerprint.matches(Fingerprint.of(os.stat(number))):
                record = unreadable("StaleIndexError", "the container changed while it was scanned")
            record = place_in_container(record, member)
            return pack_record(
                record, container, fingerprint, (perf_counter_ns() - started) // 1000
            )
        except Exception as error:  # the line around one file
            record = place_in_container(explain_failure(error, "container"), member)
            return pack_record(record, container, fingerprint)

    def _descriptor(self, container: bytes) -> int:
        if self._open is None or self._open[0] != container:
            self.close()
            path = b"%b/%b" % (self._root, container)
            self._open = container, os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        return self._open[1]

    def _scan(self, number: int, member: Member) -> InstanceRecord:
        try:
            if member.method == DEFLATED:
                return self._scan_deflated(number, member)
            if member.length > self._options.read_whole:
                return self._scan_long(number, member)
            buffer = _read(number, member.offset, member.length)
        except MMIndexError as error:
            return unreadable(type(error).__name__, str(error))
        return scan_member_content(buffer, self._options, self._known_runs, member.offset)

    def _scan_long(self, number: int, member: Member) -> InstanceRecord:
        """Return the record of a long stored file: mapped, or of what the scan looks at."""
        scan = partial(
            scan_member_content,
            options=self._options,
            known_runs=self._known_runs,
            at=member.offset,
        )
        if self._options.may_map:
            return scan(_map(number, member))
        source = open_descriptor(number, Fingerprint.of(os.stat(number)))
        return scan_by_ranges(source, scan, self._options, member)

    def _scan_deflated(self, number: int, member: Member) -> InstanceRecord:
        """Return the record of a deflated file, of which the head is enough if it is not DICOM."""
        check_lengths(member)
        deflated = _read(number, member.offset, min(HEAD, member.compressed_length))
        head = inflate_head(deflated, BLOCK)
        if is_other_file(head, self._options):
            return scan_member_content(head, self._options, self._known_runs, 0)
        scan = partial(
            scan_member_content, options=self._options, known_runs=self._known_runs, at=0
        )
        return scan_inflated(member, partial(_read, number), scan)


def scan_inflated(
    member: Member, read: Callable[[int, int], bytes], scan: Callable[[Buffer], InstanceRecord]
) -> InstanceRecord:
    """Return the record of a deflated file; one that takes much memory is read in its turn.

    Parameters
    ----------
    read : callable
        Returns bytes of the container, from an offset on.
    scan : callable
        Returns the record of the inflated file.
    """
    with taking_turns() as begin_long:
        if member.compressed_length + member.length > inflate.LONG_INFLATED:
            begin_long()
        deflated = read(member.offset, member.compressed_length)
        return scan(inflate_member(member, deflated, begin_long))


def is_other_file(head: bytes, options: ScanOptions) -> bool:
    """Return whether the inflated beginning of a file shows that no scan needs the rest."""
    return bool(head) and head[128:132] != b"DICM" and not options.force


def scan_member_content(
    buffer: Buffer, options: ScanOptions, known_runs: KnownRuns, at: int
) -> InstanceRecord:
    """Return the record of a file in a container, which begins at offset `at` of that."""
    if not is_plain_container(bytes(buffer[:BLOCK])):
        return scan_buffer(buffer, options, known_runs, at)
    reason = "a container in a container, which is not opened"
    return InstanceRecord(Status.NOT_DICOM, reason=reason, error="NotDicomError")


def pack_refused(target: MemberTarget, reason: str = "") -> bytes:
    """Return the packed record of a member that is not scanned, for its reason or the one given."""
    container, fingerprint, member = target
    reason = reason or member.reason
    record = unreadable("FormatError", reason)
    record = record._replace(member=member.as_member())
    return pack_record(record, container, fingerprint)


def _map(number: int, member: Member) -> Buffer:
    """Return a map of a stored member."""
    offset, length = member.offset, member.length
    before = offset % mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(number, length + before, access=mmap.ACCESS_READ, offset=offset - before)
    return memoryview(mapped)[before:]


def _read(number: int, offset: int, length: int) -> bytes:
    """Return exactly these bytes of a container.

    Raises
    ------
    FormatError
        The container ends before.
    """
    pieces = []
    while length:
        piece = os.pread(number, length, offset)
        if not piece:
            raise FormatError("the container ends in the member", offset=offset)
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
