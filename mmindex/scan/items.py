"""The items of encapsulated pixel data: one after the other, without gaps (PS3.5 7.5, A.4).

Every function reads within the value that it is given, and says where items end, not what
they mean.
"""

from __future__ import annotations

import struct
from array import array
from enum import Enum, auto
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmindex.errors import FormatError
from mmindex.frame_table import ITEM_HEADER_LENGTH
from mmindex.model import Anomaly, Buffer
from mmindex.scan import tags
from mmindex.scan.encapsulated_value import PixelDataValue
from mmindex.scan.encoding import UNDEFINED_LENGTH
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Offsets = NDArray[np.int64]
    Flags = NDArray[np.bool_]

RAW_TAGS = {  # item and sequence delimiter as the first half of an 8-byte header reads
    "<": (0xE000_FFFE, 0xE0DD_FFFE),
    ">": (tags.ITEM, tags.SEQUENCE_DELIMITATION),
}
# The same of an item as a signed number, which Python compares faster, and what reads a header so.
_SIGNED_ITEM = {
    order: (struct.Struct(order + "iI").unpack_from, item - (1 << 32))
    for order, (item, _) in RAW_TAGS.items()
}
_TWO_BYTES, _EIGHT_BYTES = np.dtype("<u2"), np.dtype("<u8")
LONGEST_HEAD = 192  # bytes that show how a frame or a stream begins
_TAIL = 4096  # bytes looked at together for the end of a frame
_BLOCK = 2048  # items that are read before a ForgetfulMap forgets them
_MOST_ZEROS = 1 << 16  # bytes looked at behind the last item


class Ending(Enum):
    """The end of a run of items, which shows whether the last item is whole."""

    CLOSED = auto()  # a sequence delimiter, or the end of a value of defined length
    MISSING = auto()  # nothing: the data ends with the item
    FOREIGN = auto()  # zeros to the end, or another element
    CUT_ITEM = auto()  # the item runs past the end of the data
    CUT_HEADER = auto()  # the beginning of a header, where the file was cut
    UNEXPLAINED = auto()  # other bytes: the item's length may be wrong


class Items(NamedTuple):
    """The items after the Basic Offset Table, as far as the data goes.

    Attributes
    ----------
    value : PixelDataValue
        The value that the items are in.
    origin : int
        Offset of the first byte after the Basic Offset Table.
    bounds : ndarray of int64
        Where the items begin, from `origin`, and where the last one ends.
    starts : ndarray of int64
        Where the items begin: `bounds` without the last.
    end : int
        Where the last one ends, from `origin`; may be past the end of the data.
    ending : Ending
        What follows the last one.
    lengths : ndarray of int64
        Lengths of the fragments, in bytes.
    """

    value: PixelDataValue
    origin: int
    bounds: Offsets
    starts: Offsets
    end: int
    ending: Ending
    lengths: Offsets

    @property
    def available(self) -> int:
        """Bytes from `origin` to the end of the data."""
        return self.value.end - self.origin

    @property
    def closed(self) -> bool:
        """Whether a sequence delimiter (or a defined length) says that these are all."""
        return self.ending is Ending.CLOSED

    @property
    def all_filled(self) -> bool:
        """Whether no fragment is empty."""
        return bool(np.count_nonzero(self.lengths) == len(self.lengths))

    @property
    def truncated(self) -> bool:
        """Whether the last item runs past the end of the data."""
        return self.ending is Ending.CUT_ITEM

    def header_offset(self, fragment: int) -> int:
        """Return the offset of an item's tag in the data; without items, of where they should be.

        `fragment` may be -1 for the last one.
        """
        return self.origin + (int(self.starts[fragment]) if len(self.starts) else 0)

    def value_range(self, fragment: int) -> tuple[int, int]:
        """Return [start, end) of what is there of a fragment's value, in the data."""
        start = int(self.starts[fragment]) + ITEM_HEADER_LENGTH
        end = int(self.starts[fragment + 1]) if fragment + 1 < len(self.starts) else self.end
        return self.origin + start, self.origin + max(start, min(end, self.available))

    def find_beginnings(self, codec: Codec) -> Flags:
        """Return of every fragment whether it begins with a start marker of the codec."""
        count, buffer, markers = len(self.starts), self.value.buffer, codec.start_markers
        if not markers or not count:
            return np.zeros(count, np.bool_)
        if count == 1 and not self.truncated:  # most files: faster than numpy
            return np.array([codec.begins(self._head(0))])
        word, numbers = _read_as_numbers(markers)
        near = self.starts + (self.origin + ITEM_HEADER_LENGTH)
        within = count
        if near[-1] > len(buffer) - 8:  # else none is: a delimiter of 8 bytes follows
            within = int(np.searchsorted(near, len(buffer) - 7))
        heads = gather(buffer, near[:within], word)
        begins = np.zeros(count, np.bool_)
        for marker, begin, mask in numbers:
            is_same = (heads if mask is None else heads & mask) == begin
            is_same &= self.lengths[:within] >= len(marker)
            if len(marker) > 8:
                for at in np.flatnonzero(is_same).tolist():
                    is_same[at] = self._head(at).startswith(marker)
            begins[:within] |= is_same
            if np.count_nonzero(is_same) == within:
                break
        for fragment in range(within, count):
            begins[fragment] = codec.begins(self._head(fragment))
        if self.truncated:
            begins[-1] = self._cut_begins_frame(codec)
        return begins

    def _head(self, fragment: int) -> bytes:
        start, end = self.value_range(fragment)
        return bytes(self.value.buffer[start : min(end, start + LONGEST_HEAD)])

    def _cut_begins_frame(self, codec: Codec) -> bool:
        """Return whether the last fragment, whose end is missing, begins with a start marker.

        If it was cut before its marker, the end of the fragment before it has to tell.
        """
        last = len(self.starts) - 1
        head = self._head(last)
        if last and len(head) < min(map(len, codec.start_markers), default=0):
            return self.ends_frame(0, last - 1, codec)
        return codec.begins(head)

    def ends_frame(self, first: int, last: int, codec: Codec) -> bool:
        """Return whether fragments `first` to `last`, joined, end with the codec's end marker.

        Padding after it does not count.
        """
        marker, tail = codec.end_marker, b""
        for fragment in range(last, first - 1, -1):
            start, end = self.value_range(fragment)
            while start < end and len(tail) < len(marker):
                piece = bytes(self.value.buffer[max(start, end - _TAIL) : end])
                end -= len(piece)
                tail = (piece + tail).rstrip(b"\0\xff") if not tail else piece + tail
        return bool(marker) and tail.endswith(marker)


