"""Native frames that are no run of whole bytes in the right order (PS3.5 7.3, 8.2)."""

from __future__ import annotations

from operator import index

from mmindex.model import ByteRange, FrameTable, InstanceRecord


def swaps_pairs(record: InstanceRecord) -> bool:
    """Return whether samples below 16 bits are stored swapped in pairs: OW in Big Endian."""
    image = record.image_pixel
    return record.big_endian and image.pixel_vr == "OW" and (image.bits_allocated or 0) <= 8


def cover_words(table: FrameTable, frame_index: int) -> ByteRange:
    """Return the whole 16-bit words that cover a frame."""
    (covering,) = table.fragment_ranges(frame_index)
    before = (covering.offset - table.value_offset) % 2
    length = covering.length + before
    return ByteRange(covering.offset - before, length + length % 2)


def unswap(words: bytes, table: FrameTable, frame_index: int) -> bytes:
    """Return the bytes that cover a frame, of the words that do, in the right order."""
    (covering,) = table.fragment_ranges(frame_index)
    before = (covering.offset - table.value_offset) % 2
    unswapped = bytearray(words)
    unswapped[0::2], unswapped[1::2] = words[1::2], words[0::2]
    return bytes(unswapped[before : before + covering.length])


def shift_bits(covering: bytes, table: FrameTable, frame_index: int) -> bytes:
    """Return a frame's bits, moved to begin at bit 0 of the first byte; zeros follow the last."""
    bits = table.frame_bits
    number = int.from_bytes(covering, "little") >> index(frame_index) * bits % 8
    return (number & (1 << bits) - 1).to_bytes((bits + 7) // 8, "little")
