"""kerchunk: references to frames in their files, which zarr reads through fsspec.

An instance is one Zarr (v2) array of chunks of one frame. Referred to are native frames that are
one run of whole bytes in the order of the pixels, and gray compressed frames of one fragment, which
zarr decodes with the codecs of imagecodecs. Others are left out, each with a reason.

A chunk has the samples as stored: bits above Bits Stored, such as overlays, are not cleared, and a
cut or damaged stream is what the codec makes of it. `Instance.array` and the store in zarr.py clear
these bits, and raise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING

import numpy as np

from mmindex.export.rows import (
    WITHOUT_RANGES,
    ExportedFiles,
    LeftOut,
    locate_files,
    walk_files,
)
from mmindex.frame_table import Layout
from mmindex.index.frame_rows import FrameRows
from mmindex.index.record_parts import BIG_ENDIAN
from mmindex.index.store import Store
from mmindex.scan.transfer_syntax import Codec, find_transfer_syntax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.read.archive import Archive
    from mmindex.read.listings import Progress

_AXES = "frame", "row", "column", "sample"
_BITS = "bits_stored", "high_bit", "pixel_representation"  # say which bits of a word are a sample
_CODECS = {  # of imagecodecs, by what the transfer syntax says
    Codec.JPEG: "imagecodecs_jpeg",
    Codec.JPEG_LS: "imagecodecs_jpegls",
    Codec.JPEG_2000: "imagecodecs_jpeg2k",
    Codec.RLE: "imagecodecs_dicomrle",
}
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLORS = "color: its colors are "
_COMPRESSED = "compressed: no codec of imagecodecs is sure to return its samples"


def walk_references(
    archive: Archive,
    url_prefix: str = "",
    left_out: LeftOut | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Yield the JSON of a reference file (version 1), an array a SOP Instance UID, in pieces.

    Parameters
    ----------
    url_prefix : str
        What stands before a path; the archive's folder unless given.
    left_out : callable, optional
        Called with the path or URL of each file that is left out, and why: a word, a colon and a
        sentence.
    progress : callable, optional
        As for `walk_files`.

    Raises
    ------
    IndexFormatError, StaleIndexError, MissingFileError, RemoteReadError
        As `walk_files`.
    """
    yield b'{"version": 1, "refs": {\n".zgroup": "{\\"zarr_format\\": 2}"'
    served = _find_served(archive)
    seen: set[str] = set()
    for files, pieces in walk_files(archive, url_prefix, progress=progress, opens=False):
        locations = files.location
        if not url_prefix:
            root = archive.root.rstrip("/") + "/"
            locations = locate_files(root, locations)
        reasons = _explain(files)
        paths, offsets = files.records.path, files.records.header["value_offset"].tolist()
        for at, uid in enumerate(files.records.sop_instance_uid):
            place = served.get(uid)
            if uid in seen or (place and place != (paths[at], offsets[at])):
                reasons[at] = "duplicate: another file has its SOP Instance UID"
            if not reasons[at]:
                seen.add(uid)
                yield _describe(files, at)
            elif left_out is not None:
                left_out(locations[at], reasons[at])
        is_kept = np.array([not reason for reason in reasons])
        for rows in pieces:
            yield _refer(files, locations, rows, is_kept[rows.table])
    yield b"\n}}\n"


def _find_served(archive: Archive) -> dict[str, tuple[str, int]]:
    """Return path and value offset of the file that is served, of each UID that several have."""
    with closing(Store(archive.path)) as store:
        if not store.count_duplicates("instances"):
            return {}
    found = {}
    for uid, _ in archive.duplicates():
        record = archive.record(uid)
        assert record.frames is not None
        found[uid] = os.fsdecode(record.path), record.frames.value_offset
    return found


def _explain(files: ExportedFiles) -> list[str]:
    """Return why the frames of each file cannot be chunks; empty where they can."""
    records, header = files.records, files.records.header
    sizes = np.array([int(dtype[2:] or 0) for dtype in files.dtype], np.int64)
    bits = 8 * sizes * files.shape.prod(axis=1)
    colors = records.photometric_interpretation
    is_native = header["layout"] == Layout.NATIVE
    swaps = (header["flags"] & BIG_ENDIAN > 0) & (header["pixel_vr"] == b"OW")
    swaps &= header["bits_allocated"] <= 8
    several = (header["frames_located"] > 1) & (header["stride_bits"] % 8 > 0)
    # The bits above Bits Stored are not the sign's, and no filter of Zarr extends another one.
    is_signed = (header["pixel_representation"] > 0) & (header["pixel_keyword"] == 0)
    is_signed &= header["bits_stored"] != header["bits_allocated"]
    is_cut = header["frames_located"] < header["table_frames"]
    in_planes = (files.shape[:, 2] > 1) & (header["planar_configuration"] > 0)
    is_packed = swaps | (bits == 0) | (header["frame_bits"] != bits)
    conditions = {
        **{reason: header["status"] == status for status, reason in WITHOUT_RANGES.items()},
        "truncated: the file ends before its last frame": is_cut,
        "unnamed: its SOP Instance UID is no name of an array": np.array(
            [not uid or "/" in uid or uid[0] in "._" for uid in records.sop_instance_uid], bool
        ),
        _COMPRESSED: ~is_native & ~_find_decodable(files),
        "packed: its samples are not whole words in order": is_native & is_packed,
        "signed: its samples have a sign within their words": is_native & is_signed,
        "planar: its samples are in planes": in_planes,
        _COLORS: np.array([color.startswith("YBR") for color in colors], bool),
        "unaligned: its frames lie off byte boundaries": is_native & several,
    }
    names = ["", *conditions]
    found = np.select(list(conditions.values()), list(range(1, len(names)))).tolist()
    reasons = [names[number] for number in found]
    return [
        reason + color if reason is _COLORS else reason
        for reason, color in zip(reasons, colors, strict=True)
    ]


