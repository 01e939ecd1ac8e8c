"""Native frames that are no run of whole bytes in the right order (PS3.5 7.3, 8.2)."""

from __future__ import annotations

from mmindex.model import FrameTable, InstanceRecord
from mmindex.read.source import Source
from mmindex.scan.transfer_syntax import find_transfer_syntax


def swaps_pairs(record: InstanceRecord) -> bool:
    """Return whether samples below 16 bits are stored swapped in pairs: OW in Big Endian."""
    image = record.image_pixel
    syntax = find_transfer_syntax(record.transfer_syntax_uid)
    return syntax.big_endian and image.pixel_vr == "OW" and (image.bits_allocated or 0) <= 8


def read_unswapped(source: Source, table: FrameTable, frame_index: int) -> bytes:
    """Return the bytes that cover a frame, whose words are stored swapped, in the right order."""
    (covering,) = table.fragment_ranges(frame_index)
    start = covering.offset - (covering.offset - table.value_offset) % 2
    end = covering.offset + covering.length
    end += (end - table.value_offset) % 2
    words = bytearray(source.read(start, end - start))
    words[0::2], words[1::2] = words[1::2], words[0::2]
    return bytes(words[covering.offset - start : covering.offset - start + covering.length])


def read_bits(source: Source, table: FrameTable, frame_index: int) -> bytes:
    """Return a frame's bits, moved to begin at bit 0 of the first byte; zeros follow the last."""
    (covering,) = table.fragment_ranges(frame_index)
    return _shift(source.read(*covering), table.frame_bits, frame_index)


def read_swapped_bits(source: Source, table: FrameTable, frame_index: int) -> bytes:
    """Return a frame's bits, whose words are stored swapped, moved to begin at bit 0."""
    return _shift(read_unswapped(source, table, frame_index), table.frame_bits, frame_index)


def _shift(covering: bytes, frame_bits: int, frame_index: int) -> bytes:
    number = int.from_bytes(covering, "little") >> frame_index * frame_bits % 8
    return (number & (1 << frame_bits) - 1).to_bytes((frame_bits + 7) // 8, "little")
