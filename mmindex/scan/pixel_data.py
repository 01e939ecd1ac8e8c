"""The pixel data element: fragments, native frames, or the one where the other is expected.

The shape of the element decides, before its transfer syntax does (PS3.5 8, A.4): an undefined
length means fragments, an item's tag or a codec's start marker say what a value is, and so does a
length that is exactly that of the native frames. Each such mismatch is an anomaly.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mmindex.errors import AmbiguousFramesError, FormatError
from mmindex.frame_table import ITEM_HEADER_LENGTH, FrameTable, Layout
from mmindex.model import Anomaly, Boundaries, ImagePixel
from mmindex.scan import tags
from mmindex.scan.element import Element
from mmindex.scan.encapsulated_value import PixelDataValue, find_extended_offset_table
from mmindex.scan.encoding import UNDEFINED_LENGTH
from mmindex.scan.frame_count import FrameCount
from mmindex.scan.header import Header
from mmindex.scan.native import (
    find_wrapped_lengths,
    is_native_length,
    scan_native,
    scan_plain,
)
from mmindex.scan.one_fragment import scan_one_fragment
from mmindex.scan.transfer_syntax import RLE_LOSSLESS, Codec


class PixelData(NamedTuple):
    """The frames that a scan found: their table, its source and their number."""

    frames: FrameTable
    boundaries: Boundaries
    number_of_frames: int


def scan_pixel_data(
    header: Header, element: Element, image: ImagePixel, *, prove: bool = True
) -> PixelData:
    """Return where the frames of a pixel data element lie, noting anomalies in the header.

    Parameters
    ----------
    prove : bool
        Look at every entry of an offset table, not only at some.

    Raises
    ------
    FormatError
        The pixel data is broken; AmbiguousFramesError where several readings of its frames fit.
    """
    count = _read_number_of_frames(header)
    if element.length == UNDEFINED_LENGTH:
        if header.transfer_syntax.codec is Codec.NATIVE:
            header.anomalies.append(Anomaly("encapsulated-under-native", element.element_offset))
            within = _find_native_in_fragment(header, element, image, count)
            if within is not None:
                return _scan_native(header, within, image, count)
        return _scan_items(header, element, count, prove=prove)
    if not header.transfer_syntax.encapsulated:
        available = len(header.buffer) - element.value_offset
        plain = scan_plain(element, available, image, count.number or 1)
        if plain is not None:
            return PixelData(plain, Boundaries.NATIVE, plain.number_of_frames)
    found = bytes(header.buffer[element.value_offset : element.value_offset + 4])
    begins_with_item = found == header.encoding.length.pack(header.encoding.item)
    if not header.transfer_syntax.encapsulated:
        if not begins_with_item or is_native_length(image, element.length, count.number or 1):
            return _scan_native(header, element, image, count)
        header.anomalies.append(Anomaly("encapsulated-under-native", element.element_offset))
    if begins_with_item and element.length >= ITEM_HEADER_LENGTH:
        header.anomalies.append(Anomaly("defined-length-encapsulated", element.element_offset))
        return _scan_items(header, element, count, prove=prove)
    return _scan_bare_value(header, element, image, count)


def _scan_native(
    header: Header, element: Element, image: ImagePixel, count: FrameCount
) -> PixelData:
    number = count.number or 1
    element = _unwrap_length(header, element, image, number)
    if not count.is_clean and not is_native_length(image, element.length, number):
        number = 1
    available = min(element.length, len(header.buffer) - element.value_offset)
    frames = scan_native(element, available, image, number, header.anomalies)
    return PixelData(frames, Boundaries.NATIVE, number)


def _unwrap_length(
    header: Header, element: Element, image: ImagePixel, number_of_frames: int
) -> Element:
    """Return the element with the length that its frames have, where 32 bits could not hold it.

    The file has to end where the frames do, or to go on with an element there.
    """
    size = len(header.buffer)
    for length in find_wrapped_lengths(image, element.length, number_of_frames):
        end = element.value_offset + length
        if end == size or _begins_element(header, end, element.tag):
            header.anomalies.append(Anomaly("length-wrapped", element.element_offset))
            return element._replace(length=length)
    return element


def _begins_element(header: Header, position: int, after: int) -> bool:
    """Return whether an element stands at `position` that may follow one whose tag is `after`."""
    encoding, size = header.encoding, len(header.buffer)
    if position + 12 > size:
        return False
    raw_tag, raw_vr, length = encoding.header.unpack_from(header.buffer, position)
    if encoding.tag_of(raw_tag) <= after:
        return False
    value_offset = position + 8
    if encoding.implicit:
        (length,) = encoding.length.unpack_from(header.buffer, position + 4)
    elif raw_vr not in encoding.vr_names:
        return False
    elif raw_vr not in encoding.short_vrs:
        value_offset += 4
        (length,) = encoding.length.unpack_from(header.buffer, position + 8)
    return bool(length == UNDEFINED_LENGTH or value_offset + length <= size)


def _find_native_in_fragment(
    header: Header, element: Element, image: ImagePixel, count: FrameCount
) -> Element | None:
    """Return the only fragment as if it were the element's value, if it is exactly the frames."""
    buffer, encoding = header.buffer, header.encoding
    position = element.value_offset
    lengths: list[int] = []
    unpack = struct.Struct(encoding.byte_order + "HHI").unpack_from
    while position + ITEM_HEADER_LENGTH <= len(buffer) and len(lengths) < 3:
        group, number, length = unpack(buffer, position)
        tag = group << 16 | number
        if tag == tags.SEQUENCE_DELIMITATION:
            break
        if tag != tags.ITEM or length > len(buffer) - position - ITEM_HEADER_LENGTH:
            return None
        lengths.append(length)
        position += ITEM_HEADER_LENGTH + length
    if len(lengths) != 2 or not is_native_length(image, lengths[1], count.number or 1):
        return None
    if position == len(buffer):
        header.anomalies.append(Anomaly("missing-sequence-delimiter", position))
    elif position + ITEM_HEADER_LENGTH > len(buffer):
        return None
    value_offset = position - lengths[1]
    header.anomalies.append(Anomaly("native-in-fragment", value_offset - ITEM_HEADER_LENGTH))
    return element._replace(value_offset=value_offset, length=lengths[1])


