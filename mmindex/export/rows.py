"""One row a fragment of every frame that has bytes of its own, from an index alone.

Left out are deflated data sets and video streams, whose frames have no bytes of their own, and
frames that the end of their file cut off. No file is opened, but those of an index that was
built with prove=False, whose items only the files show.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from mmindex.frame_table import ITEM_HEADER_LENGTH, ByteRange, FrameTable, Layout
from mmindex.model import InstanceRecord, Status, VersionKind

if TYPE_CHECKING:
    from mmindex.read.archive import Archive

_MANY = 16  # frames, from which numpy is faster
Range = tuple[int, int, int, int, int]  # see ExportedFile.ranges


class ExportedFile(NamedTuple):
    """A file whose frames are exported.

    Attributes
    ----------
    location : str
        Path in the archive, or the URL prefix with this path; of a member of a container, that of
        the container, in which its ranges count.
    shape : tuple of int
        (rows, columns) of a frame, and samples where there are several.
    dtype : str
        numpy's name of the samples' type, such as "<u2"; empty where they are no whole bytes.
    ranges : list of (int, int, int, int, int)
        Frame index, fragment of the frame, offset and length in bytes, first bit in the first byte.
    """

    record: InstanceRecord
    location: str
    shape: tuple[int, ...]
    dtype: str
    ranges: list[Range]

    @property
    def version(self) -> tuple[int | None, int | None, str | None]:
        """Size in bytes, modification time in ns, and of an object the digest of its ETag, if any.

        The digest is the one that the record keeps (see `Fingerprint`), in 16 hexadecimal digits.
        """
        version = self.record.fingerprint
        if version is None:
            return None, None, None
        has_etag = version.kind == VersionKind.REMOTE and version.inode
        etag = f"{version.inode:016x}" if has_etag else None
        return version.size, version.mtime_ns, etag


def walk_files(archive: Archive, url_prefix: str = "") -> Iterator[ExportedFile]:
    """Yield the files that have frames of their own bytes, in the order of the index.

    Parameters
    ----------
    url_prefix : str
        What stands before the path; the path is then quoted as in a URL.

    Raises
    ------
    IndexFormatError
        The index is damaged.
    StaleIndexError, MissingFileError
        A file that has to be opened changed, or is gone.
    """
    for record in archive.records():
        if record.status is not Status.INDEXED or record.frames is None:
            continue
        image = record.image_pixel
        samples = image.samples_per_pixel or 1
        shape = (image.rows or 0, image.columns or 0, *((samples,) if samples > 1 else ()))
        path = os.fsdecode(record.path)
        if url_prefix:
            path = url_prefix + quote(record.path)
        table = record.frames
        ranges = _list_native(table) if table.layout is Layout.NATIVE else _list_fragments(table)
        if ranges is None:
            ranges = list(_walk_ranges(archive, record, table))
        yield ExportedFile(record, path, shape, _name_dtype(record), ranges)


def _walk_ranges(archive: Archive, record: InstanceRecord, table: FrameTable) -> Iterator[Range]:
    if table.layout is Layout.TRUSTED:
        with archive.file(record.key) as instance:
            for frame_index in range(table.frames_located):
                yield from _number(frame_index, instance.byte_ranges(frame_index))
        return
    for frame_index in range(table.frames_located):
        yield from _number(frame_index, table.fragment_ranges(frame_index))


def _list_native(table: FrameTable) -> list[Range]:
    """Return the ranges of native frames, which cover their bits (see `fragment_ranges`)."""
    begin, bits = table.value_offset, table.frame_bits
    firsts = range(0, table.frames_located * table.stride_bits, table.stride_bits)
    return [
        (frame, 0, begin + (first >> 3), (first + bits + 7 >> 3) - (first >> 3), first & 7)
        for frame, first in enumerate(firsts)
    ]


def _list_fragments(table: FrameTable) -> list[Range] | None:
    """Return the ranges of frames in fragments, by numpy; None of other tables."""
    count = table.frames_located
    if table.layout is Layout.TRUSTED or table.trimmed or count < _MANY:
        return None
    import numpy as np

    entries = np.frombuffer(table.entries[:], f"<u{table.entry_size}").astype(np.int64)
    firsts, starts = np.arange(count + 1), entries
    if table.layout is Layout.FRAGMENTS:
        firsts, starts = entries[: count + 1], entries[count + 1 :]
    counts, lengths = np.diff(firsts), np.diff(starts) - ITEM_HEADER_LENGTH
    first, last = int(firsts[0]), int(firsts[-1])
    if int(counts.min()) < 1 or int(lengths.min()) < 0 or last > len(lengths):
        return None  # damage, which is reported frame by frame
    offsets = starts[first:last] + (table.value_offset + ITEM_HEADER_LENGTH)
    frames = np.repeat(np.arange(count), counts)
    fragments = np.arange(first, last) - np.repeat(firsts[:-1], counts)
    columns = frames, fragments, offsets, lengths[first:last]
    return list(zip(*(column.tolist() for column in columns), repeat(0), strict=False))


def _number(frame_index: int, ranges: tuple[ByteRange, ...]) -> Iterator[Range]:
    for fragment, (offset, length) in enumerate(ranges):
        yield frame_index, fragment, offset, length, 0


def _name_dtype(record: InstanceRecord) -> str:
    image = record.image_pixel
    bits = image.bits_allocated or 0
    kind = "i" if image.pixel_representation else "u"
    if image.pixel_keyword != "PixelData":
        kind, bits = "f", 64 if image.pixel_keyword == "DoubleFloatPixelData" else 32
    if bits not in (8, 16, 32, 64):
        return ""
    order = "|" if bits == 8 else ">" if record.big_endian else "<"
    return f"{order}{kind}{bits // 8}"
