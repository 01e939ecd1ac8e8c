"""Offset tables of encapsulated pixel data: read, and checked against the items.

The Basic Offset Table (PS3.5 A.4) has 32-bit entries, the Extended Offset Table (PS3.3
C.7.6.3.1.8) 64-bit ones and the lengths of the frames.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import FormatError, TruncatedFrameError
from mmindex.frame_table import ITEM_HEADER_LENGTH
from mmindex.model import Anomaly, Boundaries, Buffer
from mmindex.scan.encoding import UNDEFINED_LENGTH
from mmindex.scan.items import RAW_TAGS, Items, PixelDataValue
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.scan.items import Offsets

    Flags = NDArray[np.bool_]

WRAP = 1 << 32  # where the 32-bit entries of a Basic Offset Table begin again at 0


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


def read_tables(
    buffer: Buffer, value: PixelDataValue, extended: OffsetTable | None
) -> tuple[list[OffsetTable], int]:
    """Return the tables that are there, and the offset that entries count from."""
    item, _ = RAW_TAGS[value.byte_order]
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


def unwrap(table: OffsetTable, available: int) -> Offsets:
    """Return the entries of a table with those put right that passed 4 GiB (32 bits)."""
    entries = table.entries
    if table.kind is not Boundaries.BASIC_OFFSET_TABLE or available <= WRAP:
        return entries
    return entries + np.cumsum(np.diff(entries, prepend=0) < 0) * WRAP


def match_table(table: OffsetTable, items: Items, codec: Codec) -> tuple[Offsets | None, str]:
    """Return the number of each located frame's first item, and the code of an anomaly, if any.

    None, and the code says why, where the table cannot be used. Entries past the end of a file
    that was cut are frames that were lost with it.
    """
    starts = unwrap(table, items.available)
    if not len(starts):
        return None, f"{table.prefix}-count"
    if (np.diff(starts) <= 0).any():
        return None, f"{table.prefix}-order"
    present = starts
    if not items.closed:
        present = starts[starts + ITEM_HEADER_LENGTH <= items.available]
    fragments = _find_items(present, items.starts)
    if fragments is None and items.available > WRAP and table.prefix == "bot":
        fragments = _find_items(table.entries % WRAP, items.starts % WRAP)
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


def find_padding(
    table: OffsetTable, fragment_lengths: Offsets, anomalies: list[Anomaly]
) -> Flags | None:
    """Return which frames end in a padding byte, by the lengths of an Extended Offset Table."""
    if table.kind is not Boundaries.EXTENDED_OFFSET_TABLE:
        return None
    lengths = table.lengths
    if lengths is None or len(lengths) != len(table.entries):
        anomalies.append(Anomaly("eot-length", table.table_offset))
        return None
    excess = fragment_lengths - lengths[: len(fragment_lengths)]
    wrong = np.flatnonzero((excess != 0) & (excess != 1))
    if len(wrong):
        anomalies.append(Anomaly("eot-length", table.table_offset, len(wrong)))
    trimmed: Flags = excess == 1
    return trimmed if trimmed.any() else None
