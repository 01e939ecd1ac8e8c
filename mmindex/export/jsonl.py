"""JSON lines: one object a fragment, the columns of the Parquet table as keys."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING

from mmindex.export.rows import ExportedFiles, LeftOut, walk_files

if TYPE_CHECKING:
    from mmindex.read.archive import Archive
    from mmindex.read.listings import Progress


def walk_lines(
    archive: Archive,
    url_prefix: str = "",
    left_out: LeftOut | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    r"""Yield one line a fragment, as UTF-8 with its line end.

    A path whose bytes are no UTF-8 has surrogate escapes (\udc80 to \udcff), as os.fsdecode. The
    parameters are those of `walk_files`.

    Raises
    ------
    IndexFormatError, StaleIndexError, MissingFileError, RemoteReadError
        As `walk_files`.
    """
    for files, pieces in walk_files(archive, url_prefix, left_out, progress):
        beginnings = _begin_lines(files, "url" if url_prefix else "path")
        for rows in pieces:
            columns = (column.tolist() for column in rows)
            for at, frame, fragment, offset, length, first_bit in zip(*columns, strict=True):
                line = (
                    f'{beginnings[at]}, "frame": {frame}, "fragment": {fragment}, '
                    f'"offset": {offset}, "length": {length}, "first_bit": {first_bit}}}\n'
                )
                yield line.encode()


def _begin_lines(files: ExportedFiles, location_key: str) -> list[str]:
    """Return what the lines of each file begin with."""
    records = files.records
    columns = zip(
        records.sop_instance_uid,
        records.series_instance_uid,
        files.location,
        files.size.tolist(),
        files.mtime_ns.tolist(),
        files.etag_digest,
        records.transfer_syntax_uid,
        files.shape.tolist(),
        files.dtype,
        strict=True,
    )
    return [
        f'{{"sop_instance_uid": {quote(uid)}, "series_instance_uid": {quote(series)}, '
        f'"{location_key}": {quote(location)}, "size": {size}, "mtime_ns": {mtime_ns}, '
        f'"etag_digest": {dumps(etag)}, "transfer_syntax_uid": {quote(syntax)}, '
        f'"shape": {shape if shape[2] > 1 else shape[:2]}, "dtype": {quote(dtype)}'
        for uid, series, location, size, mtime_ns, etag, syntax, shape, dtype in columns
    ]
