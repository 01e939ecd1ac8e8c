"""Place: where a frame lies, and how its bytes become the frame (PS3.5 7.3, 8.2, A.4).

All that reads a frame finds its place first: one run of bytes, several fragments, bits off byte
boundaries, swapped words, or the items of a trusted offset table, whose headers are parsed when
they are read. A place holds no bytes and knows no file.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from operator import index
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from mmindex.errors import FormatError
from mmindex.frame_table import ByteRange, FrameTable, Layout
from mmindex.model import Boundaries, InstanceRecord
from mmindex.sources.base import ByteSource

if TYPE_CHECKING:
    from mmindex.scan.transfer_syntax import Codec

_FRAGMENTS, _TRUSTED = Layout.FRAGMENTS, Layout.TRUSTED
_unpack_item, _ITEM_TAG = Struct("<II").unpack_from, 0xE000_FFFE
_NEXT_HEAD = 64  # bytes of the next frame of a trusted table that show how it begins


class BitRun(NamedTuple):
    """The bits of a native frame within the bytes that are read for it.

    Attributes
    ----------
    swapped : bool
        Whether these bytes are words whose two bytes change places first.
    first, number : int
        The frame's first bit, counted from the least significant one of the first byte, and how
        many bits the frame has.
    """

    swapped: bool
    first: int
    number: int

    def extract(self, data: bytes) -> bytes:
        """Return the bits, moved to begin at bit 0 of the first byte; zeros follow the last."""
        if self.swapped:
            words = bytearray(data)
            words[0::2], words[1::2] = data[1::2], data[0::2]
            data = bytes(words)
        if not (self.first | self.number) & 7:
            return data[self.first >> 3 : self.first + self.number >> 3]
        bits = int.from_bytes(data, "little") >> self.first
        return (bits & (1 << self.number) - 1).to_bytes((self.number + 7) // 8, "little")


class Place(NamedTuple):
    """The place of a frame, and the way from its bytes to the frame.

    Attributes
    ----------
    offset, length : int
        The bytes to read: from the frame's first byte to its last, or the words that hold them;
        of a trusted table, the items and the beginning of what follows.
    ranges : tuple of ByteRange
        The frame's fragments, one of a native frame; empty where only the items' headers say.
    bits : BitRun or None
        Of a native frame that is no run of bytes as they are stored.
    parse : callable or None
        Returns the fragments out of the bytes read, where only the items' headers say.
    """

    offset: int
    length: int
    ranges: tuple[ByteRange, ...] = ()
    bits: BitRun | None = None
    parse: Callable[[bytes], tuple[ByteRange, ...]] | None = None

    def join(self, data: bytes) -> bytes:
        """Return the frame out of the bytes that were read.

        Raises
        ------
        FormatError
            The entry of a trusted offset table is wrong.
        """
        if self.bits is not None:
            return self.bits.extract(data)
        ranges = self.ranges if self.parse is None else self.parse(data)
        if len(ranges) == 1 and ranges[0].length == len(data):
            return data
        start = self.offset
        return b"".join(
            [data[offset - start : offset - start + length] for offset, length in ranges]
        )

    def read(self, source: ByteSource) -> bytes:
        """Return the frame; raises what `join` and `ByteSource.read` raise."""
        if len(self.ranges) > 1:
            return source.read_joined(self.ranges)
        return self.join(source.read(self.offset, self.length))

    def hold(self, source: ByteSource) -> ByteSource:
        """Return a source that holds the items of a trusted table, where each read is a request."""
        if self.parse is None or source.at_once == 1:
            return source
        from mmindex.sources.held import HeldSource  # of stores alone

        return HeldSource(source, [(self.offset, self.length)])

    def find_contiguous(self, source: ByteSource) -> ByteRange | None:
        """Return the one run of bytes that is the frame as `join` returns it, None without one."""
        ranges = self.find_ranges(source) if self.bits is None else ()
        return ranges[0] if len(ranges) == 1 else None

    def find_ranges(self, source: ByteSource) -> tuple[ByteRange, ...]:
        """Return the frame's fragments; reads the items' headers where nothing else says."""
        if self.parse is None:
            return self.ranges
        return self.parse(source.read(self.offset, self.length))


def find_place(
    record: InstanceRecord, table: FrameTable, frame_index: int, *, in_order: bool = False
) -> Place:
    """Return where a frame lies.

    Parameters
    ----------
    in_order : bool
        Put swapped bytes in the order of the pixels (OW in Big Endian), as decoding needs; else a
        native frame of whole bytes stays as it is stored.

    Raises
    ------
    FrameIndexError, TruncatedFrameError, IndexFormatError
        There is no such frame, or the file ends before it; the entries are damaged.
    """
    if table.layout is _TRUSTED:
        span = table.span(frame_index)
        length = span.length + _count_following(table, span)
        parse = partial(_parse_items, record, table, frame_index, span)
        return Place(span.offset, length, parse=parse)
    ranges = table.fragment_ranges(frame_index)
    offset, length = ranges[0]
    if len(ranges) > 1:
        last = ranges[-1]
        return Place(offset, last.offset + last.length - offset, ranges)
    count, first = table.frame_bits, index(frame_index) * table.stride_bits
    if not count or not ((first | count) & 7 or (in_order and record.swaps_pairs)):
        return Place(offset, length, ranges)
    if not record.swaps_pairs:
        return Place(offset, length, ranges, BitRun(False, first & 7, count))
    before = (offset - table.value_offset) % 2  # the whole words that cover the frame are read
    length += before
    bits = BitRun(True, (first & 7) + 8 * before, count)
    return Place(offset - before, length + length % 2, ranges, bits)


def read_trusted(
    record: InstanceRecord, table: FrameTable, source: ByteSource, frame_index: int
) -> bytes:
    """Return a frame of a trusted table; raises what `Place.read` raises."""
    span = table.span(frame_index)
    start, length = span
    data = source.read(start, length + _count_following(table, span))
    codec = _find_codec(record.transfer_syntax_uid)
    if not (table.trimmed or record.big_endian) and _is_one_item(data, length, codec):
        return data[8:length]
    ranges = _parse_items(record, table, frame_index, span, data)
    return Place(start, len(data), ranges).join(data)


def walk_fragments(
    record: InstanceRecord, table: FrameTable, source: ByteSource
) -> Iterator[ByteRange]:
    """Yield where every fragment is, padding included; raises what `Place.find_ranges` raises."""
    if table.layout is not _TRUSTED:
        yield from table.all_fragment_ranges()
        return
    for frame_index in range(table.frames_located):
        yield from find_items(record, table, source, frame_index)


def find_items(
    record: InstanceRecord, table: FrameTable, source: ByteSource, frame_index: int
) -> list[ByteRange]:
    """Return where the items of a frame of a trusted table are, padding included."""
    span = table.span(frame_index)
    data = source.read(span.offset, span.length + _count_following(table, span))
    return _parse_span(record, frame_index, span, data)


def _count_following(table: FrameTable, span: ByteRange) -> int:
    """Return how many bytes after a frame of a trusted table show how the next one begins.

    Without a look at the next, an entry that leads into a frame would cut that frame short.
    """
    behind = table.items_end - span.offset - span.length
    return _NEXT_HEAD if behind > _NEXT_HEAD else max(behind, 0)


def _parse_items(
    record: InstanceRecord, table: FrameTable, frame_index: int, span: ByteRange, data: bytes
) -> tuple[ByteRange, ...]:
    """Return the fragments of a frame of a trusted table without the padding byte."""
    return table.without_padding(frame_index, _parse_span(record, frame_index, span, data))


@lru_cache(maxsize=64)
def _find_codec(transfer_syntax_uid: str) -> "Codec":
    from mmindex.scan.transfer_syntax import find_transfer_syntax  # of trusted tables alone

    return find_transfer_syntax(transfer_syntax_uid).codec


def _is_one_item(data: bytes, length: int, codec: "Codec") -> bool:
    """Return whether a frame is one item with a start marker, and the next frame has one, too.

    Most frames are; `parse_frame` looks at the others, and takes several times as long.
    """
    markers, total = codec.start_markers, len(data)
    if not markers or not 8 < length <= total:
        return False
    tag, size = _unpack_item(data)
    if tag != _ITEM_TAG or size != length - 8 or not data.startswith(markers, 8, length):
        return False
    if total == length:  # nothing is behind the last frame
        return True
    if total < length + 8:
        return False
    tag, size = _unpack_item(data, length)
    return tag == _ITEM_TAG and data.startswith(markers, length + 8, length + 8 + size)


def _parse_span(
    record: InstanceRecord, frame_index: int, span: ByteRange, data: bytes
) -> list[ByteRange]:
    """Return the fragments of a frame of a trusted table, with whose items `data` begins."""
    start, length = span
    codec = _find_codec(record.transfer_syntax_uid)
    if _is_one_item(data, length, codec) and not record.big_endian:
        return [ByteRange(start + 8, length - 8)]
    from mmindex.scan.transfer_syntax import Codec
    from mmindex.scan.trusted_tables import parse_frame  # needs numpy

    one = record.boundaries is Boundaries.EXTENDED_OFFSET_TABLE or codec is Codec.ONE_FRAGMENT
    order = ">" if record.big_endian else "<"
    ranges = parse_frame(data, start, length, order, codec, one_fragment=one)
    if ranges is None:
        raise FormatError(
            f"the offset table's entry of frame index {frame_index} is wrong: open the file "
            "with prove=True, or build its index with full=True, prove=True",
            offset=start,
        )
    return ranges
