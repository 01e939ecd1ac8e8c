"""The items of encapsulated pixel data: one after the other, without gaps (PS3.5 7.5, A.4).

Every function reads within the value that it is given, and says where items end, not what
they mean.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import FormatError
from mmindex.frame_table import ITEM_HEADER_LENGTH, ByteRange
from mmindex.model import Anomaly, Buffer
from mmindex.scan import tags
from mmindex.scan.encoding import UNDEFINED_LENGTH
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Offsets = NDArray[np.int64]

RAW_TAGS = {  # item and sequence delimiter as the first half of an 8-byte header reads
    "<": (0xE000_FFFE, 0xE0DD_FFFE),
    ">": (tags.ITEM, tags.SEQUENCE_DELIMITATION),
}
_LONGEST_MARKER = 12
_TAIL = 4096  # bytes looked at together for the end of a frame


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
class Items:
    """The items after the Basic Offset Table, as far as the data goes.

    Attributes
    ----------
    origin : int
        Offset of the first byte after the Basic Offset Table.
    starts : ndarray of int64
        Where the items begin, from `origin`.
    end : int
        Where the last one ends, from `origin`; may be past the end of the data.
    available : int
        Bytes from `origin` to the end of the data.
    closed : bool
        Whether a sequence delimiter (or a defined length) says that these are all.
    lengths : ndarray of int64
        Lengths of the fragments, in bytes.
    """

    origin: int
    starts: Offsets
    end: int
    available: int
    closed: bool
    lengths: Offsets

    @property
    def truncated(self) -> bool:
        """Whether the last item runs past the end of the data."""
        return self.end > self.available

    def header_offset(self, fragment: int) -> int:
        """Return the offset of an item's tag in the data."""
        return self.origin + int(self.starts[fragment])

    def value_range(self, fragment: int) -> tuple[int, int]:
        """Return [start, end) of what is there of a fragment's value, in the data."""
        start = int(self.starts[fragment]) + ITEM_HEADER_LENGTH
        end = int(self.starts[fragment + 1]) if fragment + 1 < len(self.starts) else self.end
        return self.origin + start, self.origin + max(start, min(end, self.available))

    def find_beginnings(self, buffer: Buffer, codec: Codec) -> NDArray[np.bool_]:
        """Return of every fragment whether it begins with a start marker of the codec."""
        begins = np.zeros(len(self.starts), np.bool_)
        lengths = self.lengths
        if self.truncated:
            begins[-1] = self._cut_begins_frame(buffer, codec)
            lengths = np.append(lengths[:-1], 0)
        data = np.frombuffer(buffer, np.uint8)
        for marker in codec.start_markers:
            same = np.flatnonzero(lengths >= len(marker))
            for at, byte in enumerate(marker, self.origin + ITEM_HEADER_LENGTH):
                same = same[data[self.starts[same] + at] == byte]
            begins[same] = True
        return begins

    def _cut_begins_frame(self, buffer: Buffer, codec: Codec) -> bool:
        """Return whether the last fragment, whose end is missing, begins with a start marker.

        If it was cut before its marker, the end of the fragment before it has to tell.
        """
        last = len(self.starts) - 1
        start, end = self.value_range(last)
        head = bytes(buffer[start : min(end, start + _LONGEST_MARKER)])
        if last and len(head) < min(map(len, codec.start_markers), default=0):
            return self.ends_frame(buffer, 0, last - 1, codec)
        return head.startswith(codec.start_markers)

    def ends_frame(self, buffer: Buffer, first: int, last: int, codec: Codec) -> bool:
        """Return whether fragments `first` to `last`, joined, end with the codec's end marker.

        Padding after it does not count.
        """
        marker, tail = codec.end_marker, b""
        for fragment in range(last, first - 1, -1):
            start, end = self.value_range(fragment)
            while start < end and len(tail) < len(marker):
                piece = bytes(buffer[max(start, end - _TAIL) : end])
                end -= len(piece)
                tail = (piece + tail).rstrip(b"\0\xff") if not tail else piece + tail
        return bool(marker) and tail.endswith(marker)


