"""Offset tables of encapsulated pixel data: read, and checked against the items.

The Basic Offset Table (PS3.5 A.4) has 32-bit entries, the Extended Offset Table (PS3.3
C.7.6.3.1.8) 64-bit ones and the lengths of the frames. A table is a claim: what frames come of
it where other claims differ, `boundaries.py` decides.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmindex.errors import FormatError, TruncatedFrameError
from mmindex.frame_table import ITEM_HEADER_LENGTH
from mmindex.model import Anomaly, Boundaries
from mmindex.scan.encapsulated_value import PixelDataValue, StoredTable
from mmindex.scan.encoding import UNDEFINED_LENGTH
from mmindex.scan.items import (
    LONGEST_HEAD,
    RAW_TAGS,
    Items,
    gather_headers,
)
from mmindex.scan.read_ahead import will_need
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.scan.items import Flags, Offsets

    Packed = NDArray[np.unsignedinteger]

WRAP = 1 << 32  # where the 32-bit entries of a Basic Offset Table begin again at 0
_BLOCK = 1 << 16  # entries looked at together
_FEW_PAGES = 1 << 14  # bytes of a table that one look at it reads, without advice


@dataclass(frozen=True, slots=True)
class OffsetTable:
    """An offset table: where each frame's first item is, from the first byte after the first item.

    Attributes
    ----------
    kind : Boundaries
        Which of the two tables.
    table_offset : int
        Where the table's element or item begins.
    count : int
        Entries that are stored.
    entries : ndarray of int64
        The entries that can lead to an item here, and one more; the first where they do not
        increase.
    lengths : ndarray of int64 or None
        Lengths of the frames, which only an Extended Offset Table has.
    whole : bool
        Whether the value is a whole number of entries.
    ordered : bool
        Whether the entries increase.
    """

    kind: Boundaries
    table_offset: int
    count: int
    entries: Offsets
    lengths: Offsets | None
    whole: bool
    ordered: bool

    @property
    def prefix(self) -> str:
        """Beginning of the codes of its anomalies."""
        return "bot" if self.kind is Boundaries.BASIC_OFFSET_TABLE else "eot"

    @property
    def begins_at_0(self) -> bool:
        """Whether the first entry leads to the first item, as each table's has to."""
        return bool(len(self.entries)) and int(self.entries[0]) == 0

    @property
    def has_all_lengths(self) -> bool:
        """Whether the table has a length for each entry."""
        return self.lengths is not None and len(self.lengths) == len(self.entries)

    def anomaly(self, code: str) -> Anomaly:
        """Return an anomaly of this table."""
        return Anomaly(code, self.table_offset)


def read_tables(
    value: PixelDataValue, extended: StoredTable | None, codec: Codec
) -> tuple[list[OffsetTable], int]:
    """Return the tables that are there, and the offset that entries count from.

    Where the first item begins like a frame, and not like a table, whose first entry is 0, the
    item is the first fragment, and there is no Basic Offset Table (rule R42).

    Raises
    ------
    FormatError
        No item is there, or one of undefined length; TruncatedFrameError where the data ends.
    """
    start, buffer = value.value_offset, value.buffer
    item, _ = RAW_TAGS[value.byte_order]
    if start + ITEM_HEADER_LENGTH > value.end:
        raise TruncatedFrameError("expected a Basic Offset Table, found the end", offset=start)
    tag, length = struct.unpack_from(value.byte_order + "II", buffer, start)
    if tag != item:
        found = bytes(buffer[start : start + 4]).hex()
        raise FormatError(
            f"expected the Basic Offset Table's item tag (FFFE,E000), found bytes {found}",
            offset=start,
        )
    if length == UNDEFINED_LENGTH:
        raise FormatError("the Basic Offset Table's item has an undefined length", offset=start)
    first = start + ITEM_HEADER_LENGTH
    origin = first + length
    if length > _FEW_PAGES:
        will_need(buffer, [(start, min(origin, value.end) + ITEM_HEADER_LENGTH)])
    head = bytes(buffer[first : min(origin, value.end, first + LONGEST_HEAD)])
    stored = []
    if extended is not None:
        stored.append(extended)
        places = (extended.entries, extended.lengths or (0, 0))
        will_need(buffer, [place for place in places if place[1] - place[0] > _FEW_PAGES])
    if head[:4] != bytes(4) and codec.begins(head):
        origin = start
    elif origin > value.end:
        raise TruncatedFrameError(
            f"the Basic Offset Table runs past the end: expected {length} bytes, "
            f"found {value.end - first}",
            offset=start,
        )
    elif length:
        stored.append(StoredTable(Boundaries.BASIC_OFFSET_TABLE, start, (first, origin)))
    return [_read_table(value, table, value.end - origin) for table in stored], origin


