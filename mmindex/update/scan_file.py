"""What a worker does: scan files, whatever they are, and return packed records."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter_ns
from typing import NamedTuple

from mmindex.errors import FormatError, MMIndexError, NotDicomError, is_missing
from mmindex.index.record import pack_record
from mmindex.model import WHOLE_SLIDE_IMAGE, Buffer, Fingerprint, InstanceRecord, Status
from mmindex.scan.header import Header, scan_header
from mmindex.scan.instance import make_record, scan_frames
from mmindex.scan.known_runs import KnownRuns

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_UNKNOWN = Fingerprint(0, 0, 0)  # of a file that cannot be looked at
_READ_WHOLE = 1 << 16  # bytes up to which reading a file is faster than mapping it


class ScanOptions(NamedTuple):
    """What a build asks of every scan."""

    force: bool = False
    prove: bool = True


def scan_files(root: bytes, paths: Sequence[bytes], options: ScanOptions) -> list[bytes]:
    """Return the packed records of the files at these paths, relative to `root`."""
    known_runs = KnownRuns()
    return [scan_file(root, path, options, known_runs) for path in paths]


def scan_file(root: bytes, path: bytes, options: ScanOptions, known_runs: KnownRuns) -> bytes:
    """Return the packed record of a file; one that can't be read has its reason in it."""
    started = perf_counter_ns()
    fingerprint = _UNKNOWN
    try:
        number = os.open(b"%b/%b" % (root, path), _OPEN_FLAGS)
        try:
            fingerprint = _fingerprint(number)
            record = _scan_descriptor(number, fingerprint.size, options, known_runs)
            if _fingerprint(number) != fingerprint:
                record = _unreadable("StaleIndexError", "the file changed while it was scanned")
        finally:
            os.close(number)
        return pack_record(record, path, fingerprint, (perf_counter_ns() - started) // 1000)
    except OSError as error:
        record = _unreadable("FormatError", f"cannot read the file: {error.strerror}")
        if is_missing(error):
            record = _unreadable("MissingFileError", "the file is gone")
    except Exception as error:  # the line around one file: a bug costs that file, and is told
        record = _unreadable("FormatError", f"{type(error).__name__}: {error}")
    return pack_record(record, path, fingerprint)


def _fingerprint(number: int) -> Fingerprint:
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "neither a file nor a folder")
    return Fingerprint.of(status)


def _scan_descriptor(
    number: int, size: int, options: ScanOptions, known_runs: KnownRuns
) -> InstanceRecord:
    buffer: Buffer
    if size > _READ_WHOLE:
        buffer = mmap.mmap(number, size, access=mmap.ACCESS_READ)
    else:
        buffer = os.read(number, size)
    try:
        header = scan_header(buffer, force=options.force, known_runs=known_runs)
    except NotDicomError as error:
        return InstanceRecord(Status.NOT_DICOM, reason=str(error), error=type(error).__name__)
    except MMIndexError as error:
        return _unreadable(type(error).__name__, str(error))
    try:
        record = scan_frames(header, prove=options.prove)
    except MMIndexError as error:
        return make_record(header, Status.UNREADABLE, reason=str(error), error=type(error).__name__)
    if record.sop_class_uid == WHOLE_SLIDE_IMAGE and record.status.has_frames:
        return _add_positions(record, header)
    return record


def _add_positions(record: InstanceRecord, header: Header) -> InstanceRecord:
    """Return the record of a whole slide image with the positions of its tiles.

    Without them where the file breaks the rules of a slide, which opening the slide reports.
    """
    from mmindex.scan.slide import scan_tile_positions  # numpy, which other files do not need

    image = record.image_pixel
    try:
        positions = scan_tile_positions(
            header, record.number_of_frames, image.columns or 0, image.rows or 0
        )
    except FormatError:
        return record
    return replace(record, positions=positions)


def _unreadable(error: str, reason: str) -> InstanceRecord:
    return InstanceRecord(Status.UNREADABLE, reason=reason, error=error)
