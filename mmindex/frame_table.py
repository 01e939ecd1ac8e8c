"""FrameTable: where the frames of one instance lie, native or in fragments (PS3.5 8, A.4).

A table finds a frame in constant time and reads no file: how bytes become a frame is
`mmindex.read.place`. Offsets count bytes from the start of the file (of a deflated data set:
from the start of the inflated one); ranges are half-open.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise
from operator import attrgetter, index, itemgetter
from typing import Any, NamedTuple, NoReturn, Protocol

from mmindex.errors import (
    FrameIndexError,
    IndexFormatError,
    NotAddressableError,
    TruncatedFrameError,
)

ITEM_HEADER_LENGTH = 8  # item tag and 4-byte length (PS3.5 7.5)


class Layout(IntEnum):
    """The kind of a FrameTable: how it locates frames."""

    NATIVE = 1  # a first offset and a stride
    FRAGMENT_A_FRAME = 2  # one item a frame
    FRAGMENTS = 3  # a run of items a frame
    TRUSTED = 4  # a run of items a frame, which is looked at when the frame is read


class ByteRange(NamedTuple):
    """`length` bytes from `offset` on."""

    offset: int
    length: int


class Entries(Protocol):
    """Packed offsets: `bytes`, or a stretch of an index that is read where it is sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> bytes: ...


_FRAGMENT_A_FRAME = Layout.FRAGMENT_A_FRAME
_PAIRS = {4: struct.Struct("<II"), 8: struct.Struct("<QQ")}


_FIELDS = (
    *("layout", "number_of_frames", "frames_located", "number_of_fragments", "value_offset"),
    *("frame_bits", "stride_bits", "entry_size", "trimmed", "entries"),
)
_values = attrgetter(*_FIELDS)