@lru_cache
def _read_as_numbers(
    markers: tuple[bytes, ...],
) -> tuple[np.dtype[Any], list[tuple[bytes, Any, Any]]]:
    """Return start markers as what one gather of all fragments' first bytes is compared with.

    The first 8 bytes, or 2 if these tell, are one integer. Beside each marker is that integer, and
    the mask of those bits of it that count, None where all do.
    """
    word = _TWO_BYTES if max(map(len, markers)) == 2 else _EIGHT_BYTES
    numbers = []
    for marker in markers:
        begin = word.type(int.from_bytes(marker[:8], "little"))
        mask = word.type((1 << 8 * len(marker)) - 1) if len(marker) < word.itemsize else None
        numbers.append((marker, begin, mask))
    return word, numbers


def chain_items(value: PixelDataValue, origin: int, starts: Offsets) -> Items | None:
    """Return the items, if one is at each of `starts` and leads exactly to the next; else None.

    The proof is that of a walk, at the cost of one gather.
    """
    if not len(starts) or starts[0] != 0:
        return None
    if int(starts.min()) < 0 or int(starts.max()) > value.end - origin - ITEM_HEADER_LENGTH:
        return None
    found_tags, lengths = gather_headers(value, origin, starts)
    item, _ = RAW_TAGS[value.byte_order]
    ends = starts + ITEM_HEADER_LENGTH + lengths.astype(np.int64)
    if (found_tags != item).any() or (ends[:-1] != starts[1:]).any():
        return None
    if (lengths == UNDEFINED_LENGTH).any():
        return None
    if value.tag_at(origin + int(ends[-1])) == item:
        return None  # the last frame has several
    return close_items(value, origin, end_with(starts, int(ends[-1])))


def end_with(starts: Offsets, end: int) -> Offsets:
    """Return where items or frames begin, and where the last one ends, as one array."""
    bounds = np.empty(len(starts) + 1, np.int64)
    bounds[:-1], bounds[-1] = starts, end
    return bounds


def gather(buffer: Buffer, positions: Offsets, number: np.dtype[Any]) -> NDArray[Any]:
    """Return the number at each position of a buffer, 8 bytes of which are there, in one gather.

    Of a map of more than memory should hold, a ForgetfulMap, in several.
    """
    numbers = np.ndarray((max(len(buffer) - 7, 0),), number, buffer, strides=(1,))
    forget = getattr(buffer, "forget", None)
    if forget is None:
        return numbers[positions]
    found = np.empty(len(positions), number)
    for at in range(0, len(positions), _BLOCK):
        found[at : at + _BLOCK] = numbers[positions[at : at + _BLOCK]]
        forget()
    return found


