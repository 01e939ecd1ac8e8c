"""Offset tables that are not proved: some entries are looked at, the others when a frame is read.

A slide opens at the cost of a few page reads (`prove=False`). Count, order and bounds are
checked whole. Whether an entry between the samples leads to the first fragment of a frame, and not
to a later one, shows when the frame is read. A frame that may have several fragments must therefore
begin with a start marker, and so must the bytes after the frame: else part of it could be missing.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from mmindex.frame_table import ITEM_HEADER_LENGTH, ByteRange, FrameTable, Layout
from mmindex.model import Boundaries
from mmindex.scan.encapsulated_value import PixelDataValue
from mmindex.scan.items import RAW_TAGS, Ending, end_with, find_ending
from mmindex.scan.offset_tables import WRAP, OffsetTable, find_padding, unwrap
from mmindex.scan.read_ahead import looked_at_here_and_there, will_need
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmindex.model import Anomaly
    from mmindex.scan.items import Flags, Offsets

_SAMPLES = 16  # entries that are looked at
_FEW_SAMPLES, _LONG = 5, 1 << 26  # of a slide in a bucket, where each look is a request
_LOOK = ITEM_HEADER_LENGTH + 16  # bytes of an item that are looked at
_UNPACK_HEADER = {order: struct.Struct(order + "II").unpack_from for order in "<>"}
_HEAD = 16  # bytes of a fragment that show its start marker


def trust_table(
    value: PixelDataValue,
    origin: int,
    table: OffsetTable,
    codec: Codec,
    anomalies: list[Anomaly],
) -> FrameTable | None:
    """Return a frame table of the entries as they are, or None if a look at some finds one wrong.

    The first, the last and some between have to lead to the next by whole items, and the last to
    the sequence delimiter; all of these frames begin with a start marker, where the codec has one,
    and none of their other fragments does. Where fragments are within a frame
    is left open until the frame is read.
    """
    starts = unwrap(table, value.end - origin)
    if not (table.ordered and table.begins_at_0) or len(starts) < table.count:
        return None
    if np.count_nonzero(starts[1:] <= starts[:-1]) or int(starts[-1]) > value.end - origin:
        return None
    with looked_at_here_and_there(value.buffer):
        end = _look_at_samples(value, origin, starts, table, codec)
        if end is None or find_ending(value, end) is not Ending.CLOSED:
            return None
    bounds = end_with(starts, end - origin)
    lengths = bounds[1:] - starts
    lengths -= ITEM_HEADER_LENGTH
    noted: list[Anomaly] = []
    trimmed = find_padding(table, lengths, noted)
    if noted and table.has_all_lengths:
        return None  # some frame is more than one item
    anomalies += noted
    return make_trusted(origin, bounds, table.count, trimmed)


def sample_entries(starts: Offsets) -> list[int]:
    """Return which entries of a table are looked at: the first, the last and some between.

    Of frames that take over 64 MiB they are fewer.
    """
    last = len(starts) - 1
    count = _SAMPLES if int(starts[last]) < _LONG else _FEW_SAMPLES
    return sorted({last * sample // (count - 1) for sample in range(count)})


def make_trusted(
    origin: int, bounds: Offsets, number_of_frames: int, trimmed: Flags | None
) -> FrameTable:
    """Return the frame table of where frames begin, and where the last one ends."""
    entry_size = 4 if int(bounds[-1]) < WRAP else 8
    return FrameTable(
        layout=Layout.TRUSTED,
        number_of_frames=number_of_frames,
        frames_located=len(bounds) - 1,
        number_of_fragments=0,
        value_offset=origin,
        entry_size=entry_size,
        trimmed=trimmed is not None,
        entries=bounds.astype(f"<u{entry_size}").tobytes() + pack_flags(trimmed),
    )


def pack_flags(flags: Flags | None) -> bytes:
    """Return one bit a frame, the first one lowest; nothing of None."""
    return b"" if flags is None else np.packbits(flags, bitorder="little").tobytes()


def _look_at_samples(
    value: PixelDataValue, origin: int, starts: Offsets, table: OffsetTable, codec: Codec
) -> int | None:
    """Return the offset at which the last frame ends, None where a sample is wrong."""
    one = table.kind is Boundaries.EXTENDED_OFFSET_TABLE or codec is Codec.ONE_FRAGMENT
    samples = np.array(sample_entries(starts))
    places: list[int] = (origin + starts[samples]).tolist()
    next_starts = [*(origin + starts[samples[:-1] + 1]).tolist(), value.end]
    looks = [(place, place + _LOOK) for place in places]
    will_need(value.buffer, [*looks, (value.end - _LOOK, value.end)])
    end, begun = origin, set()
    for place, next_start in zip(places, next_starts, strict=True):
        end, begins = skip_items(value, place, next_start, codec)
        if end != next_start and place != places[-1]:
            return None
        if not _is_frame(begins, one):
            return None
        begun.add(begins[0])
    return end if begun == {bool(codec.start_markers)} else None


def _is_frame(begins: list[bool], one_fragment: bool) -> bool:
    """Return whether fragments of which these begin with a start marker can be one frame.

    Another frame's marker within it shows a wrong entry. A frame that may have several fragments
    has to begin with a marker.
    """
    if not begins or (one_fragment and len(begins) > 1) or any(begins[1:]):
        return False
    return begins[0] or one_fragment


def skip_items(
    value: PixelDataValue, position: int, end: int, codec: Codec
) -> tuple[int, list[bool]]:
    """Return where the run of items from `position` on ends or comes to `end`.

    And of each of its fragments that is not empty, whether it begins with a start marker.
    """
    item, _ = RAW_TAGS[value.byte_order]
    unpack, buffer, markers = _UNPACK_HEADER[value.byte_order], value.buffer, codec.start_markers
    last_header = min(end, value.end) - ITEM_HEADER_LENGTH
    begins = []
    while position <= last_header:
        tag, length = unpack(buffer, position)
        if tag != item:
            break
        position += ITEM_HEADER_LENGTH
        if length:
            head = bytes(buffer[position : position + min(length, _HEAD)])
            begins.append(head.startswith(markers))
        position += length
    return position, begins


def parse_frame(
    data: bytes, start: int, length: int, byte_order: str, codec: Codec, *, one_fragment: bool
) -> list[ByteRange] | None:
    """Return the fragments of the frame whose items begin at `start`.

    Parameters
    ----------
    data : bytes
        Its items, and the beginning of the frame after; nothing is behind those of the last one.
    length : int
        Bytes of its items.

    None where an entry is wrong: between it and the next is no run of whole items with something
    in them, or several fragments are where one is allowed, or another frame begins within; or the
    one begins with a start marker and what follows does not, or the other way round.
    """
    ranges, begins = [], []
    at = 0
    for at, size in _walk_headers(data[:length], byte_order):
        ranges.append(ByteRange(start + at, size))
        if size:
            begins.append(codec.begins(data[at : at + min(size, _HEAD)]))
        at += size
    if at != length or not _is_frame(begins, one_fragment):
        return None
    following = data[length:]
    if following and _begins_frame(following, byte_order, codec) is not begins[0]:
        return None
    return ranges


def _walk_headers(data: bytes, byte_order: str) -> Iterator[tuple[int, int]]:
    """Yield where the value of each item is, and its length, as far as items follow each other."""
    item, _ = RAW_TAGS[byte_order]
    unpack = _UNPACK_HEADER[byte_order]
    at = 0
    while at + ITEM_HEADER_LENGTH <= len(data):
        tag, length = unpack(data, at)
        if tag != item:
            return
        at += ITEM_HEADER_LENGTH
        yield at, length
        at += length


def _begins_frame(data: bytes, byte_order: str, codec: Codec) -> bool:
    """Return whether the first item that is not empty begins with a start marker."""
    for at, length in _walk_headers(data, byte_order):
        if length:
            return codec.begins(data[at : at + _HEAD])
    return False
