"""The place of a frame, from the fixed part of a packed record and its path alone.

The common case in half the time that a whole record takes: a frame that is one run of bytes. What
decodes it and gives it units is found by the same record, in a part of the time.
"""

import struct
from functools import lru_cache
from operator import index
from typing import NamedTuple

from mmindex.errors import IndexFormatError
from mmindex.frame_table import ITEM_HEADER_LENGTH, Layout
from mmindex.index.record import MOST_FRAMES, make_image_pixel
from mmindex.index.record_parts import (
    APART,
    BIG_ENDIAN,
    FLAGS_AT,
    HAS_VERSION,
    IMAGE_PIXEL,
    IN_CONTAINER,
    PLACE,
    STATUS_NUMBERS,
    TRIMMED,
    WIDE_ENTRIES,
    check_path,
    unpack_path,
    unpack_rescale,
    unpack_texts,
)
from mmindex.model import Fingerprint, ImagePixel, Status

# Numbers, since to look up a member of an enumeration takes as long as to read a header.
_INDEXED = STATUS_NUMBERS[Status.INDEXED]
_NATIVE, _FRAGMENT_A_FRAME = Layout.NATIVE.value, Layout.FRAGMENT_A_FRAME.value
_EASY_FLAGS = HAS_VERSION | APART | TRIMMED  # with which two entries are a frame's place
_TEXTS = 10
_PAIRS = struct.Struct("<II"), struct.Struct("<QQ")  # of entries, by the flag of wide ones


class FrameLocation(NamedTuple):
    """The place of a frame that is one run of bytes in a file: path, version, offset and length."""

    path: bytes
    version: Fingerprint
    offset: int
    length: int


class StoredPixels(NamedTuple):
    """The place of a frame, and what its pixels need to be decoded.

    Attributes
    ----------
    frame_bits : int
        Bits of a native frame; 0 of an encapsulated one.
    rescale : (float, float) or None
        Slope and intercept; None where the header has to be read for them.
    """

    location: FrameLocation
    image: ImagePixel
    transfer_syntax_uid: str
    frame_bits: int
    rescale: tuple[float, float] | None


def find_pixels(
    packed: bytes | memoryview, sop_instance_uid: bytes, frame_index: int
) -> StoredPixels | None:
    """Return where a frame lies and what decodes it; None and errors as `find_location`.

    None of native pixels in Big Endian, too.
    """
    packed = bytes(packed)  # whose slices take half the time of a view's
    try:
        run = _find_run(packed, frame_index)
        if run is None:
            return None
        version, offset, length, frame_bits = run
        flags = packed[FLAGS_AT]
        if flags & BIG_ENDIAN and frame_bits:
            return None
        texts, position = unpack_texts(packed, _TEXTS)
        path, syntax, _, uid, *_, photometric, _, _ = texts
        _check(path, uid, sop_instance_uid)
        rescale = None
        if not flags & IN_CONTAINER:
            rescale = unpack_rescale(packed, position)
        image, syntax_uid = _make_kind(packed[IMAGE_PIXEL], photometric, syntax)
    except (struct.error, ValueError, IndexError) as error:
        raise IndexFormatError(f"damaged record: {error}; rebuild the index") from error
    location = FrameLocation(path, version, offset, length)
    return StoredPixels(location, image, syntax_uid, frame_bits, rescale)


@lru_cache(1000)  # which the images of a series share
def _make_kind(packed: bytes, photometric: bytes, syntax: bytes) -> tuple[ImagePixel, str]:
    """Return what of a record is the same for many: the attributes, and the transfer syntax."""
    return make_image_pixel(packed, photometric.decode("latin-1")), syntax.decode("latin-1")


def find_location(
    packed: bytes | memoryview, sop_instance_uid: bytes, frame_index: int
) -> FrameLocation | None:
    """Return where a frame lies, from the parts of a record that this takes.

    None where the record does not say, or where more than a read of one range makes the frame: the
    whole record tells then, or raises.

    Raises
    ------
    IndexFormatError
        The bytes are no record of a file with this SOP Instance UID.
    """
    try:
        run = _find_run(packed, frame_index)
        if run is None:
            return None
        version, offset, length, _ = run
        path, uid = unpack_path(packed)
        _check(path, uid, sop_instance_uid)
    except (struct.error, ValueError, IndexError) as error:
        raise IndexFormatError(f"damaged record: {error}; rebuild the index") from error
    return FrameLocation(path, version, offset, length)


def _find_run(
    packed: bytes | memoryview, frame_index: int
) -> tuple[Fingerprint, int, int, int] | None:
    """Return a file's version, offset and length of a frame in it, and bits of a native frame."""
    header = PLACE.unpack_from(packed)
    status, _, layout, flags, entries_at, kind, size, time_ns, inode, *rest = header
    if status != _INDEXED or flags & _EASY_FLAGS != HAS_VERSION:
        return None
    count, frames, located, _, value_offset, frame_bits, stride_bits = rest
    if not 0 <= frame_index < located <= frames <= MOST_FRAMES or count > MOST_FRAMES:
        return None
    if layout == _NATIVE:
        start = index(frame_index) * stride_bits
        if (start | frame_bits) & 7:
            return None
        offset, length = value_offset + (start >> 3), frame_bits >> 3
    elif layout == _FRAGMENT_A_FRAME:
        entries = _PAIRS[flags & WIDE_ENTRIES]
        at = entries_at + index(frame_index) * entries.size // 2
        start, end = entries.unpack_from(packed, at)
        offset, length = value_offset + start + ITEM_HEADER_LENGTH, end - start - ITEM_HEADER_LENGTH
    else:
        return None
    if length < 0 or offset + length > size:
        return None
    return Fingerprint(size, time_ns, inode, kind), offset, length, frame_bits


def _check(path: bytes, uid: bytes, expected: bytes) -> None:
    """Raise ValueError for a record of another instance, or a path out of the archive."""
    if uid != expected:
        raise ValueError(f"expected SOP Instance UID {expected!r}, found {uid!r}")
    check_path(path)
