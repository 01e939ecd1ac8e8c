"""Encapsulated pixel data: items and offset tables -> FrameTable (PS3.5 Annex A.4).

A table is proved before it is used: in one numpy gather where each entry leads exactly to the
next, else against a walk of every item. Without a usable table, `boundaries.py` decides. Nothing
is ever searched for, since a fragment may contain any byte pattern.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import FormatError, TruncatedFrameError
from mmindex.model import (
    ITEM_HEADER_LENGTH,
    Anomaly,
    Boundaries,
    Buffer,
    FrameTable,
    Layout,
)
from mmindex.scan import tags
from mmindex.scan.boundaries import Items, find_first_fragments, last_frame_is_cut
from mmindex.scan.elements import UNDEFINED_LENGTH
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.scan.boundaries import Offsets

    Flags = NDArray[np.bool_]

_WRAP = 1 << 32  # where the 32-bit entries of a Basic Offset Table begin again at 0
_RAW_TAGS = {  # item and sequence delimiter as the first half of an 8-byte header reads
    "<": (0xE000_FFFE, 0xE0DD_FFFE),
    ">": (tags.ITEM, tags.SEQUENCE_DELIMITATION),
}


@dataclass(frozen=True, slots=True)
class PixelDataValue:
    """The value of an encapsulated pixel data element.

    `end` is the end of the value where its length is defined, else the end of the data;
    `byte_order` is "<" or ">".
    """

    value_offset: int
    end: int
    defined_length: bool = False
    byte_order: str = "<"


@dataclass(frozen=True, slots=True)
class OffsetTable:
    """An offset table: where each frame's first item is, from the first byte after the first item.

    `lengths` are those of the frames, which only an Extended Offset Table has.
    """

    kind: Boundaries
    table_offset: int
    entries: Offsets
    lengths: Offsets | None = None

    @property
    def prefix(self) -> str:
        """Beginning of the codes of its anomalies."""
        return "bot" if self.kind is Boundaries.BASIC_OFFSET_TABLE else "eot"


def scan_encapsulated(
    buffer: Buffer,
    value: PixelDataValue,
    codec: Codec,
    number_of_frames: int | None,
    extended_offset_table: OffsetTable | None,
    anomalies: list[Anomaly],
) -> tuple[FrameTable, Boundaries]:
    """Find the frames of encapsulated pixel data, noting anomalies.

    Parameters
    ----------
    number_of_frames : int or None
        (0028,0008); None where it is absent or unusable (then a table's entries count).

    Raises
    ------
    FormatError
        The items are broken or fewer than the frames; AmbiguousFramesError where the boundaries
        cannot be told, TruncatedFrameError where the file ends too early to tell.
    """
    tables, origin = _read_tables(buffer, value, extended_offset_table)
    if codec is Codec.VIDEO:
        tables, number_of_frames = [], 1
    usable = []
    for table in tables:
        if number_of_frames is None or len(table.entries) == number_of_frames:
            usable.append(table)
        else:
            anomalies.append(Anomaly(f"{table.prefix}-count", table.table_offset))

    items = _chain_items(buffer, value, origin, usable[0]) if usable else None
    if items is None:
        items = _walk_items(buffer, value, origin)
    _note_fragments(items, anomalies)

    chosen: OffsetTable | None = None
    first_fragments: Offsets | None = None
    for table in usable:
        matched, problem = _match_table(table, items, codec)
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
    located = _count_located(buffer, items, first_fragments, number_of_frames, codec, chosen)
    if located < len(first_fragments) and not items.truncated:
        anomalies.append(Anomaly("truncated-fragment", items.header_offset(-1)))
    trimmed = _find_padding(chosen, items, located, anomalies) if chosen else None
    frames = _make_table(items, first_fragments, located, number_of_frames, trimmed)
    return frames, boundaries


def parse_extended_offset_table(
    table_offset: int, value: bytes, lengths: bytes | None, byte_order: str
) -> OffsetTable:
    """Return the Extended Offset Table whose values these are (PS3.3 C.7.6.3.1.8).

    Bytes beyond the last whole entry are left out, which makes the count wrong.
    """
    entries = np.frombuffer(value, byte_order + "u8", len(value) // 8).astype(np.int64)
    parsed = None
    if lengths is not None:
        parsed = np.frombuffer(lengths, byte_order + "u8", len(lengths) // 8).astype(np.int64)
    return OffsetTable(Boundaries.EXTENDED_OFFSET_TABLE, table_offset, entries, parsed)


def _read_tables(
    buffer: Buffer, value: PixelDataValue, extended: OffsetTable | None
) -> tuple[list[OffsetTable], int]:
    """Return the tables that are there, and the offset that entries count from."""
    item, _ = _RAW_TAGS[value.byte_order]
    start = value.value_offset
    if start + ITEM_HEADER_LENGTH > value.end:
        raise TruncatedFrameError("expected a Basic Offset Table, found the end", offset=start)
    tag, length = struct.unpack_from(value.byte_order + "II", buffer, start)
    if tag != item:
        found = bytes(buffer[start : start + 4]).hex()
        raise FormatError(
            f"expected the Basic Offset Table's item tag (FFFE,E000), found bytes {found}",
            offset=start,
        )
    origin = start + ITEM_HEADER_LENGTH + length
    if length == UNDEFINED_LENGTH:
        raise FormatError("the Basic Offset Table's item has an undefined length", offset=start)
    if origin > value.end:
        raise TruncatedFrameError(
            f"the Basic Offset Table runs past the end: expected {length} bytes, "
            f"found {value.end - start - ITEM_HEADER_LENGTH}",
            offset=start,
        )
    tables = [] if extended is None else [extended]
    if length:
        packed = np.frombuffer(
            buffer, value.byte_order + "u4", length // 4, start + ITEM_HEADER_LENGTH
        )
        tables.append(OffsetTable(Boundaries.BASIC_OFFSET_TABLE, start, packed.astype(np.int64)))
    return tables, origin


def _chain_items(
    buffer: Buffer, value: PixelDataValue, origin: int, table: OffsetTable
) -> Items | None:
    """Return the items, if each entry is one and leads exactly to the next; else None.

    That is the same proof as a walk, at the cost of one gather.
    """
    starts = _unwrap(table, value.end - origin)
    if not len(starts) or starts[0] != 0:
        return None
    if int(starts.min()) < 0 or int(starts.max()) > value.end - origin - ITEM_HEADER_LENGTH:
        return None
    # Every 8 bytes of the data as one integer, overlapping, so that one index gathers a header.
    order = value.byte_order
    headers = np.ndarray((len(buffer) - 7,), order + "u8", buffer, strides=(1,))[starts + origin]
    upper, lower = headers >> np.uint64(32), headers & np.uint64(0xFFFF_FFFF)
    found_tags, lengths = (lower, upper) if order == "<" else (upper, lower)
    item, _ = _RAW_TAGS[order]
    ends = starts + ITEM_HEADER_LENGTH + lengths.astype(np.int64)
    if (found_tags != item).any() or (ends[:-1] != starts[1:]).any():
        return None
    if lengths[-1] == UNDEFINED_LENGTH or _tag_at(buffer, value, origin + int(ends[-1])) == item:
        return None
    return _close_items(buffer, value, origin, starts, int(ends[-1]))


def _walk_items(buffer: Buffer, value: PixelDataValue, origin: int) -> Items:
    """Return the items, read one after the other from `origin` on."""
    item, _ = _RAW_TAGS[value.byte_order]
    unpack = struct.Struct(value.byte_order + "II").unpack_from
    found: list[int] = []
    append = found.append
    position = origin
    last_header = value.end - ITEM_HEADER_LENGTH
    while position <= last_header:
        tag, length = unpack(buffer, position)
        if tag != item:
            break
        append(position)
        position += 8 + length
    starts = np.array(found, np.int64) - origin
    items = _close_items(buffer, value, origin, starts, position - origin)
    endless = np.flatnonzero(items.lengths == UNDEFINED_LENGTH)
    if len(endless):
        raise FormatError(
            f"fragment {endless[0]} has an undefined length", offset=items.header_offset(endless[0])
        )
    return items


def _close_items(
    buffer: Buffer, value: PixelDataValue, origin: int, starts: Offsets, end: int
) -> Items:
    """Return the items with what was found after the last one."""
    available = value.end - origin
    _, sequence_end = _RAW_TAGS[value.byte_order]
    closed = _tag_at(buffer, value, origin + end) == sequence_end
    closed = closed or (value.defined_length and end == available)
    return Items(origin, starts, end, available, closed)


def _tag_at(buffer: Buffer, value: PixelDataValue, offset: int) -> int:
    """Return the raw tag at `offset`, 0 where the value ends before it is whole."""
    if offset + 4 > value.end:
        return 0
    tag: int = struct.unpack_from(value.byte_order + "I", buffer, offset)[0]
    return tag


def _note_fragments(items: Items, anomalies: list[Anomaly]) -> None:
    """Note what is odd about the items and the end of the last one."""
    lengths = items.lengths
    for code, odd in (("odd-fragment-length", lengths & 1), ("empty-fragment", lengths == 0)):
        where = np.flatnonzero(odd)
        if len(where):
            anomalies.append(Anomaly(code, items.header_offset(int(where[0])), len(where)))
    if items.truncated:
        anomalies.append(Anomaly("truncated-fragment", items.header_offset(-1)))
    elif not items.closed:
        after = items.available - items.end
        code = "junk-after-fragments" if after else "missing-sequence-delimiter"
        anomalies.append(Anomaly(code, items.origin + items.end))


def _unwrap(table: OffsetTable, available: int) -> Offsets:
    """Return the entries of a table with those put right that passed 4 GiB (32 bits)."""
    entries = table.entries
    if table.kind is not Boundaries.BASIC_OFFSET_TABLE or available <= _WRAP:
        return entries
    return entries + np.cumsum(np.diff(entries, prepend=0) < 0) * _WRAP


def _match_table(table: OffsetTable, items: Items, codec: Codec) -> tuple[Offsets | None, str]:
    """Return the number of each located frame's first item, and the code of an anomaly, if any.

    None, and the code says why, where the table cannot be used. Entries past the end of a file
    that was cut are frames that were lost with it.
    """
    starts = _unwrap(table, items.available)
    if not len(starts):
        return None, f"{table.prefix}-count"
    if (np.diff(starts) <= 0).any():
        return None, f"{table.prefix}-order"
    present = starts if items.closed else starts[starts < items.available]
    fragments = _find_items(present, items.starts)
    if fragments is None and items.available > _WRAP and table.prefix == "bot":
        fragments = _find_items(table.entries % _WRAP, items.starts % _WRAP)
    if fragments is None or fragments[0] != 0:
        return None, f"{table.prefix}-off-item"
    fragments_a_frame = np.add.reduceat(items.lengths > 0, fragments, dtype=np.int64)
    if (fragments_a_frame == 0).any():
        return None, f"{table.prefix}-off-item"
    one_fragment = table.kind is Boundaries.EXTENDED_OFFSET_TABLE or codec is Codec.ONE_FRAGMENT
    if one_fragment and (fragments_a_frame > 1).any():
        return None, f"{table.prefix}-fragments"
    found = items.starts[fragments]
    return fragments, "" if np.array_equal(found, table.entries[: len(found)]) else "bot-wrapped"


def _find_items(wanted: Offsets, starts: Offsets) -> Offsets | None:
    """Return the numbers of the items that start where it is wanted, if all do, and in order."""
    order = np.argsort(starts, kind="stable")
    ordered = starts[order]
    if not len(wanted) or not len(ordered) or (np.diff(ordered) == 0).any():
        return None
    where = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    fragments: Offsets = order[where]
    if (ordered[where] != wanted).any() or (np.diff(fragments) <= 0).any():
        return None
    return fragments


def _count_located(
    buffer: Buffer,
    items: Items,
    first_fragments: Offsets,
    number_of_frames: int,
    codec: Codec,
    table: OffsetTable | None,
) -> int:
    """Return how many frames are there from their first fragment to their last.

    A fragment that runs past the end counts as there: reading it says so.
    """
    located = len(first_fragments)
    if items.closed:
        return located
    if located < number_of_frames:
        whole = table is None or _unwrap(table, items.available)[located] == items.end
        return located if whole else located - 1
    cut = last_frame_is_cut(buffer, items, first_fragments, codec)
    return located - 1 if cut else located


def _find_padding(
    table: OffsetTable, items: Items, located: int, anomalies: list[Anomaly]
) -> Flags | None:
    """Return which frames end in a padding byte, by the lengths of an Extended Offset Table."""
    if table.kind is not Boundaries.EXTENDED_OFFSET_TABLE:
        return None
    lengths = table.lengths
    if lengths is None or len(lengths) != len(table.entries):
        anomalies.append(Anomaly("eot-length", table.table_offset))
        return None
    owned = items.lengths[items.lengths > 0][:located]
    excess = owned - lengths[: len(owned)]
    wrong = np.flatnonzero((excess != 0) & (excess != 1))
    if len(wrong):
        anomalies.append(Anomaly("eot-length", table.table_offset, len(wrong)))
    trimmed: Flags = excess == 1
    return trimmed


def _make_table(
    items: Items,
    first_fragments: Offsets,
    located: int,
    number_of_frames: int,
    trimmed: Flags | None,
) -> FrameTable:
    """Return the frame table, packed."""
    claims: Sequence[int] | Offsets = np.append(first_fragments, len(items.starts))[: located + 1]
    entry_size = 4 if items.end < _WRAP else 8
    packed = np.append(items.starts, items.end).astype(f"<u{entry_size}").tobytes()
    layout = Layout.FRAGMENT_A_FRAME
    if not np.array_equal(claims, np.arange(located + 1)):
        layout = Layout.FRAGMENTS
        packed = np.asarray(claims).astype(f"<u{entry_size}").tobytes() + packed
    if trimmed is not None and trimmed.any():
        packed += np.packbits(trimmed, bitorder="little").tobytes()
    else:
        trimmed = None
    return FrameTable(
        layout=layout,
        number_of_frames=number_of_frames,
        frames_located=located,
        number_of_fragments=len(items.starts),
        value_offset=items.origin,
        entry_size=entry_size,
        trimmed=trimmed is not None,
        entries=packed,
    )