def _scan_bare_value(
    header: Header, element: Element, image: ImagePixel, count: FrameCount
) -> PixelData:
    """Find the frames of a value without items, where the transfer syntax asks for fragments.

    Raises
    ------
    FormatError
        The value is neither one codestream nor exactly the native frames; AmbiguousFramesError
        where it may be both.
    """
    codec, number = header.transfer_syntax.codec, count.number or 1
    end = element.value_offset + element.length
    begins = bytes(header.buffer[element.value_offset : min(end, element.value_offset + 64)])
    has_marker = _has_start_marker(header, begins)
    is_native = codec is not Codec.VIDEO and is_native_length(image, element.length, number)
    if is_native and not has_marker:
        header.anomalies.append(Anomaly("native-under-encapsulated", element.element_offset))
        return _scan_native(header, element, image, count)
    if is_native:
        raise AmbiguousFramesError(
            f"a value of {element.length} bytes under {header.transfer_syntax.name} begins like a "
            "codestream, and is exactly as long as native frames",
            offset=element.element_offset,
        )
    if not has_marker or (number > 1 and codec is not Codec.VIDEO):
        raise FormatError(
            f"expected fragments under {header.transfer_syntax.name}, found a value of "
            f"{element.length} bytes that begins with {begins[:4].hex() or 'nothing'}",
            offset=element.element_offset,
        )
    header.anomalies.append(Anomaly("bare-codestream", element.element_offset))
    length, located = element.length, 1
    available = len(header.buffer) - element.value_offset
    if length > available:
        header.anomalies.append(Anomaly("truncated-fragment", element.value_offset))
        length, located = available, int(codec is Codec.VIDEO)
    frames = FrameTable(
        layout=Layout.FRAGMENT_A_FRAME,
        number_of_frames=1,
        frames_located=located,
        number_of_fragments=1,
        value_offset=element.value_offset - ITEM_HEADER_LENGTH,  # of an item
        entry_size=8,
        entries=struct.pack("<QQ", 0, ITEM_HEADER_LENGTH + length),
    )
    return PixelData(frames, Boundaries.ONE_FRAGMENT_A_FRAME, number)


def _has_start_marker(header: Header, begins: bytes) -> bool:
    """Return whether a frame of the transfer syntax begins so: marker, or header of RLE (G.5)."""
    if header.transfer_syntax.uid == RLE_LOSSLESS and len(begins) == 64:
        segments, first = struct.unpack_from("<2I", begins)
        return bool(1 <= segments <= 15 and first == 64)
    markers = header.transfer_syntax.codec.start_markers
    return begins.startswith(markers)


def _scan_items(header: Header, element: Element, count: FrameCount, *, prove: bool) -> PixelData:
    size, codec = len(header.buffer), header.transfer_syntax.codec
    undefined = element.length == UNDEFINED_LENGTH
    is_one = count.is_clean and (count.number is None or count.number == 1)
    has_table = tags.EXTENDED_OFFSET_TABLE in header.data_set.elements
    if undefined and is_one and not has_table and codec is not Codec.VIDEO:
        plain = scan_one_fragment(header.buffer, element.value_offset, header.encoding)
        if plain is not None:
            return PixelData(*plain, 1)
    from mmindex.scan.encapsulated import scan_encapsulated  # needs numpy

    end = size if undefined else min(size, element.value_offset + element.length)
    frames, boundaries = scan_encapsulated(
        PixelDataValue(
            header.buffer,
            element.value_offset,
            end,
            not undefined and end == element.value_offset + element.length,
            header.encoding.byte_order,
        ),
        codec,
        count,
        find_extended_offset_table(header.data_set),
        header.anomalies,
        prove=prove,
    )
    if codec is Codec.VIDEO:
        return PixelData(frames, boundaries, count.number or 1)
    number = frames.number_of_frames
    if number > 1 and tags.NUMBER_OF_FRAMES not in header.data_set.elements:
        header.anomalies.append(Anomaly("number-of-frames", element.element_offset))
    return PixelData(frames, boundaries, number)


def _read_number_of_frames(header: Header) -> FrameCount:
    """Return (0028,0008), noting one that is no clean number (PS3.5 6.2, IS)."""
    count = header.number_of_frames()
    if not count.is_clean:
        offset = header.data_set.elements[tags.NUMBER_OF_FRAMES].element_offset
        header.anomalies.append(Anomaly("number-of-frames", offset))
    return count
