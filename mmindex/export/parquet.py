"""Parquet: one row a fragment (package pyarrow, extra `export`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import MissingDependencyError
from mmindex.export.rows import Range, walk_files

if TYPE_CHECKING:
    from mmindex.read.archive import Archive

_ROWS = 1 << 16  # written together


def write_parquet(archive: Archive, path: str | os.PathLike[str], url_prefix: str = "") -> int:
    """Write one row a fragment; return the number of rows.

    Columns: sop_instance_uid, series_instance_uid, path (or url), size, mtime_ns, etag_digest,
    transfer_syntax_uid, shape (a list), dtype, frame, fragment, offset, length, first_bit.

    Raises
    ------
    MissingDependencyError
        pyarrow is not installed.
    IndexFormatError, StaleIndexError, MissingFileError
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
    total = 0
    with pq.ParquetWriter(os.fspath(path), schema) as writer:
        files: list[tuple[object, ...]] = []  # values that all rows of a file have
        counts: list[int] = []  # rows of each
        ranges: list[Range] = []

        def flush() -> None:
            rows = np.repeat(np.arange(len(files)), counts)
            columns = [
                pa.array(values, field.type).take(pa.array(rows))
                for values, field in zip(zip(*files, strict=True), schema, strict=False)
            ]
            numbers = np.array(ranges, np.int64)
            fields = list(schema)[len(columns) :]
            columns += [pa.array(numbers[:, at]).cast(each.type) for at, each in enumerate(fields)]
            writer.write_table(pa.table(columns, schema=schema))
            for kept in (files, counts, ranges):
                kept.clear()

        for file in walk_files(archive, url_prefix):
            record = file.record
            location = file.location.encode("utf-8", "backslashreplace").decode()
            same = (
                *(record.sop_instance_uid, record.series_instance_uid, location, *file.version),
                *(record.transfer_syntax_uid, file.shape, file.dtype),
            )
            for start in range(0, len(file.ranges), _ROWS):
                some = file.ranges[start : start + _ROWS]
                files.append(same)
                counts.append(len(some))
                ranges += some
                total += len(some)
                if len(ranges) >= _ROWS:
                    flush()
        if ranges:
            flush()
    return total
