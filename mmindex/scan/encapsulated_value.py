"""Where the value of encapsulated pixel data is, and the table beside it (PS3.5 A.4).

Nothing here needs numpy, which a file of one fragment does without.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mmindex.model import Boundaries, Buffer
from mmindex.scan import tags
from mmindex.scan.elements import DataSet
from mmindex.scan.encoding import UNDEFINED_LENGTH

_UNPACK_TAG = {order: struct.Struct(order + "I").unpack_from for order in "<>"}


class PixelDataValue(NamedTuple):
    """The value of an encapsulated pixel data element.

    `end` is the end of the value where its length is defined, else the end of the data;
    `byte_order` is "<" or ">".
    """

    buffer: Buffer
    value_offset: int
    end: int
    defined_length: bool = False
    byte_order: str = "<"

    def tag_at(self, offset: int) -> int:
        """Return the raw tag at `offset`, 0 where the value ends before it is whole."""
        if offset + 4 > self.end:
            return 0
        tag: int = _UNPACK_TAG[self.byte_order](self.buffer, offset)[0]
        return tag


class StoredTable(NamedTuple):
    """The place of an offset table: half-open byte ranges of its entries and lengths."""

    kind: Boundaries
    table_offset: int
    entries: tuple[int, int]
    lengths: tuple[int, int] | None = None


def find_extended_offset_table(data_set: DataSet) -> StoredTable | None:
    """Return where the Extended Offset Table is, None where it is absent or empty."""
    element = data_set.elements.get(tags.EXTENDED_OFFSET_TABLE)
    if element is None or not element.length:
        return None
    ranges: list[tuple[int, int] | None] = []
    for found in (element, data_set.elements.get(tags.EXTENDED_OFFSET_TABLE_LENGTHS)):
        length = 0 if found is None or found.length == UNDEFINED_LENGTH else found.length
        ranges.append(found and (found.value_offset, found.value_offset + length))
    return StoredTable(
        Boundaries.EXTENDED_OFFSET_TABLE, element.element_offset, ranges[0] or (0, 0), ranges[1]
    )
