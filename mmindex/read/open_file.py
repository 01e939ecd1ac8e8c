"""One file without an index: scanned when it is opened, nothing written."""

from __future__ import annotations

import io
import mmap
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, NoReturn

from mmindex.errors import MissingFileError, NotDicomError, naming
from mmindex.model import SEPARATOR, Buffer, Fingerprint, InstanceRecord, is_url, split_path
from mmindex.read.instance import Instance
from mmindex.scan.instance import scan
from mmindex.sources.base import ByteSource
from mmindex.sources.file import READ_WHOLE, Descriptor, FileSource, open_descriptor
from mmindex.sources.memory import MemorySource
from mmindex.sources.stores import name_url

Scan = Callable[..., InstanceRecord]  # of a Buffer

REVALIDATE_AFTER = 1.0  # seconds


def open_file(
    source: str | os.PathLike[str] | BinaryIO | bytes | bytearray | memoryview | ByteSource,
    *,
    force: bool = False,
    prove: bool = False,
    store: object = None,
) -> Instance:
    """Open one DICOM file.

    Parameters
    ----------
    source : path, URL, binary file object, bytes, or ByteSource
        A URL (s3, gs, az, http, https) is read by ranges, without a download of the object.
        A path or URL like `study.zip!/a.dcm` is that of a file in a tar or zip container. A file
        object is read from its start, and may be closed while the instance is in use; one that is
        not a plain file of the file system is read into memory. The bytes of a file (bytes,
        bytearray, memoryview) are not copied, and must not change while in use. A `ByteSource`
        (mmindex.sources.base) is read by ranges; the caller closes it, after the instance.
    force : bool
        Accept a file without preamble and File Meta Information (PS3.10 7.1).
    prove : bool
        Check every entry of an offset table, and note every anomaly. Else the first, the last and
        some between are checked: a slide then costs a handful of page reads, or some requests,
        and a frame whose entry is wrong raises FormatError when the frame is read.
    store : obstore store, optional
        Where the object of a URL is; made of the URL and the environment unless given.

    Returns
    -------
    Instance
        Use it in a `with` statement, or close it.

    Raises
    ------
    TypeError
        The source is none of these: a pydicom Dataset, say, or a file opened as text.
    MissingFileError
        There is no such file.
    RemoteReadError
        A server or store does not give the bytes.
    NotDicomError, FormatError
        The file is no DICOM file, or broken; AmbiguousFramesError where several readings
        of its frame boundaries fit.
    """
    return open_scanned(source, scan, force=force, prove=prove, store=store)


def open_scanned(
    source: str | os.PathLike[str] | BinaryIO | bytes | bytearray | memoryview | ByteSource,
    scan_file: Scan,
    *,
    force: bool = False,
    prove: bool = False,
    store: object = None,
) -> Instance:
    """Open one DICOM file as `open_file` does, with another scan that takes what `scan` takes."""
    scan_source = partial(scan_file, force=force, prove=prove)
    if isinstance(source, str) and is_url(source):
        return _open_url(source, scan_source, store, force=force, prove=prove)
    if isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        if not path.startswith("/"):
            path = os.path.join(os.getcwd(), path)  # the folder may change
        try:
            descriptor = open_descriptor(path, "there is no such file")
        except MissingFileError:
            if SEPARATOR not in path:
                raise
            return _open_member(path, scan_source)
        return _open_descriptor(descriptor, path, scan_source, by_path=True)
    if isinstance(source, ByteSource):
        return _open_source(source, scan_source, force=force, prove=prove)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open_buffer(source, None, scan_source)
    if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        _refuse(source)
    name = getattr(source, "name", None)
    name = os.fsdecode(name) if isinstance(name, (str, bytes)) else None
    if _is_plain_file(source):
        descriptor = Descriptor(os.dup(source.fileno()))
        return _open_descriptor(descriptor, name, scan_source, by_path=False)
    position = source.tell()
    source.seek(0)
    data = source.read()
    source.seek(position)
    if not isinstance(data, (bytes, bytearray, memoryview)):
        _refuse(source)
    return _open_buffer(data, name, scan_source)


def _refuse(source: object) -> NoReturn:
    kind = type(source)
    raise TypeError(
        "expected a path, a file opened in binary mode, the bytes of a file (bytes, bytearray, "
        f"memoryview) or a ByteSource, found {kind.__module__}.{kind.__qualname__}"
    )


