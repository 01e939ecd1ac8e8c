"""One file without an index: scanned when it is opened, nothing written."""

from __future__ import annotations

import dataclasses
import io
import mmap
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from mmindex.errors import MMIndexError, NotDicomError
from mmindex.model import Buffer, Fingerprint, InstanceRecord
from mmindex.read.instance import Instance
from mmindex.scan.instance import scan
from mmindex.sources.file import (
    BufferSource,
    Descriptor,
    FileSource,
    open_descriptor,
)

Scan = Callable[[Buffer], InstanceRecord]

REVALIDATE_AFTER = 1.0  # seconds


def open_file(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    force: bool = False,
    trust_offset_tables: bool = False,
) -> Instance:
    """Open one DICOM file.

    Parameters
    ----------
    source : path or binary file object
        A file object is read from its start, and may be closed while the instance is in use; one
        that is not a plain file of the file system is read into memory.
    force : bool
        Accept a file without preamble and File Meta Information (PS3.10 7.1).
    trust_offset_tables : bool
        Take an offset table's entries after a look at the first, the last and some between, which
        opens a slide of many frames at the cost of a few page reads. A frame whose entry is wrong
        raises FormatError when it is read.

    Returns
    -------
    Instance
        To be used in a `with` statement or closed.

    Raises
    ------
    MissingFileError
        There is no such file.
    NotDicomError, FormatError
        It is no DICOM file, or broken; AmbiguousFramesError where its frame boundaries
        cannot be told.
    """
    scan_source = partial(scan, force=force, trust_offset_tables=trust_offset_tables)
    path: str | None
    if isinstance(source, (str, os.PathLike)):
        path = os.path.join(os.getcwd(), os.fspath(source))  # the folder may change
        descriptor = open_descriptor(path, "there is no such file")
        return _open_descriptor(descriptor, path, scan_source, by_path=True)
    name = getattr(source, "name", None)
    path = os.fsdecode(name) if isinstance(name, (str, bytes)) else None
    if _is_plain_file(source):
        descriptor = Descriptor(os.dup(source.fileno()))
        return _open_descriptor(descriptor, path, scan_source, by_path=False)
    position = source.tell()
    source.seek(0)
    data = source.read()
    source.seek(position)
    return _scan(data, Fingerprint(len(data), 0, 0), BufferSource(data, path), path, scan_source)


def _is_plain_file(source: BinaryIO) -> bool:
    """Return whether the descriptor of a file object holds the bytes that it reads.

    That of a gzip.GzipFile, for one, does not.
    """
    raw = source.raw if isinstance(source, io.BufferedReader) else source
    return isinstance(raw, io.FileIO)


def _open_descriptor(
    descriptor: Descriptor, path: str | None, scan_source: Scan, *, by_path: bool
) -> Instance:
    status = os.stat(descriptor.number)
    if not stat.S_ISREG(status.st_mode):
        raise NotDicomError("expected a file, found a folder or a device", path=path)
    fingerprint = Fingerprint.of(status)
    file = FileSource(descriptor, path, fingerprint, REVALIDATE_AFTER, by_path=by_path)
    buffer: Buffer = b""
    if fingerprint.size:
        buffer = mmap.mmap(descriptor.number, 0, access=mmap.ACCESS_READ)
    return _scan(buffer, fingerprint, file, path, scan_source)


def _scan(
    buffer: Buffer,
    fingerprint: Fingerprint,
    source: FileSource | BufferSource,
    path: str | None,
    scan_source: Scan,
) -> Instance:
    try:
        record = scan_source(buffer)
    except MMIndexError as error:
        error.at(path)
        raise
    record = dataclasses.replace(record, fingerprint=fingerprint)
    return Instance(record, source)
