"""One row a fragment of every frame that has bytes of its own, from an index alone.

Left out are deflated data sets and video streams, whose frames have no bytes of their own, and
frames that the end of their file cut off. No file is opened, but those of an index that was
built with prove=False, whose items only the files show: one whose offset table is wrong is left
out, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np

from mmindex.errors import FormatError
from mmindex.frame_table import Layout
from mmindex.index.frame_rows import FrameRows, Numbers, rows_of, walk_rows
from mmindex.index.record_columns import RecordColumns, walk_columns
from mmindex.index.record_parts import BIG_ENDIAN, PIXEL_KEYWORDS, STATUS_NUMBERS
from mmindex.index.store import Store
from mmindex.model import InstanceRecord, Status, VersionKind
from mmindex.read.ahead import walk_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.read.archive import Archive
    from mmindex.read.listings import Progress

LeftOut = Callable[[str, str], None]  # takes a file's path or URL, and why

_TOGETHER = 1 << 16  # rows that are yielded together, at least
_MOST_FRAMES = 1 << 12  # of a file that has to be opened, whose ranges are listed together
WITHOUT_RANGES = {  # why files have no rows, by their status in an index
    STATUS_NUMBERS[status]: f"{status.value}: its frames have no bytes of their own"
    for status in (Status.DEFLATED, Status.STREAM)
}
_SAFE = re.compile("[A-Za-z0-9_.~/-]*").fullmatch  # what a URL has as it is


class ExportedFiles(NamedTuple):
    """Files whose frames are exported: a value a file in each column.

    Attributes
    ----------
    records : RecordColumns
        What the index has of them.
    location : list of str
        Path in the archive, or the URL prefix with this path; of a member of a container, that of
        the container, in which its ranges count.
    size, mtime_ns : ndarray of int64
        Of the file, in bytes and ns.
    etag_digest : list of str or None
        Of an object with an ETag, the digest of it that the record keeps (see `Fingerprint`), in 16
        hexadecimal digits.
    shape : ndarray of int64
        (files, 3): rows, columns and samples of a frame.
    dtype : list of str
        numpy's name of the samples' type, such as "<u2"; empty where they are no whole bytes.
    """

    records: RecordColumns
    location: list[str]
    size: Numbers
    mtime_ns: Numbers
    etag_digest: list[str | None]
    shape: Numbers
    dtype: list[str]


def walk_files(
    archive: Archive,
    url_prefix: str = "",
    left_out: LeftOut | None = None,
    progress: Progress | None = None,
    *,
    opens: bool = True,
) -> Iterator[tuple[ExportedFiles, Iterator[FrameRows]]]:
    """Yield files in the order of the index, some thousand together, and the rows of these.

    Files that are left out are among them, without rows. The rows of a file follow each other;
    `FrameRows.table` is the file's place in the columns.

    Parameters
    ----------
    url_prefix : str
        What stands before the path, which is quoted for web servers (http, https) alone: fsspec and
        object stores take the key as it is.
    left_out : callable, optional
        Called with the path or URL of each file without rows, and why: a word, a colon and a
        sentence.
    progress : callable, optional
        Called with the number of files done and of all files with frames.
    opens : bool
        Whether files of unproved offset tables are opened, each of whose frames is looked at; else
        they are among the files without rows.

    Raises
    ------
    IndexFormatError
        The index is damaged.
    StaleIndexError, MissingFileError, RemoteReadError
        A file that has to be opened changed, is gone, or cannot be read from its store.
    """
    done, statuses = 0, archive.count().statuses
    total = sum(statuses[status] for status in (Status.INDEXED, Status.DEFLATED, Status.STREAM))
    with closing(Store(archive.path)) as store:
        for records in walk_columns(store):
            files = _describe(records, url_prefix)
            if left_out is not None:
                for at, status in enumerate(records.header["status"].tolist()):
                    if status in WITHOUT_RANGES:
                        left_out(files.location[at], WITHOUT_RANGES[status])
            yield files, _join_rows(_walk_rows(archive, files, left_out, opens=opens))
            done += len(files.location)
            if progress is not None:
                progress(done, max(done, total))


def _describe(records: RecordColumns, url_prefix: str) -> ExportedFiles:
    header = records.header
    location = records.path
    if url_prefix:
        location = locate_files(url_prefix, location)
    etags: list[str | None] = [None] * len(location)
    has_etag = (header["version_kind"] == VersionKind.REMOTE) & (header["inode"] != 0)
    for at in np.flatnonzero(has_etag).tolist():
        etags[at] = f"{int(header['inode'][at]):016x}"
    samples = np.maximum(header["samples_per_pixel"], 1)
    return ExportedFiles(
        records,
        location,
        header["file_size"].astype(np.int64),
        header["time_ns"].astype(np.int64),
        etags,
        np.stack([header["rows"], header["columns"], samples], axis=1).astype(np.int64),
        _name_dtypes(header),
    )


def locate_files(prefix: str, paths: list[str]) -> list[str]:
    """Return the paths or URLs of files by what stands before their paths."""
    if prefix.partition("://")[0].lower() not in ("http", "https"):
        return [prefix + path for path in paths]
    return [prefix + (path if _SAFE(path) else quote(os.fsencode(path))) for path in paths]


def _name_dtypes(header: NDArray[Any]) -> list[str]:
    kinds = header["bits_allocated"].astype(np.int64)
    kinds = kinds << 1 | (header["pixel_representation"] != 0)
    kinds = kinds << 1 | (header["flags"] & BIG_ENDIAN > 0)
    kinds = kinds << 2 | header["pixel_keyword"]
    found, places = np.unique(kinds, return_inverse=True)
    names = [
        _name_dtype(kind >> 4, PIXEL_KEYWORDS[kind & 3], kind >> 3 & 1, kind >> 2 & 1)
        for kind in found.tolist()
    ]
    return [names[at] for at in places.tolist()]


def _name_dtype(bits: int, keyword: str, is_signed: int, big_endian: int) -> str:
    kind = "i" if is_signed else "u"
    if keyword != "PixelData":
        kind, bits = "f", 64 if keyword == "DoubleFloatPixelData" else 32
    if bits not in (8, 16, 32, 64):
        return ""
    order = "|" if bits == 8 else ">" if big_endian else "<"
    return f"{order}{kind}{bits // 8}"


def _walk_rows(
    archive: Archive, files: ExportedFiles, left_out: LeftOut | None, *, opens: bool
) -> Iterator[FrameRows]:
    yield files.records.rows
    for at, record in files.records.others:
        if not opens and _has_to_be_opened(record):
            continue
        try:
            pieces = _find_rows(archive, record)
        except FormatError as error:  # of one frame: the table that all frames are by is wrong
            if left_out is not None:
                left_out(files.location[at], f"damaged: {error.message}")
            continue
        for rows in pieces:
            yield rows._replace(table=rows.table + at)


def _has_to_be_opened(record: InstanceRecord) -> bool:
    return record.frames is not None and record.frames.layout is Layout.TRUSTED


def _find_rows(archive: Archive, record: InstanceRecord) -> Iterable[FrameRows]:
    """Return the rows of a file; of one that has to be opened, when all are known to be right."""
    table = record.frames
    if table is None or not _has_to_be_opened(record):
        return () if table is None else walk_rows(table)
    pieces = []
    with archive.file(record.key) as instance:
        frames = walk_ranges(instance, range(table.frames_located))
        while some := list(islice(frames, _MOST_FRAMES)):
            pieces.append(rows_of(some))
    return pieces


def _join_rows(pieces: Iterator[FrameRows]) -> Iterator[FrameRows]:
    """Yield rows in pieces that are worth the work."""
    kept: list[FrameRows] = []
    count = 0
    for rows in pieces:
        kept.append(rows)
        count += len(rows.frame)
        if count >= _TOGETHER:
            yield _concatenate(kept)
            kept, count = [], 0
    if count:
        yield _concatenate(kept)


def _concatenate(pieces: list[FrameRows]) -> FrameRows:
    if len(pieces) == 1:
        return pieces[0]
    return FrameRows(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))
