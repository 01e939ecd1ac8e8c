"""Items of encapsulated pixel data without a file around them (PS3.5 A.4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mmindex.errors import FormatError, TruncatedFrameError
from mmindex.frame_table import ITEM_HEADER_LENGTH
from mmindex.scan import tags
from mmindex.scan.encoding import UNDEFINED_LENGTH


def read_item_length(data: bytes | memoryview, offset: int, endianness: str) -> int | None:
    """Return the length of the item at `offset`, None where no item is there."""
    if offset + ITEM_HEADER_LENGTH > len(data):
        return None
    group, number, length = struct.unpack_from(f"{endianness}HHI", data, offset)
    return int(length) if group << 16 | number == tags.ITEM else None


def walk_items(data: bytes | memoryview, endianness: str) -> Iterator[tuple[int, int]]:
    """Yield (item offset, length) of every item up to the delimiter or the end."""
    unpack = struct.Struct(f"{endianness}HHI").unpack_from
    position, size = 0, len(data)
    while position < size:
        if position + ITEM_HEADER_LENGTH > size:
            raise TruncatedFrameError("the value ends within an item's header", offset=position)
        group, number, length = unpack(data, position)
        tag = group << 16 | number
        if tag == tags.SEQUENCE_DELIMITATION:
            return
        if tag != tags.ITEM or length == UNDEFINED_LENGTH:
            found = "one of undefined length" if tag == tags.ITEM else tags.format_tag(tag)
            raise FormatError(f"expected an item tag, found {found}", offset=position)
        end = position + ITEM_HEADER_LENGTH + length
        if end > size:
            raise TruncatedFrameError(
                f"the fragment runs past the end of the value: expected {length} bytes, found "
                f"{size - position - ITEM_HEADER_LENGTH}",
                offset=position,
            )
        yield position, length
        position = end
