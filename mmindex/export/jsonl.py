"""JSON lines: one object a fragment, the columns of the Parquet table as keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmindex.export.rows import walk_files

if TYPE_CHECKING:
    from mmindex.read.archive import Archive


def walk_lines(archive: Archive, url_prefix: str = "") -> Iterator[bytes]:
    r"""Yield one line a fragment, as UTF-8 with its line end.

    A path whose bytes are no UTF-8 has surrogate escapes (\udc80 to \udcff), as os.fsdecode.

    Raises
    ------
    IndexFormatError, StaleIndexError, MissingFileError
        As `walk_files`.
    """
    encode = json.JSONEncoder(separators=(", ", ": ")).encode
    for file in walk_files(archive, url_prefix):
        record = file.record
        size, mtime_ns, etag = file.version
        before = encode(
            {
                "sop_instance_uid": record.sop_instance_uid,
                "series_instance_uid": record.series_instance_uid,
                "url" if url_prefix else "path": file.location,
                "size": size,
                "mtime_ns": mtime_ns,
                "etag_digest": etag,
                "transfer_syntax_uid": record.transfer_syntax_uid,
                "shape": list(file.shape),
                "dtype": file.dtype,
            }
        )[:-1]
        for frame, fragment, offset, length, first_bit in file.ranges:
            line = (
                f'{before}, "frame": {frame}, "fragment": {fragment}, "offset": {offset}, '
                f'"length": {length}, "first_bit": {first_bit}}}\n'
            )
            yield line.encode()