def _open_url(url: str, scan_source: Scan, store: object, *, force: bool, prove: bool) -> Instance:
    """Open an object of a store or of a web server, or a file in a container there."""
    from mmindex.sources.object_store import open_url

    try:
        source = open_url(url, store=store, revalidate_after=REVALIDATE_AFTER)
    except MissingFileError:
        if SEPARATOR not in url:
            raise
        return _open_member_url(url, scan_source, store, force=force, prove=prove)
    return _open_source(source, scan_source, force=force, prove=prove)


def _open_member_url(
    url: str, scan_source: Scan, store: object, *, force: bool, prove: bool
) -> Instance:
    """Open a file in a tar or zip container in a store, of which its headers are read.

    A web server's URL may have the name in the container quoted or as it is.
    """
    from urllib.parse import unquote_to_bytes

    from mmindex.sources.container import find_member, open_member, place_in_container
    from mmindex.sources.member import STORED, strip_name
    from mmindex.sources.object_store import open_url
    from mmindex.sources.read_ahead import ReadAhead
    from mmindex.sources.remote_scan import scan_remote

    for container_url, name in split_path(os.fsencode(url)):
        try:
            container = open_url(
                os.fsdecode(container_url), store=store, revalidate_after=REVALIDATE_AFTER
            )
        except MissingFileError:
            continue
        names = (strip_name(name), strip_name(unquote_to_bytes(name)))
        found = find_member(ReadAhead(container), *names)
        if found is None:
            raise MissingFileError(
                f"the container has no file {os.fsdecode(names[0])!r}", path=container.name
            )
        source, member = open_member(container, found), found.as_member()
        with naming(source.name, source.first):
            if member.method == STORED:
                within = member.offset, member.length
                record = scan_remote(
                    container, scan_source, force=force, prove=prove, within=within
                )
            else:
                record = scan_source(source.view(0, source.size))
        record = place_in_container(record, member)
        return Instance(record._replace(fingerprint=source.version), source)
    raise MissingFileError("the object is gone, and so is its container", path=name_url(url))


def _open_source(source: ByteSource, scan_source: Scan, *, force: bool, prove: bool) -> Instance:
    """Open a source of bytes: read where the scan looks, unless a view of all of it is memory."""
    from mmindex.sources.container import count_from

    with naming(source.name, source.first):
        if source.first or type(source).view is not ByteSource.view:
            record = scan_source(source.view(source.first, source.size))
        else:
            from mmindex.sources.remote_scan import scan_remote  # needs numpy

            record = scan_remote(source, scan_source, force=force, prove=prove)
    record = count_from(record, source.first)
    return Instance(record._replace(fingerprint=source.version), source)


def _open_member(path: str, scan_source: Scan) -> Instance:
    """Open a file in a tar or zip container."""
    from mmindex.sources.container import open_member_path, place_in_container

    source, member = open_member_path(path, REVALIDATE_AFTER)
    with naming(source.name, source.first):
        record = scan_source(source.view(source.first, source.size))
    record = place_in_container(record, member)
    return Instance(record._replace(fingerprint=source.version), source)


def _open_buffer(
    data: bytes | bytearray | memoryview, name: str | None, scan_source: Scan
) -> Instance:
    view = memoryview(data)
    view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    return _scan(view, Fingerprint(len(view), 0, 0), MemorySource(view, name), scan_source)


def _is_plain_file(source: BinaryIO) -> bool:
    """Return whether the descriptor of a file object holds the bytes that it reads.

    The descriptor of a gzip.GzipFile, for example, does not.
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
    file = FileSource(
        descriptor, path, fingerprint, REVALIDATE_AFTER, by_path=by_path, is_checked=True
    )
    buffer: Buffer
    if fingerprint.size <= READ_WHOLE:
        buffer = os.pread(descriptor.number, fingerprint.size, 0)
    else:
        buffer = mmap.mmap(descriptor.number, 0, access=mmap.ACCESS_READ)
    return _scan(buffer, fingerprint, file, scan_source)


def _scan(
    buffer: Buffer,
    fingerprint: Fingerprint,
    source: ByteSource,
    scan_source: Scan,
) -> Instance:
    with naming(source.name):
        record = scan_source(buffer, version=fingerprint)
    return Instance(record, source)
