"""Parquet: one row a fragment (package pyarrow, extra `export`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from mmindex.errors import MissingDependencyError
from mmindex.export.rows import ExportedFiles, LeftOut, walk_files
from mmindex.index.frame_rows import FrameRows, Numbers

if TYPE_CHECKING:
    from mmindex.read.archive import Archive
    from mmindex.read.listings import Progress

_ROWS = 1 << 17  # written together


def write_parquet(
    archive: Archive,
    path: str | os.PathLike[str],
    url_prefix: str = "",
    left_out: LeftOut | None = None,
    progress: Progress | None = None,
) -> int:
    """Write one row a fragment; return the number of rows. Parameters are those of `walk_files`.

    Columns: sop_instance_uid, series_instance_uid, path (or url), size, mtime_ns, etag_digest,
    transfer_syntax_uid, shape (a list), dtype, frame, fragment, offset, length, first_bit.

    Raises
    ------
    MissingDependencyError
        pyarrow is not installed.
    IndexFormatError, StaleIndexError, MissingFileError, RemoteReadError
        As `walk_files`.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError(
            "Parquet needs pyarrow: pip install 'mmindex[export]'"
        ) from None
    schema = pa.schema(
        [
            ("sop_instance_uid", pa.string()),
            ("series_instance_uid", pa.string()),
            ("url" if url_prefix else "path", pa.string()),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
            ("etag_digest", pa.string()),
            ("transfer_syntax_uid", pa.string()),
            ("shape", pa.list_(pa.int32())),
            ("dtype", pa.string()),
            *((name, pa.int32()) for name in ("frame", "fragment")),
            *((name, pa.int64()) for name in ("offset", "length")),
            ("first_bit", pa.int8()),
        ]
    )
    total = count = 0
    kept: list[Any] = []  # record batches that are not written yet
    with pq.ParquetWriter(os.fspath(path), schema) as writer:
        for files, pieces in walk_files(archive, url_prefix, left_out, progress):
            columns = _make_columns(files, schema)
            for rows in pieces:
                kept.append(pa.record_batch(_repeat(columns, rows, schema), schema=schema))
                count += len(rows.frame)
                if count >= _ROWS:
                    writer.write_table(pa.Table.from_batches(kept, schema))
                    total, count = total + count, 0
                    kept.clear()
        if kept:
            writer.write_table(pa.Table.from_batches(kept, schema))
    return total + count


def _make_columns(files: ExportedFiles, schema: Any) -> list[Any]:
    """Return the columns that all rows of a file have the same value in: a value a file."""
    import pyarrow as pa

    records, locations = files.records, files.location
    if not all(map(str.isascii, locations)):
        locations = [text.encode("utf-8", "backslashreplace").decode() for text in locations]
    values = (
        *(records.sop_instance_uid, records.series_instance_uid, locations),
        *(files.size, files.mtime_ns, files.etag_digest, records.transfer_syntax_uid),
        *(_make_shapes(files.shape), files.dtype),
    )
    return [
        value if isinstance(value, pa.Array) else pa.array(value, field.type)
        for value, field in zip(values, schema, strict=False)
    ]


def _make_shapes(shape: Numbers) -> Any:
    """Return the shapes of frames as lists: of two numbers, and of three for several samples."""
    import pyarrow as pa

    lengths = 2 + (shape[:, 2] > 1)
    kept = shape[np.arange(3) < lengths[:, np.newaxis]]
    ends = np.concatenate(([0], lengths.cumsum()))
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.array(kept.astype(np.int32), pa.int32())
    )


def _repeat(columns: list[Any], rows: FrameRows, schema: Any) -> list[Any]:
    """Return the columns of rows, those of their files first."""
    import pyarrow as pa

    table = rows.table
    if len(table) != len(columns[0]) or (table != np.arange(len(table))).any():
        places = pa.array(table)
        columns = [column.take(places) for column in columns]
    fields = list(schema)[len(columns) :]
    numbers = rows[1:]  # all but the table
    return columns + [
        pa.array(each).cast(field.type) for each, field in zip(numbers, fields, strict=True)
    ]
