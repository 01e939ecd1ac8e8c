"""A packed record whose entries and positions of tiles are kept apart from it; see `record.py`."""

from __future__ import annotations

import struct

from mmindex.errors import IndexFormatError
from mmindex.index.record_parts import APART, COUNT, FLAGS_AT, HEADER, POSITIONS

_ENTRIES_OFFSET_AT = 4  # of a packed record
_ENTRIES_OFFSET = struct.Struct("<I")


def entries_offset(packed: bytes | memoryview) -> int:
    """Return where the entries begin in a packed record, in bytes."""
    if len(packed) < HEADER.size:
        raise IndexFormatError(f"damaged record: {len(packed)} bytes; rebuild the index")
    offset: int = _ENTRIES_OFFSET.unpack_from(packed, _ENTRIES_OFFSET_AT)[0]
    return offset


def length_of_positions(packed: bytes | memoryview) -> int:
    """Return the length of the positions that a record has apart, or after its entries.

    Raises
    ------
    IndexFormatError
        The record is damaged.
    """
    if len(packed) > FLAGS_AT and not packed[FLAGS_AT] & POSITIONS:
        return 0  # most records
    at = entries_offset(packed)
    if not HEADER.size + COUNT.size <= at <= len(packed):
        raise IndexFormatError("damaged record: no length of positions; rebuild the index")
    length: int = COUNT.unpack_from(packed, at - COUNT.size)[0]
    return length


def split_record(packed: bytes) -> tuple[bytes, bytes]:
    """Return a packed record whose entries are kept apart, and these."""
    at = entries_offset(packed)
    head = _with_flags(packed[:at], packed[FLAGS_AT] | APART)
    return head + COUNT.pack(len(packed) - at), packed[at:]


def join_record(head: bytes, entries: bytes) -> bytes:
    """Return the packed record that was split."""
    return _with_flags(head[: entries_offset(head)], head[FLAGS_AT] & ~APART) + entries


def _with_flags(head: bytes, flags: int) -> bytes:
    """Return the part of a record before its entries with these flags."""
    return head[:FLAGS_AT] + bytes([flags]) + head[FLAGS_AT + 1 :]


def length_apart(packed: bytes | memoryview) -> int | None:
    """Return the length of the entries of a record that are kept apart; None where they are not.

    Raises
    ------
    IndexFormatError
        The record is damaged.
    """
    at = entries_offset(packed)
    if not packed[FLAGS_AT] & APART:
        return None
    if len(packed) != at + COUNT.size:
        raise IndexFormatError("damaged record: no length of its entries; rebuild the index")
    length: int = COUNT.unpack_from(packed, at)[0]
    return length
