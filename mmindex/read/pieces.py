"""A frame out of its pieces: fragments that are joined, bits that are moved (PS3.5 A.4, 8.2)."""

from __future__ import annotations

from collections.abc import Iterator

from mmindex.errors import FormatError
from mmindex.model import Boundaries, ByteRange, FrameTable, InstanceRecord, Layout
from mmindex.read.native import cover_words, shift_bits, swaps_pairs, unswap
from mmindex.scan.transfer_syntax import Codec, find_transfer_syntax
from mmindex.sources.base import ByteSource


def cover_frame(record: InstanceRecord, table: FrameTable, frame_index: int) -> ByteRange:
    """Return the bytes to be read for a frame: its own, or from its first to its last.

    Raises
    ------
    FrameIndexError, TruncatedFrameError, IndexFormatError
        As `FrameTable.fragment_ranges`.
    """
    place = table.contiguous_range(frame_index)
    if place is not None:
        return ByteRange(*place)
    if table.layout is Layout.TRUSTED:
        return table.span(frame_index)
    if table.frame_bits and swaps_pairs(record):
        return cover_words(table, frame_index)
    ranges = table.fragment_ranges(frame_index)
    start = ranges[0].offset
    return ByteRange(start, ranges[-1].offset + ranges[-1].length - start)


def join_frame(
    record: InstanceRecord,
    table: FrameTable,
    frame_index: int,
    covering: ByteRange,
    data: bytes,
) -> bytes:
    """Return a frame out of the bytes that cover it.

    Raises
    ------
    FormatError
        The entry of a trusted offset table is wrong.
    """
    if table.contiguous_range(frame_index) is not None:
        return data
    if table.frame_bits:
        if swaps_pairs(record):
            data = unswap(data, table, frame_index)
        return shift_bits(data, table, frame_index)
    start = covering.offset
    if table.layout is Layout.TRUSTED:
        items = _parse_span(record, frame_index, data, start)
        ranges = table.without_padding(frame_index, items)
    else:
        ranges = table.fragment_ranges(frame_index)
    with memoryview(data) as view:
        return b"".join(
            view[piece.offset - start : piece.offset - start + piece.length] for piece in ranges
        )


def find_ranges(
    record: InstanceRecord, table: FrameTable, frame_index: int, source: ByteSource
) -> tuple[ByteRange, ...]:
    """Return where a frame's fragments are, reading their headers if need be.

    Raises
    ------
    FrameIndexError, TruncatedFrameError, IndexFormatError, StaleIndexError, MissingFileError
        As `FrameTable.fragment_ranges` and `ByteSource.read`.
    FormatError
        The entry of a trusted offset table is wrong.
    """
    if table.layout is not Layout.TRUSTED:
        return table.fragment_ranges(frame_index)
    span = table.span(frame_index)
    items = _parse_span(record, frame_index, source.read(*span), span.offset)
    return table.without_padding(frame_index, items)


def walk_fragments(
    record: InstanceRecord, table: FrameTable, source: ByteSource
) -> Iterator[ByteRange]:
    """Yield where every fragment is, padding included; raises what `find_ranges` raises."""
    if table.layout is not Layout.TRUSTED:
        yield from table.all_fragment_ranges()
        return
    for frame_index in range(table.frames_located):
        span = table.span(frame_index)
        yield from _parse_span(record, frame_index, source.read(*span), span.offset)


def _parse_span(
    record: InstanceRecord, frame_index: int, data: bytes, start: int
) -> list[ByteRange]:
    """Return the fragments of a frame of a trusted table, whose items are `data`."""
    from mmindex.scan.items import parse_items  # needs numpy

    ranges = parse_items(data, start, ">" if record.big_endian else "<")
    codec = find_transfer_syntax(record.transfer_syntax_uid).codec
    one = record.boundaries is Boundaries.EXTENDED_OFFSET_TABLE or codec is Codec.ONE_FRAGMENT
    if ranges is None or (one and len(ranges) > 1):
        raise FormatError(
            f"the offset table's entry of frame index {frame_index} is wrong: build the index "
            "without trusting offset tables",
            offset=start,
        )
    return ranges