class FrameTable:
    """The byte ranges of the frames of one instance.

    Native frames need no entries: frame i is the `frame_bits` bits from bit i * `stride_bits` on,
    counted from `value_offset`. Encapsulated ones have little-endian `entries` of `entry_size`
    bytes each, in this order:

    * of Layout.TRUSTED, for every frame the offset of its first item from `value_offset`, and after
      the last one the offset at which its last item ends; the items are not known, nor counted;
    * of Layout.FRAGMENTS, for every located frame its first fragment's number, and after
      the last one the number of fragments that are claimed by frames;
    * but for Layout.TRUSTED, for every item its offset from `value_offset`, and after the last one
      the offset at which it ends: items follow each other without gaps;
    * where `trimmed`, one bit a located frame (bit i % 8 of byte i // 8): its last byte is the
      padding that the Extended Offset Table Lengths leave out (PS3.3 C.7.6.3.1.8).

    Attributes
    ----------
    layout : Layout
        How the table says where frames lie.
    number_of_frames : int
        Frames that the instance has.
    frames_located : int
        Frames whose place is known. The others were lost with the end of the file.
    number_of_fragments : int
        Items after the Basic Offset Table; 0 in native pixel data and where they are not known.
    value_offset : int
        Offset of the first byte that frames or items are counted from, in bytes.
    frame_bits : int
        Length of a native frame, in bits; 0 for encapsulated pixel data.
    stride_bits : int
        Bits from the start of a native frame to the start of the next one: `frame_bits` unless
        frames are padded one by one, and unless given; 0 for encapsulated pixel data.
    """

    __slots__ = _fields = _FIELDS  # no dataclass: making one takes longer than a frame's read

    layout: Layout
    number_of_frames: int
    frames_located: int
    number_of_fragments: int
    value_offset: int
    frame_bits: int
    stride_bits: int
    entry_size: int
    trimmed: bool
    entries: Entries

    def __init__(
        self,
        layout: Layout,
        number_of_frames: int,
        frames_located: int,
        number_of_fragments: int,
        value_offset: int,
        frame_bits: int = 0,
        stride_bits: int = 0,
        entry_size: int = 4,
        trimmed: bool = False,
        entries: Entries = b"",
    ) -> None:
        keep = super().__setattr__
        keep("layout", layout)
        keep("number_of_frames", number_of_frames)
        keep("frames_located", frames_located)
        keep("number_of_fragments", number_of_fragments)
        keep("value_offset", value_offset)
        keep("frame_bits", frame_bits)
        keep("stride_bits", stride_bits or frame_bits)
        keep("entry_size", entry_size)
        keep("trimmed", trimmed)
        keep("entries", entries)
        self._check()

    def _check(self) -> None:
        if self.entry_size not in _PAIRS:
            raise ValueError(f"entry_size is 4 or 8, not {self.entry_size}")
        if (self.layout is Layout.NATIVE) != (self.frame_bits > 0):
            raise ValueError(f"{self.frame_bits} bits a frame in layout {self.layout.name}")
        if self.stride_bits < self.frame_bits or (self.stride_bits and not self.frame_bits):
            raise ValueError(f"frames of {self.frame_bits} bits, each {self.stride_bits} on")
        if not 0 <= self.frames_located <= self.number_of_frames:
            raise ValueError(f"{self.frames_located} of {self.number_of_frames} frames located")
        if self.value_offset + self.frames_located * self.stride_bits // 8 >= 1 << 62:
            raise ValueError(f"frames beyond 0x{self.value_offset:x}")
        expected = self.expected_entries_length()
        if len(self.entries) != expected:
            raise ValueError(f"expected {expected} bytes of entries, found {len(self.entries)}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a FrameTable stays as it is: {name} is not set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a FrameTable stays as it is: {name} is not deleted")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrameTable) and _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))

    def __repr__(self) -> str:
        values = zip(_FIELDS, _values(self), strict=True)
        return f"FrameTable({', '.join(f'{name}={value!r}' for name, value in values)})"

    def __reduce__(self) -> tuple[object, ...]:
        return FrameTable, _values(self)

    def _replace(self, **changes: Any) -> FrameTable:
        """Return a table with some fields changed, as `_replace` of a named tuple."""
        return FrameTable(**{**dict(zip(_FIELDS, _values(self), strict=True)), **changes})

    def expected_entries_length(self) -> int:
        """Return the length that `entries` must have, in bytes."""
        if self.layout is Layout.NATIVE:
            return 0
        count = self.number_of_fragments + 1
        if self.layout is Layout.TRUSTED:
            count = self.frames_located + 1
        elif self.layout is Layout.FRAGMENTS:
            count += self.frames_located + 1
        elif self.frames_located > self.number_of_fragments:
            raise ValueError("more frames than fragments")
        return count * self.entry_size + (self.frames_located + 7) // 8 * self.trimmed

    def check_index(self, frame_index: int) -> None:
        """Raise FrameIndexError or TruncatedFrameError where there is no such frame."""
        if not 0 <= frame_index < self.number_of_frames:
            raise FrameIndexError(
                f"frame index {frame_index} is out of range: the instance has "
                f"{self.number_of_frames} frames, 0 to {self.number_of_frames - 1}"
            )
        if frame_index >= self.frames_located:
            raise TruncatedFrameError(
                f"frame index {frame_index} is missing: the pixel data ends after "
                f"{self.frames_located} of {self.number_of_frames} frames"
            )

    def contiguous_range(self, frame_index: int) -> tuple[int, int] | None:
        """Return (offset, length) of a frame that is known to be one run of whole bytes, else None.

        Raises
        ------
        FrameIndexError, TruncatedFrameError, IndexFormatError
            There is no such frame, or the file ends before it; the entries are damaged.
        """
        frame_index = index(frame_index)  # a numpy integer could overflow
        if not 0 <= frame_index < self.frames_located:
            self.check_index(frame_index)
        if self.layout is _FRAGMENT_A_FRAME:
            size = self.entry_size
            at = frame_index * size
            start, end = _PAIRS[size].unpack(self.entries[at : at + size + size])
            length = end - start - 8  # ITEM_HEADER_LENGTH
            if self.trimmed:
                length -= self._is_trimmed(frame_index)
            if length < 0:
                raise _damaged(frame_index)
            return self.value_offset + start + 8, length
        if self.layout is Layout.NATIVE:
            start, length = frame_index * self.stride_bits, self.frame_bits
            if (start | length) & 7:
                return None
            return self.value_offset + (start >> 3), length >> 3
        if self.layout is Layout.TRUSTED:
            return None
        ranges = self.fragment_ranges(frame_index)
        return ranges[0] if len(ranges) == 1 else None

    def fragment_ranges(self, frame_index: int) -> tuple[ByteRange, ...]:
        """Return the byte ranges of a frame: one a fragment, one of a native frame.

        The range of a native frame that is not on byte boundaries covers its bits:
        its first bit is in the first byte, its last one in the last byte (PS3.5 8.2).

        Raises
        ------
        FrameIndexError, TruncatedFrameError, IndexFormatError
            There is no such frame, or the file ends before it; the entries are damaged.
        """
        frame_index = index(frame_index)
        self.check_index(frame_index)
        if self.layout is Layout.TRUSTED:
            raise NotAddressableError("the fragments of the frame are known once it is read")
        if self.layout is Layout.NATIVE:
            first_bit = frame_index * self.stride_bits
            start, end = first_bit // 8, (first_bit + self.frame_bits + 7) // 8
            return (ByteRange(self.value_offset + start, end - start),)
        size = self.entry_size
        first, last = frame_index, frame_index + 1
        items_at = 0
        if self.layout is Layout.FRAGMENTS:
            at = frame_index * size
            first, last = _PAIRS[size].unpack(self.entries[at : at + 2 * size])
            items_at = (self.frames_located + 1) * size
        packed = self.entries[items_at + first * size : items_at + (last + 1) * size]
        if not first < last or len(packed) != (last - first + 1) * size:
            raise _damaged(frame_index)
        starts = struct.unpack(f"<{last - first + 1}{'I' if size == 4 else 'Q'}", packed)
        header = ITEM_HEADER_LENGTH
        ranges = [
            ByteRange(self.value_offset + start + header, end - start - header)
            for start, end in pairwise(starts)
        ]
        if min(ranges, key=itemgetter(1)).length < 0:
            raise _damaged(frame_index)
        return self.without_padding(frame_index, ranges)

    def without_padding(self, frame_index: int, ranges: list[ByteRange]) -> tuple[ByteRange, ...]:
        """Return a frame's fragments without the padding byte that its table leaves out."""
        if self.trimmed and self._is_trimmed(frame_index):
            owner = max((at for at, piece in enumerate(ranges) if piece.length), default=None)
            if owner is None:
                raise _damaged(frame_index)
            ranges[owner] = ByteRange(ranges[owner].offset, ranges[owner].length - 1)
        return tuple(ranges)

    def span(self, frame_index: int) -> ByteRange:
        """Return where the items of a frame of Layout.TRUSTED are, headers included.

        Raises
        ------
        FrameIndexError, TruncatedFrameError, IndexFormatError
            As `fragment_ranges`.
        """
        frame_index = index(frame_index)
        if not 0 <= frame_index < self.frames_located:
            self.check_index(frame_index)
        at = frame_index * self.entry_size
        start, end = _PAIRS[self.entry_size].unpack(self.entries[at : at + 2 * self.entry_size])
        if end < start:
            raise _damaged(frame_index)
        return ByteRange(self.value_offset + start, end - start)

    @property
    def items_end(self) -> int:
        """The end of the last located frame of Layout.TRUSTED."""
        at = self.frames_located * self.entry_size
        end = int.from_bytes(self.entries[at : at + self.entry_size], "little")
        return self.value_offset + end

    def all_fragment_ranges(self) -> Iterator[ByteRange]:
        """Yield the byte range of every fragment, whatever frame it belongs to."""
        size, header = self.entry_size, ITEM_HEADER_LENGTH
        items_at = (self.frames_located + 1) * size if self.layout is Layout.FRAGMENTS else 0
        for fragment in range(self.number_of_fragments):
            at = items_at + fragment * size
            start, end = _PAIRS[size].unpack(self.entries[at : at + 2 * size])
            if end - start < header:
                raise IndexFormatError("damaged record: fragments overlap; rebuild the index")
            yield ByteRange(self.value_offset + start + header, end - start - header)

    def _is_trimmed(self, frame_index: int) -> int:
        frame_index = index(frame_index)  # numpy 1 makes a float of uint64 and int
        at = len(self.entries) - (self.frames_located + 7) // 8 + frame_index // 8
        return self.entries[at : at + 1][0] >> (frame_index % 8) & 1


def _damaged(frame_index: int) -> IndexFormatError:
    return IndexFormatError(
        f"damaged record: the entries of frame index {frame_index} are no ranges; rebuild the index"
    )
