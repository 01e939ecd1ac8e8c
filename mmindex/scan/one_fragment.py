"""Encapsulated pixel data of one fragment and one frame, as most files have it (PS3.5 A.4).

The plain case, which needs neither numpy nor a decision: a Basic Offset Table that is empty or has
the one entry 0, one item, and right after it the sequence delimiter. All else is left to
encapsulated.py.
"""

from __future__ import annotations

import struct

from mmindex.frame_table import ITEM_HEADER_LENGTH, FrameTable, Layout
from mmindex.model import Boundaries, Buffer
from mmindex.scan.encoding import UNDEFINED_LENGTH, Encoding

_HEADERS = {order: struct.Struct(order + "II") for order in "<>"}
_OFFSETS = struct.Struct("<II")
_LONGEST = UNDEFINED_LENGTH - ITEM_HEADER_LENGTH  # bytes whose end has a 4-byte offset
_FRAGMENT_A_FRAME = Layout.FRAGMENT_A_FRAME


def scan_one_fragment(
    buffer: Buffer, value_offset: int, encoding: Encoding
) -> tuple[FrameTable, Boundaries] | None:
    """Return where the one frame of a value of undefined length lies, None where all is not plain.

    Number of Frames has to be 1 or absent, and no Extended Offset Table to be there.
    """
    size, unpack_from = len(buffer), _HEADERS[encoding.byte_order].unpack_from
    if value_offset + 2 * ITEM_HEADER_LENGTH + 4 > size:
        return None
    tag, table_length = unpack_from(buffer, value_offset)
    if tag != encoding.item or table_length not in (0, 4):
        return None
    boundaries = Boundaries.ALL_FRAGMENTS
    origin = value_offset + ITEM_HEADER_LENGTH + table_length
    if table_length:
        boundaries = Boundaries.BASIC_OFFSET_TABLE
        if any(buffer[origin - 4 : origin]):
            return None
    tag, length = unpack_from(buffer, origin)
    end = origin + ITEM_HEADER_LENGTH + length
    if tag != encoding.item or not 0 < length < _LONGEST or length % 2 or end + 4 > size:
        return None
    if encoding.length.unpack_from(buffer, end)[0] != encoding.sequence_end:
        return None
    entries = _OFFSETS.pack(0, end - origin)
    return FrameTable(_FRAGMENT_A_FRAME, 1, 1, 1, origin, entries=entries), boundaries
