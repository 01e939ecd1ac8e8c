"""Workers scan files, whatever they are, and return packed records."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Sequence
from contextlib import closing
from time import perf_counter_ns

from mmindex.index.record import pack_record
from mmindex.model import Buffer, Fingerprint, InstanceRecord, Status
from mmindex.scan.known_runs import KnownRuns
from mmindex.sources.container import is_container
from mmindex.sources.tar import BLOCK
from mmindex.update.scan_buffer import (
    READ_WHOLE,
    ScanOptions,
    explain_failure,
    scan_buffer,
    unreadable,
)
from mmindex.update.scan_members import MemberScanner, MemberTarget

_UNKNOWN = Fingerprint(0, 0, 0)  # of a file that cannot be looked at

Target = bytes | MemberTarget  # what is scanned: a file by its path, or one in a container


def scan_files(root: bytes, targets: Sequence[Target], options: ScanOptions) -> list[bytes]:
    """Return the packed records of files: at paths relative to `root`, or in containers."""
    known_runs = KnownRuns()
    with closing(MemberScanner(root, options, known_runs)) as members:
        return [
            members.scan(target)
            if isinstance(target, MemberTarget)
            else scan_file(root, target, options, known_runs)
            for target in targets
        ]


def scan_file(root: bytes, path: bytes, options: ScanOptions, known_runs: KnownRuns) -> bytes:
    """Return the packed record of a file; one that can't be read has its reason in it."""
    started = perf_counter_ns()
    fingerprint = _UNKNOWN
    try:
        number = os.open(b"%b/%b" % (root, path), os.O_RDONLY | os.O_NONBLOCK)
        try:
            fingerprint = _fingerprint(number)
            record = _scan_descriptor(number, fingerprint.size, options, known_runs)
            if _fingerprint(number) != fingerprint:
                record = unreadable("StaleIndexError", "the file changed while it was scanned")
        finally:
            os.close(number)
        return pack_record(record, path, fingerprint, (perf_counter_ns() - started) // 1000)
    except Exception as error:  # the line around one file
        return pack_record(explain_failure(error, "file"), path, fingerprint)


def _fingerprint(number: int) -> Fingerprint:
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "neither a file nor a folder")
    return Fingerprint.of(status)


def _scan_descriptor(
    number: int, size: int, options: ScanOptions, known_runs: KnownRuns
) -> InstanceRecord:
    buffer: Buffer
    if size > READ_WHOLE:
        buffer = mmap.mmap(number, size, access=mmap.ACCESS_READ)
    else:
        buffer = os.read(number, size)
    if options.force and _is_container(buffer) and buffer[128:132] != b"DICM":
        return _CONTAINER
    record = scan_buffer(buffer, options, known_runs)
    if record.status is Status.NOT_DICOM and _is_container(buffer):
        return _CONTAINER
    return record


def _is_container(buffer: Buffer) -> bool:
    return is_container(bytes(buffer[:BLOCK]))


# Its files are scanned afterwards, where containers are opened.
NOT_OPENED = "a container, which is not opened"
_CONTAINER = InstanceRecord(Status.CONTAINER, error="NotDicomError", reason=NOT_OPENED)