def gather_headers(
    value: PixelDataValue, origin: int, starts: Offsets
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the raw tags and the lengths of the headers at `starts`, all within the data."""
    # Every 8 bytes of the data as one integer, overlapping, so that one index gathers a header.
    order, buffer = value.byte_order, value.buffer
    headers = gather(buffer, starts + origin, np.dtype(order + "u8"))
    upper, lower = headers >> np.uint64(32), headers & np.uint64(0xFFFF_FFFF)
    return (lower, upper) if order == "<" else (upper, lower)


def walk_items(value: PixelDataValue, origin: int) -> Items:
    """Return the items, read one after the other from `origin` on."""
    unpack, item = _SIGNED_ITEM[value.byte_order]
    bounds = array("q")
    append = bounds.append
    tag, position = item, origin
    forget = getattr(value.buffer, "forget", _keep)
    with memoryview(value.buffer) as whole, whole[: value.end] as view:
        try:
            while tag == item:
                for _ in repeat(None, _BLOCK):
                    append(position)
                    tag, length = unpack(view, position)
                    if tag != item:
                        break
                    position += 8 + length
                forget()
        except struct.error:  # no whole header is left
            pass
    items = close_items(value, origin, np.array(bounds) - origin)
    if items.end > UNDEFINED_LENGTH and items.lengths.max() == UNDEFINED_LENGTH:
        endless = int(items.lengths.argmax())
        raise FormatError(
            f"fragment {endless} has an undefined length", offset=items.header_offset(endless)
        )
    return items


def _keep() -> None:
    """Forget nothing: a buffer is no ForgetfulMap."""


def close_items(value: PixelDataValue, origin: int, bounds: Offsets) -> Items:
    """Return the items with what was found after the last one."""
    starts, end = bounds[:-1], int(bounds[-1])
    lengths = bounds[1:] - starts
    lengths -= ITEM_HEADER_LENGTH
    return Items(value, origin, bounds, starts, end, find_ending(value, origin + end), lengths)


def find_ending(value: PixelDataValue, position: int) -> Ending:
    """Return what follows an item that ends at `position`."""
    item, sequence_end = RAW_TAGS[value.byte_order]
    left = value.end - position
    if left < 0:
        return Ending.CUT_ITEM
    if value.tag_at(position) == sequence_end or (value.defined_length and not left):
        return Ending.CLOSED
    delimiter = struct.pack(value.byte_order + "II", sequence_end, 0)
    around = bytes(
        value.buffer[max(position - 8, value.value_offset) : min(position + 7, value.end)]
    )
    if delimiter in around:  # which a damaged length leads into or past
        return Ending.UNEXPLAINED
    if not left:
        return Ending.MISSING
    rest = bytes(value.buffer[position : position + min(left, _MOST_ZEROS)])
    header = struct.pack(value.byte_order + "I", item)
    if left < ITEM_HEADER_LENGTH and (
        header.startswith(rest[:4]) or delimiter[:4].startswith(rest[:4])
    ):
        return Ending.CUT_HEADER
    if not rest.strip(b"\0") or _is_element(value, rest, left):
        return Ending.FOREIGN
    return Ending.UNEXPLAINED


def _is_element(value: PixelDataValue, head: bytes, left: int) -> bool:
    """Return whether bytes after the pixel data begin with an element that ends within the data.

    Its tag comes after that of the pixel data, and the next one's after its own, or nothing does.
    """
    if len(head) < ITEM_HEADER_LENGTH or not (head[4:6].isalpha() and head[4:6].isupper()):
        return False
    order = value.byte_order
    group, number, short = struct.unpack(f"{order}HH2xH", head[:8])
    tag, size, length = group << 16 | number, 8, short
    if not short and len(head) >= 12:  # of no length, or of the long form
        size, length = 12, struct.unpack_from(order + "I", head, 8)[0]
    end = size + length
    if tag <= tags.PIXEL_DATA or end > left:
        return False
    following = value.buffer[value.end - left + end : value.end - left + end + 4]
    if end + 4 > left:
        return True
    group, number = struct.unpack(f"{order}HH", following)
    return bool((group << 16 | number) > tag)


def note_fragments(items: Items, anomalies: list[Anomaly]) -> None:
    """Note what is odd about the items and the end of the last one."""
    odd = items.lengths & 1
    if np.count_nonzero(odd):
        anomalies.append(_note("odd-fragment-length", items, odd))
    if not items.all_filled:
        anomalies.append(_note("empty-fragment", items, items.lengths == 0))
    if items.ending in (Ending.CUT_ITEM, Ending.CUT_HEADER):
        anomalies.append(Anomaly("truncated-fragment", items.header_offset(-1)))
    elif not items.closed:
        after = items.available - items.end
        code = "junk-after-fragments" if after else "missing-sequence-delimiter"
        anomalies.append(Anomaly(code, items.origin + items.end))


def _note(code: str, items: Items, found: NDArray[Any]) -> Anomaly:
    """Return the anomaly of those items for which `found` is not 0."""
    where = np.flatnonzero(found)
    return Anomaly(code, items.header_offset(int(where[0])), len(where))