def chain_items(
    buffer: Buffer, value: PixelDataValue, origin: int, starts: Offsets
) -> Items | None:
    """Return the items, if one is at each of `starts` and leads exactly to the next; else None.

    That is the same proof as a walk, at the cost of one gather.
    """
    if not len(starts) or starts[0] != 0:
        return None
    if int(starts.min()) < 0 or int(starts.max()) > value.end - origin - ITEM_HEADER_LENGTH:
        return None
    # Every 8 bytes of the data as one integer, overlapping, so that one index gathers a header.
    order = value.byte_order
    headers = np.ndarray((len(buffer) - 7,), order + "u8", buffer, strides=(1,))[starts + origin]
    upper, lower = headers >> np.uint64(32), headers & np.uint64(0xFFFF_FFFF)
    found_tags, lengths = (lower, upper) if order == "<" else (upper, lower)
    item, _ = RAW_TAGS[order]
    ends = starts + ITEM_HEADER_LENGTH + lengths.astype(np.int64)
    if (found_tags != item).any() or (ends[:-1] != starts[1:]).any():
        return None
    if (lengths == UNDEFINED_LENGTH).any():
        return None
    if _tag_at(buffer, value, origin + int(ends[-1])) == item:
        return None  # the last frame has several
    return close_items(buffer, value, origin, starts, int(ends[-1]))


def walk_items(buffer: Buffer, value: PixelDataValue, origin: int) -> Items:
    """Return the items, read one after the other from `origin` on."""
    item, _ = RAW_TAGS[value.byte_order]
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
    items = close_items(buffer, value, origin, starts, position - origin)
    endless = np.flatnonzero(items.lengths == UNDEFINED_LENGTH)
    if len(endless):
        raise FormatError(
            f"fragment {endless[0]} has an undefined length", offset=items.header_offset(endless[0])
        )
    return items


def skip_items(buffer: Buffer, value: PixelDataValue, position: int, end: int) -> tuple[int, int]:
    """Return where the run of items from `position` on ends or comes to `end`, and its size.

    That is the number of items that are not empty.
    """
    item, _ = RAW_TAGS[value.byte_order]
    unpack = struct.Struct(value.byte_order + "II").unpack_from
    last_header = min(end, value.end) - ITEM_HEADER_LENGTH
    filled = 0
    while position <= last_header:
        tag, length = unpack(buffer, position)
        if tag != item:
            break
        position += ITEM_HEADER_LENGTH + length
        filled += length > 0
    return position, filled


def parse_items(data: bytes, start: int, byte_order: str) -> list[ByteRange] | None:
    """Return the values of the items that `data` is made of, where `data` begins at `start`.

    None where it is no run of whole items with something in it.
    """
    item, _ = RAW_TAGS[byte_order]
    unpack = struct.Struct(byte_order + "II").unpack_from
    ranges = []
    at = 0
    while at + ITEM_HEADER_LENGTH <= len(data):
        tag, length = unpack(data, at)
        if tag != item:
            return None
        at += ITEM_HEADER_LENGTH
        ranges.append(ByteRange(start + at, length))
        at += length
    return ranges if at == len(data) and any(piece.length for piece in ranges) else None


def close_items(
    buffer: Buffer, value: PixelDataValue, origin: int, starts: Offsets, end: int
) -> Items:
    """Return the items with what was found after the last one."""
    available = value.end - origin
    _, sequence_end = RAW_TAGS[value.byte_order]
    closed = _tag_at(buffer, value, origin + end) == sequence_end
    closed = closed or (value.defined_length and end == available)
    lengths = np.diff(np.append(starts, end)) - ITEM_HEADER_LENGTH
    return Items(origin, starts, end, available, closed, lengths)


def _tag_at(buffer: Buffer, value: PixelDataValue, offset: int) -> int:
    """Return the raw tag at `offset`, 0 where the value ends before it is whole."""
    if offset + 4 > value.end:
        return 0
    tag: int = struct.unpack_from(value.byte_order + "I", buffer, offset)[0]
    return tag


def note_fragments(items: Items, anomalies: list[Anomaly]) -> None:
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