def _read_table(value: PixelDataValue, stored: StoredTable, available: int) -> OffsetTable:
    """Return a table, of which no more entries are read than items can follow, and one (R54)."""
    basic = stored.kind is Boundaries.BASIC_OFFSET_TABLE
    kind = np.dtype(value.byte_order + ("u4" if basic else "u8"))
    most = available // ITEM_HEADER_LENGTH + 1
    packed, length = _view(value, stored.entries, kind, most)
    wraps = available // WRAP if basic else 0
    ordered = _count_decreases(packed, wraps) <= wraps
    lengths = None
    if stored.lengths is not None:
        lengths = _view(value, stored.lengths, kind, most)[0].astype(np.int64)
    return OffsetTable(
        stored.kind,
        stored.table_offset,
        length // kind.itemsize,
        (packed if ordered else packed[:1]).astype(np.int64),
        lengths,
        length % kind.itemsize == 0,
        ordered,
    )


def _view(
    value: PixelDataValue, place: tuple[int, int], kind: np.dtype[np.unsignedinteger], most: int
) -> tuple[Packed, int]:
    """Return at most `most` numbers where they are stored, and the bytes that all of them take."""
    start, end = place
    length = max(0, min(end, len(value.buffer)) - start)
    return np.frombuffer(value.buffer, kind, min(most, length // kind.itemsize), start), length


def _count_decreases(packed: Packed, most: int) -> int:
    """Return how many entries are not above the one before.

    A block that brings them over `most` ends the count, so that a huge table of holes is cheap.
    """
    found = 0
    for start in range(0, len(packed), _BLOCK):
        block = packed[start : start + _BLOCK + 1]
        found += int(np.count_nonzero(block[1:] <= block[:-1]))
        if found > most:
            break
    return found


def unwrap(table: OffsetTable, available: int) -> Offsets:
    """Return the entries of a table with those put right that passed 4 GiB (32 bits)."""
    entries = table.entries
    if table.kind is not Boundaries.BASIC_OFFSET_TABLE or available <= WRAP:
        return entries
    return entries + np.cumsum(np.diff(entries, prepend=0) < 0) * WRAP


class Match(NamedTuple):
    """The boundaries by a table, or the reason why it cannot be used.

    `first_fragments` are the numbers of each located frame's first item, None where the table
    cannot be used; `problem` is the code of an anomaly, empty where there is none.
    """

    table: OffsetTable
    first_fragments: Offsets | None
    problem: str = ""


def match_table(table: OffsetTable, items: Items, codec: Codec) -> Match:
    """Return what a table says, whatever its number of entries.

    Entries past the end of a file that was cut are frames that were lost with it.
    """
    starts = unwrap(table, items.available)
    if not table.count or not table.whole:
        return Match(table, None, f"{table.prefix}-count")
    if not table.ordered or (np.diff(starts) <= 0).any():
        return Match(table, None, f"{table.prefix}-order")
    present = starts
    if not items.closed:
        present = starts[starts + ITEM_HEADER_LENGTH <= items.available]
    elif len(starts) < table.count:
        return Match(table, None, f"{table.prefix}-off-item")
    fragments = _find_items(present, items.starts)
    if fragments is None and items.available > WRAP and table.prefix == "bot":
        fragments = _find_items(table.entries % WRAP, items.starts % WRAP)
    if fragments is None or fragments[0] != 0:
        return Match(table, None, f"{table.prefix}-off-item")
    fragments_a_frame = np.add.reduceat(items.lengths > 0, fragments, dtype=np.int64)
    if (fragments_a_frame == 0).any():
        return Match(table, None, f"{table.prefix}-off-item")
    if (fragments_a_frame > 1).any() and not _may_have_several(table, items, fragments, codec):
        return Match(table, None, f"{table.prefix}-fragments")
    wrapped = not np.array_equal(items.starts[fragments], table.entries[: len(fragments)])
    return Match(table, fragments, "bot-wrapped" if wrapped else "")


def _may_have_several(table: OffsetTable, items: Items, fragments: Offsets, codec: Codec) -> bool:
    """Return whether frames of this table may have several fragments.

    Frames of an Extended Offset Table and of a one-fragment syntax may only where each begins with
    the codec's header, or where there is one frame (rule R45).
    """
    if table.kind is Boundaries.EXTENDED_OFFSET_TABLE:
        return False
    if not codec.one_fragment or table.count == 1:
        return True
    filled = np.flatnonzero(items.lengths > 0)
    firsts = filled[np.searchsorted(filled, fragments)]
    return bool(items.find_beginnings(codec)[firsts].all())


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


def find_padding(
    table: OffsetTable, fragment_lengths: Offsets, anomalies: list[Anomaly]
) -> Flags | None:
    """Return which frames end in a padding byte, by the lengths of an Extended Offset Table."""
    if table.kind is not Boundaries.EXTENDED_OFFSET_TABLE:
        return None
    lengths = table.lengths
    if lengths is None or not table.has_all_lengths:
        anomalies.append(table.anomaly("eot-length"))
        return None
    excess = fragment_lengths - lengths[: len(fragment_lengths)]
    trimmed: Flags = excess == 1
    is_right = trimmed | (excess == 0)
    wrong = len(is_right) - int(np.count_nonzero(is_right))
    if wrong:
        anomalies.append(Anomaly("eot-length", table.table_offset, wrong))
    return trimmed if np.count_nonzero(trimmed) else None


def find_agreed_starts(
    tables: list[OffsetTable], items: Items, number_of_frames: int | None
) -> tuple[OffsetTable, Offsets] | None:
    """Return a table that a second one bears out, and where its items begin; else None (R53).

    The second is the Basic Offset Table beside an Extended one, or the lengths of the Extended
    Offset Table where each leads exactly to the next entry. Every entry has to lead to an item: an
    item that leads elsewhere has a damaged length.
    """
    starts: list[Offsets] = []
    for table in tables:
        unwrapped = unwrap(table, items.available)
        whole = table.whole and len(unwrapped) == table.count
        if whole and number_of_frames in (None, table.count) and _lead_to_items(items, unwrapped):
            starts.append(unwrapped)
    if not starts or len(starts) < len(tables):
        return None
    agreed = all(np.array_equal(starts[0], other) for other in starts[1:])
    if agreed and (len(starts) > 1 or has_exact_lengths(tables[0], starts[0])):
        return tables[0], starts[0]
    return None


def has_exact_lengths(table: OffsetTable, starts: Offsets) -> bool:
    """Return whether each length of an Extended Offset Table leads exactly to the next entry."""
    if table.lengths is None or len(table.lengths) != len(starts) or len(starts) < 2:
        return False
    padded = table.lengths + (table.lengths & 1)
    return np.array_equal(starts[:-1] + ITEM_HEADER_LENGTH + padded[:-1], starts[1:])


def _lead_to_items(items: Items, starts: Offsets) -> bool:
    if not len(starts) or starts[0] != 0 or (np.diff(starts) <= 0).any():
        return False
    if int(starts[-1]) > items.available - ITEM_HEADER_LENGTH:
        return False
    found, _ = gather_headers(items.value, items.origin, starts)
    return bool((found == RAW_TAGS[items.value.byte_order][0]).all())