def _find_decodable(files: ExportedFiles) -> NDArray[np.bool_]:
    """Return which files have compressed frames that a codec of imagecodecs makes the samples of.

    One fragment a frame; unsigned gray, whose samples need no conversion; as many bytes a sample as
    the codec returns. A stream of JPEG 2000 has a sign of its own, which makes no odds only where
    all bits are stored.
    """
    records, header = files.records, files.records.header
    codecs = [find_transfer_syntax(uid).codec for uid in records.transfer_syntax_uid]
    is_known = np.array([codec in _CODECS for codec in codecs], bool)
    is_gray = np.array([color in _GRAY for color in records.photometric_interpretation], bool)
    is_gray &= (files.shape[:, 2] == 1) & (header["pixel_representation"] == 0)
    stored, allocated = header["bits_stored"], header["bits_allocated"]
    fits = (stored == allocated) & ((allocated == 8) | (allocated == 16))
    has_no_sign = np.array([codec is not Codec.JPEG_2000 for codec in codecs], bool)
    fits |= has_no_sign & (allocated == 16) & (stored > 8) & (stored < 16)
    found: NDArray[np.bool_] = is_known & is_gray & fits
    found &= header["layout"] == Layout.FRAGMENT_A_FRAME
    return found


def _describe(files: ExportedFiles, at: int) -> bytes:
    """Return the metadata of a file's array."""
    header = files.records.header[at]
    rows, columns, samples = files.shape[at].tolist()
    shape = (rows, columns, samples) if samples > 1 else (rows, columns)
    bits = tuple(
        int(header[name]) if header[name] or header["bits_stored"] else None for name in _BITS
    )
    codec = ""
    if header["layout"] != Layout.NATIVE:
        codec = _CODECS[find_transfer_syntax(files.records.transfer_syntax_uid[at]).codec]
    colors = files.records.photometric_interpretation[at]
    number_of_frames = int(header["number_of_frames"])
    array, attributes = _encode(number_of_frames, shape, files.dtype[at], codec, colors, bits)
    key = quote(files.records.sop_instance_uid[at])[:-1]
    return f',\n{key}/.zarray": {array},\n{key}/.zattrs": {attributes}'.encode()


@lru_cache
def _encode(
    number_of_frames: int,
    shape: tuple[int, ...],
    dtype: str,
    codec: str,
    photometric_interpretation: str,
    bits: tuple[int | None, ...],
) -> tuple[str, str]:
    """Return the JSON of an array's metadata, each as a string in JSON.

    Names of dimensions have their sizes, since xarray wants one size a name in all of a group.
    """
    compressor = {"id": codec} if codec else None
    if codec == _CODECS[Codec.RLE]:
        compressor = {"id": codec, "dtype": dtype}
    array = {
        "zarr_format": 2,
        "shape": [number_of_frames, *shape],
        "chunks": [1, *shape],
        "dtype": dtype,
        "compressor": compressor,
        "filters": None,
        "fill_value": None,
        "order": "C",
    }
    sizes = zip(_AXES, (number_of_frames, *shape), strict=False)
    names = zip(_BITS, bits, strict=True)
    attributes = {
        "_ARRAY_DIMENSIONS": [f"{axis}_{size}" for axis, size in sizes],
        "photometric_interpretation": photometric_interpretation,
        **{name: value for name, value in names if value is not None},
    }
    return json.dumps(json.dumps(array)), json.dumps(json.dumps(attributes))


def _refer(
    files: ExportedFiles, locations: list[str], rows: FrameRows, is_kept: NDArray[np.bool_]
) -> bytes:
    """Return the references to frames."""
    keys = [quote(uid)[:-1] for uid in files.records.sop_instance_uid]
    urls = [quote(location) for location in locations]
    rests = [".0.0.0" if samples > 1 else ".0.0" for samples in files.shape[:, 2].tolist()]
    columns = (rows.table, rows.frame, rows.offset, rows.length)
    kept = (column[is_kept].tolist() for column in columns)
    lines = [
        f',\n{keys[at]}/{frame}{rests[at]}": [{urls[at]}, {offset}, {length}]'
        for at, frame, offset, length in zip(*kept, strict=True)
    ]
    return "".join(lines).encode()
