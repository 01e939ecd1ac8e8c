"""Encapsulated pixel data: items and offset tables -> FrameTable (PS3.5 Annex A.4).

A table is proved before it is used: in one numpy gather where each entry leads exactly to the
next, else against a walk of every item. `boundaries.py` decides where tables, start markers and
Number of Frames differ. Nothing is ever searched for, since a fragment may contain any byte
pattern.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmindex.errors import AmbiguousFramesError, TruncatedFrameError
from mmindex.frame_table import ITEM_HEADER_LENGTH, FrameTable, Layout
from mmindex.model import Anomaly, Boundaries
from mmindex.scan.boundaries import (
    Reading,
    count_fragments,
    decide,
    explain,
    last_is_whole,
    name_boundaries,
    read_markers,
)
from mmindex.scan.encapsulated_value import PixelDataValue, StoredTable
from mmindex.scan.frame_count import FrameCount
from mmindex.scan.items import (
    LONGEST_HEAD,
    RAW_TAGS,
    Ending,
    Items,
    chain_items,
    end_with,
    note_fragments,
    walk_items,
)
from mmindex.scan.offset_tables import (
    WRAP,
    Match,
    OffsetTable,
    find_agreed_starts,
    find_padding,
    has_exact_lengths,
    match_table,
    read_tables,
    unwrap,
)
from mmindex.scan.transfer_syntax import Codec
from mmindex.scan.trusted_tables import make_trusted, pack_flags, skip_items, trust_table

if TYPE_CHECKING:
    from mmindex.scan.items import Flags, Offsets


def scan_encapsulated(
    value: PixelDataValue,
    codec: Codec,
    frame_count: FrameCount,
    extended_offset_table: StoredTable | None,
    anomalies: list[Anomaly],
    *,
    prove: bool = True,
) -> tuple[FrameTable, Boundaries]:
    """Find the frames of encapsulated pixel data, noting anomalies.

    Parameters
    ----------
    frame_count : FrameCount
        (0028,0008); where it is absent or no number, a table's entries count.
    prove : bool
        Look at every entry of a table, not only at some.

    Raises
    ------
    FormatError
        The items are broken or fewer than the frames; AmbiguousFramesError where several
        readings of the boundaries fit, TruncatedFrameError where the file ends too early to tell.
    """
    number_of_frames, is_clean = frame_count
    tables, origin = read_tables(value, extended_offset_table, codec)
    if origin == value.value_offset:
        anomalies.append(Anomaly("no-basic-offset-table", origin))
    if codec is Codec.VIDEO:
        return _scan_stream(value, origin, tables, anomalies), Boundaries.ALL_FRAGMENTS
    if not prove:
        for table in tables:
            if table.whole and is_clean and number_of_frames in (None, table.count):
                trusted = trust_table(value, origin, table, codec, anomalies)
                if trusted is not None:
                    return trusted, table.kind
    items, is_chain = _find_items(value, origin, tables)
    note_fragments(items, anomalies)
    if items.closed and is_clean and items.all_filled:
        if is_chain and len(tables) == 1 and _is_exact(tables[0], items, number_of_frames):
            return _serve_chain(items, tables[0], anomalies), tables[0].kind
        if not tables and number_of_frames in (None, 1) and len(items.starts) == 1:
            return _make_table(items, np.zeros(1, np.int64), 1, 1, None), Boundaries.ALL_FRAGMENTS
        count = len(items.starts)
        if not tables and number_of_frames == count == np.count_nonzero(
            items.find_beginnings(codec)
        ):
            frames = _make_table(items, None, count, count, None)
            return frames, Boundaries.ONE_FRAGMENT_A_FRAME
    matches = [match_table(table, items, codec) for table in tables]
    if not items.closed and all(match.first_fragments is None for match in matches):
        agreed = find_agreed_starts(tables, items, number_of_frames)
        if agreed is not None:
            return _serve_agreed(items, *agreed, codec, anomalies)
    witnesses = _hear(items, matches, codec, frame_count)
    reading = _decide(witnesses, codec, anomalies)
    return _locate(witnesses, reading, codec, anomalies), name_boundaries(reading, witnesses.filled)


def _find_items(
    value: PixelDataValue, origin: int, tables: list[OffsetTable]
) -> tuple[Items, bool]:
    """Return the items, and whether the first table has an entry for each; else they are walked."""
    if tables:
        chained = chain_items(value, origin, unwrap(tables[0], value.end - origin))
        if chained is not None:
            return chained, True
    return walk_items(value, origin), False


def _is_exact(table: OffsetTable, items: Items, number_of_frames: int | None) -> bool:
    """Return whether a table whose entries lead from item to item has one for each frame."""
    return table.whole and len(items.starts) == table.count == number_of_frames


def _serve_chain(items: Items, table: OffsetTable, anomalies: list[Anomaly]) -> FrameTable:
    """Return the frame table of a table whose every entry leads to the next, one fragment a frame.

    Number of Frames agrees. Start markers could overrule neither, and are not read.
    """
    if items.end > WRAP and not np.array_equal(items.starts, table.entries):
        anomalies.append(table.anomaly("bot-wrapped"))
    count = table.count
    trimmed = find_padding(table, items.lengths, anomalies)
    return _make_table(items, None, count, count, trimmed)


class _Witnesses(NamedTuple):
    """The evidence of the items, the tables and Number of Frames.

    `begins` says of each item whether a start marker is there, `filled` which items are not
    empty; `usable` has the matches of `tables`, the readings of those that can be used.
    """

    items: Items
    matches: list[Match]
    number_of_frames: int | None
    begins: Flags
    filled: Offsets
    markers: Reading | None
    usable: list[Match]
    tables: list[Reading]

    @property
    def readings(self) -> list[Reading]:
        """The evidence of tables and start markers, as far as there are any."""
        return self.tables + ([] if self.markers is None else [self.markers])


def _hear(items: Items, matches: list[Match], codec: Codec, frame_count: FrameCount) -> _Witnesses:
    """Return the witnesses; Number of Frames that is absent or not borne out is silent or 1."""
    number_of_frames, is_clean = frame_count
    begins = items.find_beginnings(codec)
    markers, filled = read_markers(begins, items, number_of_frames)
    usable, tables = [], []
    for match in matches:
        if match.first_fragments is not None:
            usable.append(match)
            at = np.searchsorted(filled, match.first_fragments)
            tables.append(Reading(match.table.kind, at, match.table.count))
    if not is_clean:
        said = {len(filled)} | {reading.count for reading in tables}
        said |= set() if markers is None else {markers.count}
        number_of_frames = number_of_frames if number_of_frames in said else None
    if number_of_frames is None and not tables:
        if not is_clean and markers is None and len(filled) > 1:
            raise AmbiguousFramesError(
                f"expected Number of Frames (0028,0008), found no number that {len(filled)} "
                "fragments confirm, and no table or start marker",
                offset=items.origin,
            )
        number_of_frames = 1
    return _Witnesses(items, matches, number_of_frames, begins, filled, markers, usable, tables)


def _decide(witnesses: _Witnesses, codec: Codec, anomalies: list[Anomaly]) -> Reading:
    """Return the frames that the witnesses decide for, noting those that stand against."""
    items, count, readings = witnesses.items, witnesses.number_of_frames, witnesses.readings
    dropped = [match for match in witnesses.matches if match.first_fragments is None]
    for match in dropped:
        is_count = count not in (None, match.table.count)
        code = f"{match.table.prefix}-count" if is_count else match.problem
        anomalies.append(match.table.anomaly(code))
    if not readings:
        for match in dropped:
            _check_dropped(match.table, items, codec, count or 1)
        return count_fragments(items, count or 1, witnesses.filled, codec)
    reading = decide(count, readings)
    if reading is None:
        raise AmbiguousFramesError(explain(count, readings, items), offset=items.origin)
    first = True
    for match, said in zip(witnesses.usable, witnesses.tables, strict=True):
        table = match.table
        if not said.agrees(reading) and said.count != reading.count:
            anomalies.append(table.anomaly(f"{table.prefix}-count"))
        elif not said.agrees(reading):
            anomalies.append(table.anomaly(f"{table.prefix}-off-frame"))
        elif not first:
            anomalies.append(table.anomaly("eot-with-bot"))
        elif match.problem:
            anomalies.append(table.anomaly(match.problem))
        first = first and not said.agrees(reading)
    if count not in (None, reading.count):
        anomalies.append(Anomaly("number-of-frames", items.origin))
    if witnesses.markers is not None and not witnesses.markers.agrees(reading):
        anomalies.append(Anomaly("start-markers", items.origin))
    return reading


def _check_dropped(table: OffsetTable, items: Items, codec: Codec, number_of_frames: int) -> None:
    """Raise where what is dropped as a table may be the first fragment (rule R42).

    Without a start marker anywhere, a Basic Offset Table is dropped only under a codec that has
    none, where the table has one entry a frame and the first is 0.
    """
    is_shaped = table.whole and table.count == number_of_frames and table.begins_at_0
    if codec.start_markers or (table.prefix == "bot" and not is_shaped):
        raise AmbiguousFramesError(
            "the offset table is wrong, and the first fragment does not begin like a frame of "
            f"{codec.value}: expected a table of {number_of_frames} entries, found "
            f"{table.count}",
            offset=table.table_offset,
        )


def _locate(
    witnesses: _Witnesses, reading: Reading, codec: Codec, anomalies: list[Anomaly]
) -> FrameTable:
    """Return the frame table of a reading, as far as its frames are whole."""
    items, filled = witnesses.items, witnesses.filled
    chosen = None
    first_fragments = filled[reading.begins]
    first_fragments[0] = 0  # an empty fragment before it joins
    for match, said in zip(witnesses.usable, witnesses.tables, strict=True):
        if said is reading and match.first_fragments is not None:
            chosen, first_fragments = match.table, match.first_fragments
    located = len(first_fragments)
    lost = located < reading.count
    next_start = None
    if chosen is not None and lost:
        next_start = int(unwrap(chosen, items.available)[located])
    if not last_is_whole(items, first_fragments, codec, witnesses.begins, next_start, lost):
        located -= 1
        if items.ending not in (Ending.CUT_ITEM, Ending.CUT_HEADER):
            anomalies.append(Anomaly("truncated-fragment", items.header_offset(-1)))
    if codec is Codec.RLE and len(filled) > len(reading.begins):
        anomalies.append(Anomaly("fragmented-rle", items.origin))
    trimmed = None
    if chosen is not None:
        trimmed = find_padding(chosen, items.lengths[filled][:located], anomalies)
    return _make_table(items, first_fragments, located, reading.count, trimmed)


def _make_table(
    items: Items,
    first_fragments: Offsets | None,
    located: int,
    number_of_frames: int,
    trimmed: Flags | None,
) -> FrameTable:
    """Return the frame table, packed; without `first_fragments`, every fragment is a frame."""
    count, entry_size = len(items.starts), 4 if items.end < WRAP else 8
    kind = f"<u{entry_size}"
    packed = items.bounds.astype(kind).tobytes()
    layout = Layout.FRAGMENT_A_FRAME
    if first_fragments is not None:
        claimed = count if located == len(first_fragments) else int(first_fragments[located])
        if claimed != located:  # first fragments increase from 0: else there is one a frame
            layout = Layout.FRAGMENTS
            packed = end_with(first_fragments[:located], claimed).astype(kind).tobytes() + packed
    return FrameTable(
        layout=layout,
        number_of_frames=number_of_frames,
        frames_located=located,
        number_of_fragments=count,
        value_offset=items.origin,
        entry_size=entry_size,
        trimmed=trimmed is not None,
        entries=packed + pack_flags(trimmed),
    )


def _serve_agreed(
    items: Items, table: OffsetTable, starts: Offsets, codec: Codec, anomalies: list[Anomaly]
) -> tuple[FrameTable, Boundaries]:
    """Return the frame table of two tables that agree against a damaged item (rule R53).

    A frame is looked at when it is read; the one that the damage touches does not lead to the next
    and raises.
    """
    value, last = items.value, int(starts[-1])
    end, _ = skip_items(value, items.origin + last, value.end, codec)
    if table.lengths is not None and has_exact_lengths(table, starts):
        length = int(table.lengths[-1])
        end = items.origin + last + ITEM_HEADER_LENGTH + length + (length & 1)
    if end <= value.end and value.tag_at(end) == RAW_TAGS[value.byte_order][1]:
        starts = end_with(starts, end - items.origin)
    anomalies.append(Anomaly("item-length", items.header_offset(-1)))
    trimmed = find_padding(table, np.diff(starts) - ITEM_HEADER_LENGTH, anomalies)
    return make_trusted(items.origin, starts, table.count, trimmed), table.kind


def _scan_stream(
    value: PixelDataValue, origin: int, tables: list[OffsetTable], anomalies: list[Anomaly]
) -> FrameTable:
    """Return the frame table of a video stream: all fragments, as one frame (rule R20).

    What is there of the stream can be read, but for what is not of it.

    Raises
    ------
    AmbiguousFramesError
        The first item is no table, and the second does not begin a stream (rule R42).
    """
    items = walk_items(value, origin)
    note_fragments(items, anomalies)
    filled = np.flatnonzero(items.lengths > 0)
    count_fragments(items, 1, filled, Codec.VIDEO)
    if items.truncated and value.end < len(value.buffer):
        raise TruncatedFrameError(
            "the last fragment runs past the end of the value", offset=items.header_offset(-1)
        )
    for table in tables:
        if table.prefix == "bot" and not (table.whole and table.begins_at_0):
            anomalies.append(table.anomaly("bot-off-item"))
            start, end = items.value_range(int(filled[0]))
            if not Codec.VIDEO.begins(bytes(value.buffer[start : min(end, start + LONGEST_HEAD)])):
                raise AmbiguousFramesError(
                    "the first item is neither a Basic Offset Table nor the beginning of a "
                    "video stream, nor is the second",
                    offset=table.table_offset,
                )
    return _make_table(items, np.zeros(1, np.int64), 1, 1, None)
