"""kerchunk: references to frames in their files, which zarr reads through fsspec.

An instance is one Zarr (v2) array of chunks of one frame. Only native frames that are one run of
whole bytes in the order of the pixels are referred to; others are left out, each with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mmindex.export.rows import ExportedFile, walk_files
from mmindex.frame_table import Layout
from mmindex.model import Status

if TYPE_CHECKING:
    from mmindex.read.archive import Archive

LeftOut = Callable[[str, str], None]  # takes a file's path or URL, and why


def walk_references(
    archive: Archive, url_prefix: str = "", left_out: LeftOut | None = None
) -> Iterator[bytes]:
    """Yield the JSON of a reference file (version 1), an array a SOP Instance UID, in pieces.

    Parameters
    ----------
    url_prefix : str
        What stands before a path; the archive's folder unless given.
    left_out : callable, optional
        Called with the path or URL of each file that is left out, and why.

    Raises
    ------
    IndexFormatError, StaleIndexError, MissingFileError
        As `walk_files`.
    """
    yield b'{"version": 1, "refs": {\n".zgroup": "{\\"zarr_format\\": 2}"'
    seen: set[str] = set()
    for file in walk_files(archive, url_prefix):
        uid = file.record.sop_instance_uid
        reason = "another file has its SOP Instance UID" if uid in seen else _explain(file)
        location = file.location if url_prefix else archive.full_path(file.record)
        if reason:
            if left_out is not None:
                left_out(location, reason)
            continue
        seen.add(uid)
        yield _refer(file, location)
    yield b"\n}}\n"
    if left_out is not None:
        for record in archive.records():
            if record.status in (Status.DEFLATED, Status.STREAM):
                left_out(
                    archive.full_path(record), f"its frames are not ranges: {record.status.value}"
                )


def _explain(file: ExportedFile) -> str:
    """Return why the frames of a file cannot be chunks; empty where they can."""
    record, image, table = file.record, file.record.image_pixel, file.record.frames
    if table is None or table.layout is not Layout.NATIVE:
        return "its frames are compressed"
    if table.frames_located < table.number_of_frames:
        return "the file ends before its last frame"
    if not record.sop_instance_uid or "/" in record.sop_instance_uid:
        return "it has no SOP Instance UID"
    length = int(file.dtype[2:] or 0)
    for size in file.shape:
        length *= size
    if record.swaps_pairs or not length or table.frame_bits != 8 * length:
        return "its samples are not whole words in order"
    if len(file.shape) == 3 and image.planar_configuration:
        return "its samples are in planes"
    if image.photometric_interpretation.startswith("YBR"):
        return f"its colors are {image.photometric_interpretation}"
    if any(first_bit for *_, first_bit in file.ranges):
        return "its frames lie off byte boundaries"
    return ""


def _refer(file: ExportedFile, location: str) -> bytes:
    uid = file.record.sop_instance_uid
    axes = ["frame", "row", "column", "sample"][: 1 + len(file.shape)]
    array = {
        "zarr_format": 2,
        "shape": [file.record.number_of_frames, *file.shape],
        "chunks": [1, *file.shape],
        "dtype": file.dtype,
        "compressor": None,
        "filters": None,
        "fill_value": None,
        "order": "C",
    }
    attributes = {
        "_ARRAY_DIMENSIONS": axes,
        "photometric_interpretation": file.record.image_pixel.photometric_interpretation,
    }
    lines = [
        f",\n{json.dumps(f'{uid}/.zarray')}: {json.dumps(json.dumps(array))}",
        f",\n{json.dumps(f'{uid}/.zattrs')}: {json.dumps(json.dumps(attributes))}",
    ]
    url, rest = json.dumps(location), ".0" * len(file.shape)
    lines += [
        f',\n"{uid}/{frame}{rest}": [{url}, {offset}, {length}]'
        for frame, _, offset, length, _ in file.ranges
    ]
    return "".join(lines).encode()
