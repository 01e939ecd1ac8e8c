"""Encapsulated pixel data: items and offset tables -> FrameTable (PS3.5 Annex A.4).

A table is proved before it is used: in one numpy gather where each entry leads exactly to the
next, else against a walk of every item. Without a usable table, `boundaries.py` decides. Nothing
is ever searched for, since a fragment may contain any byte pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import TruncatedFrameError
from mmindex.frame_table import ITEM_HEADER_LENGTH, FrameTable, Layout
from mmindex.model import Anomaly, Boundaries, Buffer
from mmindex.scan.boundaries import find_first_fragments, last_frame_is_cut
from mmindex.scan.items import (
    Items,
    PixelDataValue,
    chain_items,
    close_items,
    note_fragments,
    skip_items,
    walk_items,
)
from mmindex.scan.offset_tables import (
    WRAP,
    OffsetTable,
    find_padding,
    match_table,
    read_tables,
    unwrap,
)
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from mmindex.scan.items import Offsets
    from mmindex.scan.offset_tables import Flags

_SAMPLES = 16  # entries of a trusted table that are looked at


def scan_encapsulated(
    buffer: Buffer,
    value: PixelDataValue,
    codec: Codec,
    number_of_frames: int | None,
    extended_offset_table: OffsetTable | None,
    anomalies: list[Anomaly],
    *,
    trust_offset_tables: bool = False,
) -> tuple[FrameTable, Boundaries]:
    """Find the frames of encapsulated pixel data, noting anomalies.

    Parameters
    ----------
    number_of_frames : int or None
        (0028,0008); None where it is absent or unusable (then a table's entries count).
    trust_offset_tables : bool
        Take a table's entries after a look at some of them.

    Raises
    ------
    FormatError
        The items are broken or fewer than the frames; AmbiguousFramesError where the boundaries
        cannot be told, TruncatedFrameError where the file ends too early to tell.
    """
    tables, origin = read_tables(buffer, value, extended_offset_table)
    if codec is Codec.VIDEO:
        tables, number_of_frames = [], 1
    usable = []
    for table in tables:
        if number_of_frames is None or len(table.entries) == number_of_frames:
            usable.append(table)
        else:
            anomalies.append(Anomaly(f"{table.prefix}-count", table.table_offset))

    if trust_offset_tables and usable:
        trusted = _trust_table(buffer, value, origin, usable[0], codec, anomalies)
        if trusted is not None:
            return trusted, usable[0].kind
    items = None
    if usable:
        starts = unwrap(usable[0], value.end - origin)
        items = chain_items(buffer, value, origin, starts)
    if items is None:
        items = walk_items(buffer, value, origin)
    note_fragments(items, anomalies)

    chosen: OffsetTable | None = None
    first_fragments: Offsets | None = None
    for table in usable:
        matched, problem = match_table(table, items, codec)
        if matched is None:
            anomalies.append(Anomaly(problem, table.table_offset))
        elif first_fragments is None:
            chosen, first_fragments = table, matched
            if problem:
                anomalies.append(Anomaly(problem, table.table_offset))
        elif np.array_equal(matched, first_fragments):
            anomalies.append(Anomaly("eot-with-bot", table.table_offset))
        else:
            anomalies.append(Anomaly("bot-off-item", table.table_offset))

    if chosen is not None and first_fragments is not None:
        boundaries = chosen.kind
        number_of_frames = len(chosen.entries)
    else:
        number_of_frames = number_of_frames or 1
        first_fragments, boundaries = find_first_fragments(buffer, items, number_of_frames, codec)
    if codec is Codec.VIDEO:
        located = 1  # what is there of the stream can be read, but for what is not of it
        if items.truncated and value.end < len(buffer):
            raise TruncatedFrameError(
                "the last fragment runs past the end of the value", offset=items.header_offset(-1)
            )
    else:
        located = _count_located(buffer, items, first_fragments, number_of_frames, codec, chosen)
    if located < len(first_fragments) and not items.truncated:
        anomalies.append(Anomaly("truncated-fragment", items.header_offset(-1)))
    trimmed = None
    if chosen is not None:
        owned = items.lengths[items.lengths > 0][:located]
        trimmed = find_padding(chosen, owned, anomalies)
    frames = _make_table(items, first_fragments, located, number_of_frames, trimmed)
    return frames, boundaries


def _count_located(
    buffer: Buffer,
    items: Items,
    first_fragments: Offsets,
    number_of_frames: int,
    codec: Codec,
    table: OffsetTable | None,
) -> int:
    """Return how many frames are there from their first fragment to the end of their last."""
    located = len(first_fragments)
    if items.truncated:
        return located - 1
    if items.closed:
        return located
    lost = located < number_of_frames
    if lost and table is not None:
        ends_where_next_begins = unwrap(table, items.available)[located] == items.end
        return located if ends_where_next_begins else located - 1
    if codec is Codec.ONE_FRAGMENT:
        return located
    cut = last_frame_is_cut(buffer, items, first_fragments, codec)
    return located - 1 if cut or (lost and not codec.end_marker) else located


def _trust_table(
    buffer: Buffer,
    value: PixelDataValue,
    origin: int,
    table: OffsetTable,
    codec: Codec,
    anomalies: list[Anomaly],
) -> FrameTable | None:
    """Return a frame table of the entries as they are, or None if a look at some finds one wrong.

    The first, the last and some between have to lead to the next by whole items, and the last to
    the sequence delimiter. Where fragments are within a frame is left open until it is read.
    """
    starts = unwrap(table, value.end - origin)
    if not len(starts) or starts[0] != 0 or int(starts.max()) > value.end - origin:
        return None
    if int(starts.min()) < 0 or (np.diff(starts) <= 0).any():
        return None
    last = len(starts) - 1
    samples = np.unique(np.linspace(0, last, _SAMPLES).astype(np.int64)).tolist()
    most = len(buffer)
    if table.kind is Boundaries.EXTENDED_OFFSET_TABLE or codec is Codec.ONE_FRAGMENT:
        most = 1  # fragment a frame
    end = origin
    for frame_index in samples:
        is_last = frame_index == last
        next_start = value.end if is_last else origin + int(starts[frame_index + 1])
        end, filled = skip_items(buffer, value, origin + int(starts[frame_index]), next_start)
        if not 1 <= filled <= most or (end != next_start and not is_last):
            return None
    if not close_items(buffer, value, origin, starts, end - origin).closed:
        return None
    starts = np.append(starts, end - origin)
    lengths = np.diff(starts) - ITEM_HEADER_LENGTH
    if table.lengths is not None and len(table.lengths) == len(lengths):
        excess = lengths - table.lengths
        if ((excess != 0) & (excess != 1)).any():
            return None  # some frame is more than one item
    trimmed = find_padding(table, lengths, anomalies)
    entry_size = 4 if end - origin < WRAP else 8
    return FrameTable(
        layout=Layout.TRUSTED,
        number_of_frames=last + 1,
        frames_located=last + 1,
        number_of_fragments=0,
        value_offset=origin,
        entry_size=entry_size,
        trimmed=trimmed is not None,
        entries=starts.astype(f"<u{entry_size}").tobytes() + _pack_flags(trimmed),
    )


def _pack_flags(flags: Flags | None) -> bytes:
    return b"" if flags is None else np.packbits(flags, bitorder="little").tobytes()


def _make_table(
    items: Items,
    first_fragments: Offsets,
    located: int,
    number_of_frames: int,
    trimmed: Flags | None,
) -> FrameTable:
    """Return the frame table, packed."""
    claims: Sequence[int] | Offsets = np.append(first_fragments, len(items.starts))[: located + 1]
    entry_size = 4 if items.end < WRAP else 8
    packed = np.append(items.starts, items.end).astype(f"<u{entry_size}").tobytes()
    layout = Layout.FRAGMENT_A_FRAME
    if not np.array_equal(claims, np.arange(located + 1)):
        layout = Layout.FRAGMENTS
        packed = np.asarray(claims).astype(f"<u{entry_size}").tobytes() + packed
    return FrameTable(
        layout=layout,
        number_of_frames=number_of_frames,
        frames_located=located,
        number_of_fragments=len(items.starts),
        value_offset=items.origin,
        entry_size=entry_size,
        trimmed=trimmed is not None,
        entries=packed + _pack_flags(trimmed),
    )
