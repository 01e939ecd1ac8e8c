"""Workers scan files, whatever they are, and return packed records."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from time import perf_counter_ns

from mmindex.errors import MMIndexError
from mmindex.index.record import pack_record
from mmindex.model import Buffer, Fingerprint, InstanceRecord, Status
from mmindex.scan.known_runs import KnownRuns
from mmindex.sources.base import FoundFile
from mmindex.sources.container import is_container, is_plain_container
from mmindex.sources.tar import BLOCK
from mmindex.update.attribute_values import import_decoder
from mmindex.update.scan_buffer import (
    ScanOptions,
    explain_failure,
    scan_buffer,
    unreadable,
)
from mmindex.update.scan_members import MemberScanner, MemberTarget
from mmindex.update.scan_ranges import open_descriptor, scan_by_ranges

UNKNOWN = Fingerprint(0, 0, 0)  # of a file that cannot be looked at
SCANNED_TOGETHER = 4  # objects that one thread scans one after the other

# What is scanned: a file of a folder by its path, an object as it was listed, or a container's.
Target = bytes | FoundFile | MemberTarget


def scan_files(root: bytes, targets: Sequence[Target], options: ScanOptions) -> list[bytes]:
    """Return the packed records of files: at paths relative to `root`, or in containers."""
    known_runs = KnownRuns()
    if options.attributes is not None:
        import_decoder()
    with closing(MemberScanner(root, options, known_runs)) as members:
        return [
            members.scan(target)
            if isinstance(target, MemberTarget)
            else scan_file(root, path_of(target), options, known_runs)
            for target in targets
        ]


def path_of(target: bytes | FoundFile) -> bytes:
    """Return the path of a file that is to be scanned."""
    return target.path if isinstance(target, FoundFile) else target


def scan_file(root: bytes, path: bytes, options: ScanOptions, known_runs: KnownRuns) -> bytes:
    """Return the packed record of a file; one that can't be read has its reason in it."""
    started = perf_counter_ns()
    fingerprint = UNKNOWN
    try:
        number = os.open(b"%b/%b" % (root, path), os.O_RDONLY | os.O_NONBLOCK)
        try:
            fingerprint = _fingerprint(number)
            try:
                record = _scan_descriptor(number, fingerprint, options, known_runs)
            except MMIndexError as error:
                record = unreadable(type(error).__name__, str(error))
            if _fingerprint(number) != fingerprint:
                record = unreadable("StaleIndexError", "the file changed while it was scanned")
        finally:
            os.close(number)
        version = options.version(fingerprint)
        return pack_record(record, path, version, (perf_counter_ns() - started) // 1000)
    except Exception as error:  # the line around one file
        return pack_record(explain_failure(error, "file"), path, options.version(fingerprint))


def _fingerprint(number: int) -> Fingerprint:
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "neither a file nor a folder")
    return Fingerprint.of(status)


def _scan_descriptor(
    number: int, version: Fingerprint, options: ScanOptions, known_runs: KnownRuns
) -> InstanceRecord:
    buffer: Buffer
    if version.size <= options.read_whole:
        buffer = os.read(number, version.size)
    elif options.may_map:
        buffer = mmap.mmap(number, version.size, access=mmap.ACCESS_READ)
    else:
        scan = partial(scan_content, options=options, known_runs=known_runs)
        return scan_by_ranges(open_descriptor(number, version), scan, options)
    return scan_content(buffer, options, known_runs)


def scan_content(buffer: Buffer, options: ScanOptions, known_runs: KnownRuns) -> InstanceRecord:
    """Return the record of a file that may be a container."""
    if options.force and is_plain_container(bytes(buffer[:BLOCK])):
        return _CONTAINER
    record = scan_buffer(buffer, options, known_runs)
    if record.status is Status.NOT_DICOM and is_container(bytes(buffer[:BLOCK])):
        return _CONTAINER
    return record


# Its files are scanned afterwards, where containers are opened.
NOT_OPENED = "a container, which is not opened"
_CONTAINER = InstanceRecord(Status.CONTAINER, error="NotDicomError", reason=NOT_OPENED)
